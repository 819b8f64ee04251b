"""The reading list: its order explained, its claims, due dates and history."""
