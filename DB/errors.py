"""What can go wrong with the DB; each message says what was tried, where, and what to do."""

from __future__ import annotations


class DatabaseError(Exception):
    """Base of all errors raised by the DB."""


class DatabaseClosedError(DatabaseError):
    """Raised when a DB is used after `close`, or in a child of the process that opened it."""


class DatabaseRecordError(DatabaseError):
    """Raised when a result cannot be stored; nothing of its `insert` was written.

    Attributes:
        index: which of the results it is, from 0; None where the engine does not tell.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class DatabaseConfigurationError(DatabaseError):
    """Raised when what `--db` names is no DB of this program, or cannot be one as it is set up."""


class DatabaseLockedError(DatabaseError):
    """Raised when another process holds the DB; the message names it."""


class DatabaseReplacedError(DatabaseError):
    """Raised when what stands at the DB's place is no longer what was opened.

    Nothing of the failed `insert` may be taken as stored: nobody would find it there.
    """


class DatabasePassingError(DatabaseError):
    """Raised for trouble that passes by itself. Inserting the same again is right."""


class DatabaseUnavailableError(DatabasePassingError):
    """Raised when the engine is away, or refused to read or to write for now.

    None of the results of the failed `insert` may be taken as stored. Inserting them again is
    right: those that did reach the disk are then reported as duplicates.
    """


def opened_to_read(name: str, number: int) -> DatabaseClosedError:
    """Return the error for a DB that was opened to read and is to store something."""
    return DatabaseClosedError(f"{name} was opened to read: {number} results are not stored")
