"""A durable queue of results: see `ResultQueue`, and `open_queue` for what stands behind it."""

from DurableText.program import first_signals

if first_signals.is_run("Queue"):  # what follows takes time
    first_signals.break_off_quietly()

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """Import the engine for text files once it is asked for: half of the scripts have no queue."""
    if name == "FileQueue":
        from Queue.text.file_queue import FileQueue

        return FileQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
