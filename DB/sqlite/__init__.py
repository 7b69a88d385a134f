"""The DB in an SQLite file: SQL on one host, without a server."""
