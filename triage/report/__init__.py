"""What goes back to the PACS: one small module for each kind of result object."""
