"""The DB in a text file."""
