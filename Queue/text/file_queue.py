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
import errno
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from DurableText.files.links import real_path
from DurableText.patience import taken_in_time
from DurableText.program.forks import Opener
from DurableText.program.remedies import in_the_way, remedy_of
from DurableText.progress import Advance, uncounted
from DurableText.storage import (
    STORAGE,
    NoFileError,
    Storage,
    make_durable_directory,
    refuse_what_is_no_file,
    require_name_fits,
)
from Queue.errors import (
    QueueClosedError,
    QueueConfigurationError,
    QueueError,
    QueueUnavailableError,
)
from Queue.queue_interface import QueueBatch, QueueVerification, Record, ResultQueue
from Queue.text import place
from Queue.text.consumer import ConsumerSlot, TextBatch
from Queue.text.producer import Fsync, Producer
from Queue.text.report import TextStatus, status, verify
from Queue.text.segment import QueuePaths, sealed_of

# 1 MiB, about 3,000 results: what a drained queue leaves on the disk. Sealing costs about a
# millisecond, a few per cent of the time it takes to fill a segment.
DEFAULT_SEGMENT_BYTES = 1 << 20

# 1 GiB, about three million results.
DEFAULT_MAX_BYTES = 1 << 30

# Seconds between two syncs with `fsync="interval"`: what a power loss can take.
DEFAULT_FSYNC_INTERVAL = 1.0


class FileQueue(ResultQueue):
    """A queue in the text file `path`. Any number of threads and processes may use it at once."""

    path: Path
    shared = False

    def __init__(
        self,
        path: str | os.PathLike[str],
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
                followed. Two queues in one folder have names that differ before the suffix, which
                the second one is told.
            fsync: "always": `put` and `commit` return when the disk has it. "interval": the disk
                has it at most `fsync_interval` seconds later; a power loss takes what came in
                between, a kill takes nothing. "never": the system decides when.
            segment_bytes: size at which `log.txt` is sealed and a new one begins.
            max_bytes: disk that the log may take; `put` waits beyond it.
            fsync_interval: seconds, for `fsync="interval"`.
            storage: the layer for system calls; tests put faults there.

        Raises:
            QueueError: a wrong setting, or the name of a sealed segment (`log.7.txt`) or a cursor.
            QueueUnavailableError: the folder or its files cannot be written.
            QueueConfigurationError: the file is no log of this format.
        """
        if fsync not in ("always", "interval", "never"):
            raise QueueConfigurationError(
                f"fsync is 'always', 'interval' or 'never', not {fsync!r}"
            )
        if segment_bytes < 1 or max_bytes < 1 or fsync_interval <= 0:
            raise QueueConfigurationError(
                "segment_bytes, max_bytes and fsync_interval must be above zero"
            )
        self.path = real_path(path)
        if (other := sealed_of(self.path)) is not None:
            raise QueueConfigurationError(
                f"{self.path}: files of such a name are sealed segments of the queue {other}, "
                "which would read this one and remove it; give the queue another name"
            )
        self.name = str(self.path)
        self._paths = QueuePaths.of(self.path)
        if self.path == self._paths.cursor:
            raise QueueConfigurationError(
                f"{self.path}: its cursor would have the same name; give it another"
            )
        self._storage = storage
        self._sync_interval = {"always": 0.0, "interval": fsync_interval, "never": math.inf}[fsync]
        self._opener = Opener(f"{self.path}: this queue", QueueClosedError)
        self._closing = threading.Event()
        self._take_lock = threading.RLock()
        self._slot: ConsumerSlot | None = None
        with self._os_errors("open"):
            refuse_what_is_no_file(self.path)
            self._paths.require_own(storage)  # before anything is made beside it
            make_durable_directory(storage, self._paths.folder)
            require_name_fits(storage, self._paths.longest)
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
        """See `ResultQueue.active`."""
        return self._slot is not None and self._slot.consumer is not None

    def put(self, records: Sequence[Record], timeout: float | None = None) -> None:
        """See `ResultQueue.put`; durable as `fsync` says.

        Threads that put at the same time share one sync. `QueueLockedError` if another process
        keeps the producers' lock. A put that an exception out of a signal handler ends may
        have stored its records; the queue is then to be opened anew.
        """
        self._check_usable()
        try:
            self._producer.put(records, timeout)
        except OSError as error:
            raise self._storage_error("append to", error) from error

    def flush(self) -> None:
        """See `ResultQueue.flush`.

        It tells once of a sync that failed since the last `flush`, in the background or at a
        sealing. Putting again what was put since then is safe; the next `put` begins a new file.
        """
        self._check_usable()
        with self._os_errors("sync"):
            self._producer.flush()

    def take(self, max_records: int = 256, timeout: float | None = None) -> TextBatch:
        """See `ResultQueue.take`.

        If a Ctrl-C or the like ends this, what it had read comes with the next one; at worst the
        next commit raises `QueueOrderError`, as the batch was on its way already: it comes again
        when the queue is opened anew.
        """
        if max_records < 1:
            raise QueueError(f"max_records must be at least 1, not {max_records}")
        self._check_usable()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            # Another thread may be waiting in here, and longer than this one wants to.
            if not taken_in_time(self._take_lock, deadline):
                return TextBatch()
            with self._os_errors("read"):
                return self._take(max_records, deadline)
        finally:
            _release_if_ours(self._take_lock)  # Ctrl-C may come as soon as it is

    def commit(self, batch: QueueBatch) -> None:
        """See `ResultQueue.commit`; corrupt lines are in `log.quarantine.txt` before."""
        self._check_usable()
        if batch and self._slot is not None and self._slot.consumer is not None:
            assert isinstance(batch, TextBatch), "the batch of another queue"
            with self._os_errors("commit to"):
                self._slot.consumer.commit(batch)

    def status(self) -> TextStatus:
        """See `ResultQueue.status`."""
        return status(self.path)

    def verify(self, advance: Advance = uncounted) -> QueueVerification:
        """See `ResultQueue.verify`."""
        return verify(self.path, advance)

    def check(self, timeout: float) -> None:  # noqa: ARG002 (a file answers at once)
        """See `ResultQueue.check`."""
        self._check_usable()
        with self._os_errors("append to"):
            refuse_what_is_no_file(self.path)
            if not os.access(self._paths.folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

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

    def _take(self, max_records: int, deadline: float | None) -> TextBatch:
        self._check_usable()
        if self._slot is None:
            self._slot = ConsumerSlot(self._storage, self._paths, self._sync_interval)
        consumer = self._slot.acquire(deadline, self._closing.is_set)
        self._check_usable()
        if consumer is None:
            return TextBatch()
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

    def _storage_error(self, action: str, error: OSError) -> QueueError:
        if error.errno == errno.EBADF:  # which does not pass by: the files are open no more
            return QueueClosedError(
                f"cannot {action} the queue {self.path}: other code in this process has closed its "
                "files; start it anew"
            )
        if error.errno == errno.ENOENT and not self._paths.folder.exists():
            return place.replaced(self._paths.folder, "all of the queue went with it")
        if isinstance(error, NoFileError):
            return QueueConfigurationError(f"{error}: name a file with --queue")
        if (blocked := in_the_way(error)) is not None:
            return QueueConfigurationError(f"cannot {action} the queue {self.path}: {blocked}")
        remedy = remedy_of(error, "is the folder there, writable, and is there room on the disk?")
        return QueueUnavailableError(f"cannot {action} the queue {self.path}: {error}; {remedy}")


def _release_if_ours(lock: threading.RLock) -> None:
    try:
        lock.release()
    except RuntimeError:
        return
