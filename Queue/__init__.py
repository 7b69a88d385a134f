"""A durable first-in, first-out queue in a text file: see `FileQueue`."""

from DurableText.quarantine import CorruptLine
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
from Queue.text.consumer import Batch
from Queue.text.file_queue import DEFAULT_PATH, FileQueue

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
