"""What can go wrong with the queue; each message says what was tried, where, and what to do."""

from __future__ import annotations


class QueueError(Exception):
    """Base of all errors raised by the queue."""


class QueueClosedError(QueueError):
    """Raised when a queue is used after `close`, or in a child of the process that opened it."""


class QueueRecordError(QueueError):
    """Raised when a record cannot be stored; nothing of its `put` was written."""


class QueueFormatError(QueueError):
    """Raised when a file at the queue's place was not written by this version of the queue."""


class QueueFullError(QueueError):
    """Raised when the queue stayed at `max_bytes` for the whole timeout of a `put`."""


class QueueLockedError(QueueError):
    """Raised when another process kept the producers' lock for the whole timeout of a `put`."""


class QueueOrderError(QueueError):
    """Raised when batches are committed in another order than they were taken."""


class QueueStorageError(QueueError):
    """Raised when the operating system refused to read or to write.

    Attributes:
        appended: how many records of a failed `put`, counted from the first, are in the queue and
            durable all the same (a disk that filled up in the middle of a group).
    """

    def __init__(self, message: str, appended: int = 0) -> None:
        super().__init__(message)
        self.appended = appended
