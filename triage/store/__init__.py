"""The database: tables, transactions, and one module of functions for each aggregate."""
