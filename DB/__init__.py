"""Results in a text file, each id once, durable: see `ResultDatabase`."""

from DB.errors import (
    DatabaseClosedError,
    DatabaseError,
    DatabaseFormatError,
    DatabaseLockedError,
    DatabaseRecordError,
    DatabaseStorageError,
)
from DB.text.database import DEFAULT_PATH, InsertOutcome, ResultDatabase

__all__ = [
    "DEFAULT_PATH",
    "DatabaseClosedError",
    "DatabaseError",
    "DatabaseFormatError",
    "DatabaseLockedError",
    "DatabaseRecordError",
    "DatabaseStorageError",
    "InsertOutcome",
    "ResultDatabase",
]
