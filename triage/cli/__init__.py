"""The commands: thin, each in the module of its noun."""
