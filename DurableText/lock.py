"""Locks that the kernel gives and takes back, with the holder's name for the one who waits.

A lock is `flock` on a file of its own. It ends with the process that holds it, however that ends,
and is never broken by time: a holder that was stopped (SIGSTOP, a suspended laptop) comes back and
goes on, so nobody may have taken its place meanwhile. `lockf` would not do: it lets go as soon as
the process closes any other descriptor of the same file.

Whose lock it is stands in the note, too. Side files are named after a text without its suffix, so
`a.txt` and `a.log` would share them: who comes second is told (`shared_with`).

A forked child shares its parent's open files, and the lock would outlive the parent in it. So all
lock files are closed in a child (closing does not unlock for the parent), and whatever was opened
before the fork refuses to work there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from DurableText.storage import Storage, head

logger = logging.getLogger(__name__)

# First pause between two tries: about one fdatasync, the time a producer holds its lock.
FIRST_PAUSE_SECONDS = 0.0002

# Size of the note about the holder: padded, so that a shorter one leaves no rest of a longer.
HOLDER_BYTES = 256

_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_locks_in_child() -> None:
    for lock in list(_open_locks):
        lock.abandon()


os.register_at_fork(after_in_child=_close_locks_in_child)


class FileLock:
    """An exclusive lock between processes, and between objects in one process. Not re-entrant."""

    def __init__(self, path: Path, storage: Storage, text: Path | None = None) -> None:
        """Open the lock's file.

        Args:
            path: the lock's file; made if missing and never removed.
            storage: the layer for system calls.
            text: what it is the lock of, if the lock is named after it without its suffix.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        self.path = path
        self.held = False
        self._storage = storage
        self._announced = False
        self._suffix = None if text is None else text.suffix
        self._note = b""
        self._fd = self._open()
        _open_locks.add(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it is held now.

        Raises:
            OSError: its file was removed, and cannot be made anew.
        """
        while True:
            try:
                self._storage.lock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self.is_in_place():
                break
            removed, self._fd = self._fd, self._open()
            self._storage.close(removed)
        self.held = True
        self._sign()
        if self._announced:
            self._announced = False
            logger.info("%s: the lock is ours now", self.path)
        return True

    def acquire(
        self,
        deadline: float | None,
        pause: float,
        stop: Callable[[], bool] | None = None,
        announce: bool = True,
    ) -> bool:
        """Wait for the lock; return whether it is held.

        Args:
            deadline: on the clock of `time.monotonic`; None waits without limit.
            pause: the longest pause between two tries, in seconds.
            stop: asked before every pause; True ends the waiting.
            announce: whether to log, once, who is waited for.
        """
        wait = min(FIRST_PAUSE_SECONDS, pause)
        while not self.try_acquire():
            if announce:
                self.announce()
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or (stop is not None and stop()):
                return False
            time.sleep(wait if left is None else min(wait, left))
            wait = min(wait * 2, pause)
        return True

    def is_in_place(self) -> bool:
        """Tell whether this is the lock that others find, and so keeps them out."""
        return self._storage.is_at(self.path, self._fd)

    def announce(self) -> None:
        """Log, once for each wait, who holds the lock."""
        if not self._announced:
            self._announced = True
            logger.warning("%s: held by %s; standing by", self.path, self.holder())

    def release(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:  # whether it is held or not: an interruption may have come in between
            self._storage.lock(self._fd, fcntl.LOCK_UN)
            self.held = False

    def close(self) -> None:
        """Give the lock back and close its file; twice is fine."""
        self.held = False
        _open_locks.discard(self)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._storage.close(fd)

    def abandon(self) -> None:
        """Close the file in a forked child, which leaves the parent's lock alone."""
        self.held = False
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def holder(self) -> str:
        """Return in words who took the lock last."""
        with contextlib.suppress(OSError):
            return describe_holder(self._storage.read(self._fd, HOLDER_BYTES, 0))
        return "another process"

    def _open(self) -> int:
        return self._storage.open(self.path, os.O_RDWR | os.O_CREAT)

    def _sign(self) -> None:
        """Write who holds the lock into its file, unless the note there is ours already."""
        if not self._note:
            note = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "suffix": self._suffix,
            }
            self._note = (
                json.dumps(note).encode().ljust(HOLDER_BYTES - 1)[: HOLDER_BYTES - 1] + b"\n"
            )
        # The note is a courtesy: a full disk must not keep anybody from the lock.
        with contextlib.suppress(OSError):
            if self._storage.read(self._fd, HOLDER_BYTES, 0) != self._note:
                self._storage.write(self._fd, self._note, 0)


def describe_holder(note: bytes) -> str:
    """Return the note of a lock file in words."""
    try:
        holder = json.loads(note)
        return f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
    except (ValueError, TypeError, KeyError):
        return "another process"


def shared_with(lock: Path, text: Path, storage: Storage) -> str | None:
    """Tell, in words, which other text has the lock that is named after `text`; None if none has.

    One that is there no more, as it was renamed, say, has none.
    """
    try:
        other = text.with_suffix(_suffix_noted(lock, storage))
        if other == text:
            return None
        storage.stat(other)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return (
        f"{text} and {other} differ in their suffix only and would share a lock and all other side "
        "files: give it another name or a folder of its own"
    )


def is_lock_of(lock: Path, text: Path, storage: Storage) -> bool:
    """Tell whether a lock that is named after `text` was last taken for it."""
    try:
        return _suffix_noted(lock, storage) == text.suffix
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _suffix_noted(lock: Path, storage: Storage) -> str:
    """Return the suffix of the text that a lock was last taken for.

    Raises:
        OSError: there is no such lock, or it cannot be read.
        ValueError, TypeError, KeyError: no such note stands in it.
    """
    suffix: str = json.loads(head(storage, lock, HOLDER_BYTES))["suffix"]
    return suffix


def current_holder(path: Path) -> str | None:
    """Return in words who holds the lock at `path` right now, None if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return describe_holder(os.pread(fd, HOLDER_BYTES, 0))
    finally:
        os.close(fd)
    return None
