"""A text queue as everybody looks at it who neither puts nor takes: without a lock."""

# ruff: noqa: ARG002 - what is refused is refused whatever the arguments
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from DurableText.files.links import real_path
from DurableText.progress import Advance, uncounted
from DurableText.storage import STORAGE
from Queue.errors import opened_to_look
from Queue.queue_interface import QueueBatch, QueueVerification, Record, ResultQueue
from Queue.text.copying import copy_queue
from Queue.text.report import TextStatus, status, verify
from Queue.text.segment import QueuePaths


class QueueReader(ResultQueue):
    """The queue in a text file, open to look at. The file may come later, and may go."""

    path: Path
    shared = False
    active = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the text file; nothing is opened yet."""
        self.path = real_path(path)
        self.name = str(self.path)

    def status(self) -> TextStatus:
        """See `ResultQueue.status`."""
        self._require_own_side_files()
        return status(self.path)

    def verify(self, advance: Advance = uncounted) -> QueueVerification:
        """See `ResultQueue.verify`."""
        self._require_own_side_files()
        return verify(self.path, advance)

    def check(self, timeout: float) -> None:
        """See `ResultQueue.check`."""
        self.status()

    def copy_to(self, folder: Path) -> None:
        """See `ResultQueue.copy_to`."""
        self._require_own_side_files()
        copy_queue(self.path, folder)

    def put(self, records: Sequence[Record], timeout: float | None = None) -> None:
        """Refuse: see `ResultQueue.put`."""
        raise opened_to_look(self.name)

    def take(self, max_records: int = 256, timeout: float | None = None) -> QueueBatch:
        """Refuse: see `ResultQueue.take`."""
        raise opened_to_look(self.name)

    def commit(self, batch: QueueBatch) -> None:
        """Refuse: see `ResultQueue.commit`."""
        raise opened_to_look(self.name)

    def flush(self) -> None:
        """Refuse: see `ResultQueue.flush`."""
        raise opened_to_look(self.name)

    def close(self) -> None:
        """Do nothing: whatever is read is opened for it."""

    def _require_own_side_files(self) -> None:
        QueuePaths.of(self.path).require_own(STORAGE)
