"""Waiting for the log to grow, without asking it over and over.

Linux tells by inotify on the queue's folder, within a tenth of a millisecond. Elsewhere, and where
inotify has no instance left to give, the folder and the log are looked at every few milliseconds.

A wake-up between "nothing there" and "now I wait" must not be lost. So the order is: the watch is
armed before the log is read; old events are drained, then the log is read, then the wait begins,
which returns at once if anything happened since the draining; and it is limited in time, so that
not even a bug here could hold a record back for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import socket
import sys
import time
from pathlib import Path

from DurableText.storage import Storage

logger = logging.getLogger(__name__)

# A wait never lasts longer, whatever the watch says: the log is then read again.
MAX_WAIT_SECONDS = 1.0

# Pause between two looks where there is no inotify: half the time a consumer may take to wake.
POLL_SECONDS = 0.002

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_EVENT_BYTES = 64 * 1024


def _open_inotify(folder: Path) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    except (OSError, AttributeError):
        return None
    mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(folder), mask) >= 0:
        return fd
    reason = os.strerror(ctypes.get_errno())
    logger.info("%s: no inotify (%s); looking every %g s", folder, reason, POLL_SECONDS)
    if fd >= 0:
        os.close(fd)
    return None


class TailWatch:
    """Tells a consumer that the log may have grown. One thread waits; any may `wake` it."""

    def __init__(self, log: Path, storage: Storage) -> None:
        self._log = log
        self._storage = storage
        self._seen: tuple[int, int] | None = None
        self._woken, self._waker = socket.socketpair()
        self._inotify = _open_inotify(log.parent)
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        if self._inotify is not None:
            self._poll.register(self._inotify, select.POLLIN)

    def drain(self) -> None:
        """Forget what has happened so far. To be called just before the log is read."""
        if self._inotify is None:
            self._seen = self._look()
            return
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._inotify, _EVENT_BYTES)) > _EVENT_BYTES // 2:
                pass

    def wait(self, timeout: float) -> None:
        """Return when something has happened since `drain`, or after `timeout` seconds."""
        timeout = min(timeout, MAX_WAIT_SECONDS)
        if self._inotify is not None:
            self._poll.poll(timeout * 1000)
            return
        deadline = time.monotonic() + timeout
        while self._look() == self._seen:
            left = deadline - time.monotonic()
            if left <= 0 or self._poll.poll(min(left, POLL_SECONDS) * 1000):
                return

    def wake(self) -> None:
        """Make this wait and all later ones return at once: the queue is closing."""
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"x")

    def close(self) -> None:
        """Close the descriptors."""
        self._woken.close()
        self._waker.close()
        if self._inotify is not None:
            os.close(self._inotify)

    def _look(self) -> tuple[int, int]:
        try:
            status = self._storage.stat(self._log)
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size
