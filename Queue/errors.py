"""What can go wrong with the queue; each message says what was tried, where, and what to do."""

from __future__ import annotations


class QueueError(Exception):
    """Base of all errors raised by the queue."""


class QueueClosedError(QueueError):
    """Raised when a queue is used after `close`, or in a child of the process that opened it.

    Also when it was opened to read, or a put of it was interrupted: then it is to be opened anew.
    """


class QueueRecordError(QueueError):
    """Raised when a record cannot be stored; nothing of its `put` was written."""


class QueueOrderError(QueueError):
    """Raised when batches are committed in another order than they were taken."""


class QueueConfigurationError(QueueError):
    """Raised when what `--queue` names is no queue of this program, or cannot be one as set up."""


class QueueReplacedError(QueueError):
    """Raised when what stands at the queue's place is no longer what was opened.

    Nothing of the failed `put` or `commit` may be taken as done.
    """


class QueuePassingError(QueueError):
    """Raised for trouble that passes by itself. Putting what was not appended again is right."""


class QueueFullError(QueuePassingError):
    """Raised when the queue stayed full for the whole timeout of a `put`; nothing was written."""


class QueueUnavailableError(QueuePassingError):
    """Raised when the engine is away, or refused to read or to write for now.

    Attributes:
        appended: how many records of a failed `put`, counted from the first, are in the queue and
            durable all the same (a disk that filled up in the middle of a group); None if nobody
            can know: then all are put again, and the DB drops repetitions.
    """

    def __init__(self, message: str, appended: int | None = 0) -> None:
        super().__init__(message)
        self.appended = appended


class QueueLockedError(QueueUnavailableError):
    """Raised when another process kept the producers' lock for the whole timeout of a `put`.

    It may be stopped, and nobody takes the lock from it. Nothing of the `put` was written.
    """


def opened_to_look(name: str) -> QueueClosedError:
    """Return the error for a queue that was opened to read and is to do something."""
    return QueueClosedError(f"{name} was opened to look at it, not to put or to take")
