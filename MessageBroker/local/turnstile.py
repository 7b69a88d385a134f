"""A fair lock between the processes of the embedded broker, which says who blocks it.

Kernel locks go with their process, however it dies. But a process that was *stopped* (SIGSTOP,
Ctrl-Z) inside a transaction keeps its lock, and nobody can take it away safely. Whoever has waited
too long is told which process that is, and may come again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from DurableText.files.no_pipes import open_no_pipe
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local.files_in_use import FILE_MODE

# A transaction takes milliseconds: whoever waits for so long waits for somebody who hangs.
PATIENCE_SECONDS = 8.0


class LockedError(BrokerUnavailableError):
    """Raised when others have a file for longer than one may wait. It may pass in milliseconds."""


class Turnstile:
    """A lock that cannot be overtaken. For one thread at a time; open another for another.

    With one lock a busy writer takes it again before the others have woken up. Here a writer
    first takes the turn, then the lock, then gives the turn back: whoever comes second holds the
    turn, so the first cannot overtake it.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock's two files, beside `path`, making what is missing.

        Args:
            path: the file that the lock guards.

        Raises:
            OSError: they cannot be opened.
        """
        self.lock_path = path.with_suffix(".lock")
        with contextlib.ExitStack() as opened:
            self._turn = opened.enter_context(_open(path.with_suffix(".turn")))
            self._lock = opened.enter_context(_open(self.lock_path))
            opened.pop_all()  # both are there: keep them open
        self._place: _PlaceInLine | None = None
        _opened.add(self)

    @contextlib.contextmanager
    def held(self, patience: float | None = None) -> Iterator[None]:
        """Hold the lock.

        Args:
            patience: seconds to wait for it; None for `PATIENCE_SECONDS`.

        Raises:
            LockedError: somebody has held it for so long; the text says who.
            OSError: the file system does not lock.
        """
        try:  # a Ctrl-C may come as soon as the lock is held
            self._enter(PATIENCE_SECONDS if patience is None else patience)
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close both files."""
        _opened.discard(self)
        if self._place is None or not self._place.leave_files_behind():
            self._turn.close()
            self._lock.close()

    def _enter(self, patience: float) -> None:
        if self._place is None:
            if self._enter_at_once():
                return
            self._place = _PlaceInLine(self._turn, self._lock)
        # Whoever gave up before still stands in line, and does not begin again at its end.
        elif not self._place.want_again():
            self._place = _PlaceInLine(self._turn, self._lock)
        if not self._place.wait(patience):
            waited = time.monotonic() - self._place.began
            raise LockedError(f"local broker: {describe_holder(self.lock_path, waited)}")
        self._place = None

    def _enter_at_once(self) -> bool:
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # the turn, if it was to be had, is kept: it is the place in line
        except BaseException:  # a Ctrl-C: nobody is in line any more
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            raise
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True


def _opener(name: str, flags: int) -> int:
    return open_no_pipe(name, flags | os.O_NOFOLLOW, FILE_MODE)


def _open(path: Path) -> IO[bytes]:
    return open(path, "ab", 0, opener=_opener)


class _PlaceInLine:
    """Waits for a lock in a thread of its own, for `flock` itself knows no limit of time.

    Whoever gives up cannot take the thread out of the line. So it stays, at most one a turnstile,
    and goes straight through when its turn comes and nobody wants it any more.

    Attributes:
        began: when it came into the line, in monotonic seconds.
    """

    def __init__(self, turn: IO[bytes], lock: IO[bytes]) -> None:
        self.began = time.monotonic()
        self._turn = turn
        self._lock = lock
        self._changed = threading.Condition()
        self._wanted = True
        self._closing = False
        self._passed = False
        self._error: OSError | None = None
        threading.Thread(target=self._stand_in_line, name="waiting for a lock", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Return True with the lock held, or False after `seconds`."""
        with self._changed:
            try:
                self._changed.wait_for(lambda: self._passed, seconds)
            except BaseException:  # Ctrl-C, or a signal's handler
                self._wanted = False
                if self._passed:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
                raise
            self._wanted = self._passed
            if self._error is not None:
                raise self._error
            return self._passed

    def want_again(self) -> bool:
        """Come back to this place; False if its turn has come and gone."""
        with self._changed:
            self._wanted = not self._passed
            return self._wanted

    def leave_files_behind(self) -> bool:
        """Let the thread close both files when it is through; False if it is already."""
        with self._changed:
            self._closing = not self._passed
            return self._closing

    def _stand_in_line(self) -> None:
        error = None
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        except OSError as refusal:
            error = refusal
        with self._changed:
            self._passed = True
            self._error = error
            if self._closing:
                self._turn.close()
                self._lock.close()
            elif not self._wanted:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._changed.notify_all()


def describe_holder(path: Path, seconds: float) -> str:
    """Say who has held the lock file `path` for so long, and what to do about it."""
    # Whoever was stopped while it waited may hold the turn alone.
    holder = _holder_of(path) or _holder_of(path.with_suffix(".turn"))
    if holder is None:
        return f"another process has held {path} for {seconds:.3g} s"
    if _is_stopped(holder):
        return (
            f"process {holder} is stopped in the middle of a transaction and holds {path}: "
            f"continue it with `kill -CONT {holder}`, or end it with `kill -9 {holder}`"
        )
    return f"process {holder} has held {path} for {seconds:.3g} s"


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
            return max(int(fields[4]), 0) or None  # of another container: 0
    return None


def _is_stopped(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] == "T"


# A child made by fork shares the locks: it would hold them on when its parent is dead.
_opened: weakref.WeakSet[Turnstile] = weakref.WeakSet()


def _let_go_in_the_child() -> None:
    for turnstile in list(_opened):
        turnstile._turn.close()
        turnstile._lock.close()


os.register_at_fork(after_in_child=_let_go_in_the_child)
