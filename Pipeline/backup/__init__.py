"""Copies all state of a pipeline that runs, and puts it back: see `copying` and `restoring`."""
