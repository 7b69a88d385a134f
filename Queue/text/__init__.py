"""The queue in a text file."""
