"""A durable first-in, first-out queue in a text file: see `FileQueue`."""

from Queue.consumer import Batch
from Queue.errors import (
    QueueClosedError,
    QueueError,
    QueueFormatError,
    QueueFullError,
    QueueLockedError,
    QueueOrderError,
    QueueRecordError,
    QueueStorageError,
)
from Queue.file_queue import DEFAULT_PATH, FileQueue
from Queue.quarantine import CorruptLine

__all__ = [
    "DEFAULT_PATH",
    "Batch",
    "CorruptLine",
    "FileQueue",
    "QueueClosedError",
    "QueueError",
    "QueueFormatError",
    "QueueFullError",
    "QueueLockedError",
    "QueueOrderError",
    "QueueRecordError",
    "QueueStorageError",
]
