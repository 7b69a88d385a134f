"""A fair lock between the processes of the embedded broker, which says who blocks it.

Kernel locks go with their process, however it dies. But a process that was *stopped* (SIGSTOP,
Ctrl-Z) inside a transaction keeps its lock, and nobody can take it away safely: others wait until
it is continued or killed, and one line in the log says which process that is.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

# A transaction takes milliseconds: whoever waits for so long waits for somebody who hangs.
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 1.0


class Turnstile:
    """A lock that cannot be overtaken.

    With one lock a busy writer takes it again before the others have woken up. Here a writer
    first takes the turn, then the lock, then gives the turn back: whoever comes second holds the
    turn, so the first cannot overtake it.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock's two files, beside `path`.

        Raises:
            OSError: they cannot be made.
        """
        self._turn = path.with_suffix(".turn").open("wb")
        self._lock = path.with_suffix(".lock").open("wb")
        self.lock_path = path.with_suffix(".lock")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock."""
        with _watchdog.watching(self.lock_path):
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            finally:
                fcntl.flock(self._turn, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close both files."""
        self._turn.close()
        self._lock.close()


class _Watchdog:
    """Tells who holds a lock for which this process has waited too long.

    `flock` waits without limit, so somebody else has to look: one thread for all locks, started
    by the first. Noting that one waits costs next to nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Path, float]] = {}  # by thread
        self._told: set[Path] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, path: Path) -> Iterator[None]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="lock watchdog", daemon=True)
            self._thread.start()
        thread = threading.get_ident()
        self._waiting[thread] = (path, time.monotonic())
        try:
            yield
        finally:
            del self._waiting[thread]

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            late = {
                path
                for path, since in list(self._waiting.values())
                if now - since > PATIENCE_SECONDS
            }
            for path in late - self._told:
                logger.error("%s", describe_holder(path))
            self._told = late


def describe_holder(path: Path) -> str:
    """Say who holds the lock file `path`, and what to do about it."""
    holder = _holder_of(path)
    if holder is None:
        return f"another process has held {path} for {PATIENCE_SECONDS:g} s: waiting for it"
    if _is_stopped(holder):
        return (
            f"process {holder} is stopped in the middle of a transaction and holds {path}: "
            f"continue it with `kill -CONT {holder}`, or end it with `kill -9 {holder}`"
        )
    return f"process {holder} has held {path} for {PATIENCE_SECONDS:g} s: waiting for it"


def _holder_of(path: Path) -> int | None:
    """Find the process that holds a lock on a file; None where the system does not tell."""
    try:
        inode = str(path.stat().st_ino)
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    for fields in locks:
        # 1: FLOCK ADVISORY WRITE 4711 fe:00:1234567 0 EOF; who waits has "->" after the number.
        if "->" not in fields and fields[1] == "FLOCK" and fields[5].rsplit(":", 1)[1] == inode:
            return int(fields[4])
    return None


def _is_stopped(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] == "T"


_watchdog = _Watchdog()
