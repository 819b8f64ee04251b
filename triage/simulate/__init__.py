"""A reading room on paper: what a policy would do to waiting times, before it is switched on."""
