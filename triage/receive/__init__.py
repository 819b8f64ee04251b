"""Everything that comes in: association, web and folder; kept safely before it is acknowledged."""
