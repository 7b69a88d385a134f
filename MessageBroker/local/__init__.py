"""The embedded broker: SQLite in a folder."""
