"""What can go wrong with the DB; each message says what was tried, where, and what to do."""

from __future__ import annotations


class DatabaseError(Exception):
    """Base of all errors raised by the DB."""


class DatabaseClosedError(DatabaseError):
    """Raised when a DB is used after `close`, or in a child of the process that opened it."""


class DatabaseLockedError(DatabaseError):
    """Raised when another process holds the DB; the message names it."""


class DatabaseRecordError(DatabaseError):
    """Raised when a result cannot be stored; nothing of its `insert` was written.

    Attributes:
        index: which of the results it is, from 0.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class DatabaseFormatError(DatabaseError):
    """Raised when the file at the DB's place was not written by this version of the DB."""


class DatabaseStorageError(DatabaseError):
    """Raised when the operating system refused to read or to write.

    None of the results of the failed `insert` may be taken as stored. Inserting them again is
    right: those that did reach the disk are then reported as duplicates.
    """
