"""`FileQueue`: a durable FIFO between processes, in a text file that a person can read.

What it promises (with `fsync="always"`):

* `put` returns once the records are on the disk. From then on each is handed out by `take`, in the
  order of the puts, again and again until it is committed. Kills and power losses change nothing.
* `take` hands out in strict order, to one active consumer. Others stand by, and one of them goes
  on where the committed records end as soon as the active one is gone.
* `commit` returns once the cursor is on the disk.
* A put that raised may have stored its records all the same (its message says so): delivery is at
  least once, and consumers tell by the records' own ids.

The format, its invariants and what each recovery is for stand at the head of `Queue.text`.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from DurableText.forks import Opener
from DurableText.storage import (
    STORAGE,
    Storage,
    make_durable_directory,
    real_path,
    refuse_what_is_no_file,
)
from Queue.errors import QueueClosedError, QueueError, QueueStorageError
from Queue.text.consumer import Batch, ConsumerSlot
from Queue.text.producer import Fsync, Producer
from Queue.text.segment import QueuePaths, sealed_of

DEFAULT_PATH = Path(__file__).resolve().parent.parent / "log.txt"

# 1 MiB, about 3,000 results: what a drained queue leaves on the disk. Sealing costs about a
# millisecond, a few per cent of the time it takes to fill a segment.
DEFAULT_SEGMENT_BYTES = 1 << 20

# 1 GiB, about three million results.
DEFAULT_MAX_BYTES = 1 << 30

# Seconds between two syncs with `fsync="interval"`: what a power loss can take.
DEFAULT_FSYNC_INTERVAL = 1.0


class FileQueue:
    """A queue in the text file `path`. Any number of threads and processes may use it at once."""

    def __init__(
        self,
        path: str | os.PathLike[str] = DEFAULT_PATH,
        *,
        fsync: Fsync = "always",
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        fsync_interval: float = DEFAULT_FSYNC_INTERVAL,
        storage: Storage = STORAGE,
    ) -> None:
        """Open the queue; make it if there is none.

        Args:
            path: the text file; side files lie beside it. Folders that are missing are made, links
                followed. Two queues in one folder have names that differ before the suffix.
            fsync: "always": `put` and `commit` return when the disk has it. "interval": the disk
                has it at most `fsync_interval` seconds later; a power loss takes what came in
                between, a kill takes nothing. "never": the system decides when.
            segment_bytes: size at which `log.txt` is sealed and a new one begins.
            max_bytes: disk that the log may take; `put` waits beyond it.
            fsync_interval: seconds, for `fsync="interval"`.
            storage: the layer for system calls; tests put faults there.

        Raises:
            QueueError: a wrong setting, or the name of a sealed segment (`log.7.txt`) or a cursor.
            QueueStorageError: the folder or its files cannot be written.
            QueueFormatError: the file is no log of this format.
        """
        if fsync not in ("always", "interval", "never"):
            raise QueueError(f"fsync is 'always', 'interval' or 'never', not {fsync!r}")
        if segment_bytes < 1 or max_bytes < 1 or fsync_interval <= 0:
            raise QueueError("segment_bytes, max_bytes and fsync_interval must be above zero")
        self.path = real_path(path)
        if (other := sealed_of(self.path)) is not None:
            raise QueueError(
                f"{self.path}: files of such a name are sealed segments of the queue {other}, "
                "which would read this one and remove it; give the queue another name"
            )
        self._paths = QueuePaths.of(self.path)
        if self.path == self._paths.cursor:
            raise QueueError(f"{self.path}: its cursor would have the same name; give it another")
        self._storage = storage
        self._sync_interval = {"always": 0.0, "interval": fsync_interval, "never": math.inf}[fsync]
        self._opener = Opener(f"{self.path}: this queue", QueueClosedError)
        self._closing = threading.Event()
        self._take_lock = threading.RLock()
        self._slot: ConsumerSlot | None = None
        with self._os_errors("open"):
            refuse_what_is_no_file(self.path)
            make_durable_directory(storage, self._paths.folder)
            self._producer = Producer(
                storage,
                self._paths,
                fsync,
                segment_bytes,
                max_bytes,
                fsync_interval,
                self._check_usable,
            )

    @property
    def active(self) -> bool:
        """Tell whether this one takes; else it stands by, or has not tried to take yet."""
        return self._slot is not None and self._slot.consumer is not None

    def put(self, records: Sequence[Mapping[str, Any]], timeout: float | None = None) -> None:
        """Append records; they are durable when it returns (see `fsync`).

        All of a put stand together, in order. Threads that put at the same time share one sync.

        Args:
            records: JSON objects; the names `seq` and `crc` belong to the queue.
            timeout: seconds to wait while the queue is full or another process holds the
                producers' lock; None waits without limit.

        Raises:
            QueueRecordError: one of them is not a JSON object, or too large; nothing is written.
            QueueFullError: the queue was at `max_bytes` all the time; nothing is written.
            QueueLockedError: the lock was not to be had; nothing is written.
            QueueStorageError: the disk refused; `appended` says how many records count.
            QueueClosedError: the queue is closed.
        """
        self._check_usable()
        try:
            self._producer.put(records, timeout)
        except OSError as error:
            raise self._storage_error("append to", error) from error

    def flush(self) -> None:
        """Return once all that was put since the last `flush` is on the disk, for any `fsync`.

        Raises:
            QueueStorageError: the disk refused, now or in a sync since the last `flush` (one in the
                background, or at a sealing). What was put since then may be lost in a power loss;
                putting it again is safe. The next `put` begins a new file.
            QueueClosedError: the queue is closed.
        """
        self._check_usable()
        with self._os_errors("sync"):
            self._producer.flush()

    def take(self, max_records: int = 256, timeout: float | None = None) -> Batch:
        """Return the oldest records not taken yet, at once if there are any.

        It may be called again before the last batch is committed, and goes on behind it.

        Args:
            max_records: at most so many.
            timeout: seconds to wait for the first; 0 only looks, None waits without limit. While
                another consumer is active this waits for it to end.

        Returns:
            A batch; empty (false) after `timeout`. If a Ctrl-C or the like ends this, what it had
            read comes with the next one; at worst the next commit raises `QueueOrderError`, as the
            batch was on its way already: it comes again when the queue is opened anew.

        Raises:
            QueueStorageError: the log cannot be read, or the cursor not be made.
            QueueClosedError: the queue is closed, or is being closed while this waits.
        """
        if max_records < 1:
            raise QueueError(f"max_records must be at least 1, not {max_records}")
        self._check_usable()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            # Another thread may be waiting in here, and longer than this one wants to.
            patience = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            if not self._take_lock.acquire(timeout=patience):
                return Batch()
            with self._os_errors("read"):
                return self._take(max_records, deadline)
        finally:
            _release_if_ours(self._take_lock)  # Ctrl-C may come as soon as it is

    def commit(self, batch: Batch) -> None:
        """Mark a batch as done; it is never handed out again. Durable when it returns.

        Corrupt lines of the batch are in `log.quarantine.txt` before. An empty batch, and one
        that is committed already, is fine.

        Raises:
            QueueOrderError: an earlier batch is not committed yet.
            QueueStorageError: the disk refused; the batch counts as not committed, and committing
                it again is fine.
            QueueClosedError: the queue is closed.
        """
        self._check_usable()
        if batch and self._slot is not None and self._slot.consumer is not None:
            with self._os_errors("commit to"):
                self._slot.consumer.commit(batch)

    def close(self) -> None:
        """Sync what was put (with `fsync="never"` it does not) and give the locks back.

        Closing twice is fine. An error is as in `flush`: the locks are given back all the same.
        What is taken and not committed is handed out again. A `take`, a `commit` that has not begun
        to write, or a waiting `put` of another thread ends with `QueueClosedError`.
        """
        if self._closing.is_set() or self._opener.is_another_process:
            return
        self._closing.set()
        if self._slot is not None:
            self._slot.wake()
        with self._os_errors("close"):
            try:
                self._producer.close()
            finally:
                with self._take_lock:
                    if self._slot is not None:
                        self._slot.close()

    def __enter__(self) -> FileQueue:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self, max_records: int, deadline: float | None) -> Batch:
        self._check_usable()
        if self._slot is None:
            self._slot = ConsumerSlot(self._storage, self._paths, self._sync_interval)
        consumer = self._slot.acquire(deadline, self._closing.is_set)
        self._check_usable()
        if consumer is None:
            return Batch()
        return consumer.take(max_records, deadline, self._check_usable)

    def _check_usable(self) -> None:
        self._opener.require()
        if self._closing.is_set():
            raise QueueClosedError(f"{self.path}: the queue is closed")
        if self._producer.interrupted:
            raise QueueClosedError(
                f"{self.path}: a put was interrupted, and may have stored its records or not; "
                "close this queue, open it anew and put them again"
            )

    @contextlib.contextmanager
    def _os_errors(self, action: str) -> Iterator[None]:
        """Turn an `OSError` into the queue's own error."""
        try:
            yield
        except OSError as error:
            raise self._storage_error(action, error) from error

    def _storage_error(self, action: str, error: OSError) -> QueueStorageError:
        return QueueStorageError(
            f"cannot {action} the queue {self.path}: {error}; is the folder there, writable, and "
            "is there room on the disk?"
        )


def _release_if_ours(lock: threading.RLock) -> None:
    try:
        lock.release()
    except RuntimeError:
        return
