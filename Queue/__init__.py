"""A durable queue of results: see `ResultQueue`, and `open_queue` for what stands behind it."""

from DurableText.quarantine import CorruptLine
from Queue.errors import (
    QueueClosedError,
    QueueConfigurationError,
    QueueError,
    QueueFullError,
    QueueLockedError,
    QueueOrderError,
    QueuePassingError,
    QueueRecordError,
    QueueReplacedError,
    QueueUnavailableError,
)
from Queue.queue_factory import DEFAULT_PATH, VARIABLE, default_queue, open_queue
from Queue.queue_interface import (
    CorruptRecord,
    QueueBatch,
    QueueStatus,
    Record,
    ResultQueue,
    encode_record,
)
from Queue.state import state_stem
from Queue.text.file_queue import FileQueue

__all__ = [
    "DEFAULT_PATH",
    "VARIABLE",
    "CorruptLine",
    "CorruptRecord",
    "FileQueue",
    "QueueBatch",
    "QueueClosedError",
    "QueueConfigurationError",
    "QueueError",
    "QueueFullError",
    "QueueLockedError",
    "QueueOrderError",
    "QueuePassingError",
    "QueueRecordError",
    "QueueReplacedError",
    "QueueStatus",
    "QueueUnavailableError",
    "Record",
    "ResultQueue",
    "default_queue",
    "encode_record",
    "open_queue",
    "state_stem",
]
