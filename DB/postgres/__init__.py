"""The DB in PostgreSQL: several writers on several hosts."""
