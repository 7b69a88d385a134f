"""What can go wrong with the DB; each message says what was tried, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping


class DatabaseError(Exception):
    """Base of all errors raised by the DB."""


class DatabaseClosedError(DatabaseError):
    """Raised when a DB is used after `close`, or in a child of the process that opened it."""


class DatabaseRecordError(DatabaseError):
    """Raised when a result cannot be stored; nothing of its `insert` was written.

    Attributes:
        refused: the results that cannot be stored, by number from 0, each with what is wrong with
            it; empty where the engine does not tell which.
        index: the first of them; None where the engine does not tell.
    """

    def __init__(self, message: str, refused: Mapping[int, str] | None = None) -> None:
        """Name what was refused; see the class for the arguments."""
        super().__init__(message)
        self.refused = refused or {}

    @property
    def index(self) -> int | None:
        """The first that cannot be stored."""
        return min(self.refused, default=None)


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
