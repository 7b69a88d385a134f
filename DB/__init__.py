"""Results in a text file, each id once, durable: see `ResultDatabase`."""

from DB.database import DEFAULT_PATH, InsertOutcome, ResultDatabase
from DB.errors import (
    DatabaseClosedError,
    DatabaseError,
    DatabaseFormatError,
    DatabaseLockedError,
    DatabaseRecordError,
    DatabaseStorageError,
)

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
