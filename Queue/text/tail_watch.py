"""Waiting for the log to grow, without asking it over and over.

Linux tells by inotify, within a tenth of a millisecond: of the log that it has grown, of the folder
that there is a new log. (What else is written in the folder, the server's journal and this
consumer's own cursor, wakes nobody: it would be three times an image.) Elsewhere, and where inotify
has nothing left to give, the log is looked at every few milliseconds.

A wake-up between "nothing there" and "now I wait" must not be lost. So the order is: the watch is
armed before the log is read; old events are drained, then the log is read, then the wait begins,
which returns at once if anything happened since the draining; and it is limited in time, so that
not even a bug here could hold a record back for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import select
import socket
import struct
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
# Which watch, what happened, and two fields that say nothing of a file.
_EVENT = struct.Struct("=iIII")


class _Inotify:
    """Events of the log and of its folder."""

    def __init__(self, log: Path) -> None:
        """Watch the folder.

        Raises:
            OSError: the system has no inotify, or none left.
        """
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._log = os.fsencode(log)
        self._grew = b""  # the event of a log that has grown; b"" while none is watched
        self.fd = self._require(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            self._watch(os.fsencode(log.parent), _IN_MOVED_TO | _IN_CREATE)
        except OSError:
            self.close()
            raise

    def begin(self) -> None:
        """Watch the log that is there now, and forget what has happened so far.

        The one before is watched no more when it is removed.

        Raises:
            OSError: the system has no watch left.
        """
        try:
            events = os.read(self.fd, _EVENT_BYTES)
        except BlockingIOError:
            events = b""
        grown = events.count(self._grew) * _EVENT.size if self._grew else -1
        if grown != len(events):  # there may be another log
            self._grew = b""
            with contextlib.suppress(FileNotFoundError):  # the folder tells when it comes
                self._grew = _EVENT.pack(self._watch(self._log, _IN_MODIFY), _IN_MODIFY, 0, 0)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def _watch(self, path: bytes, mask: int) -> int:
        return self._require(self._libc.inotify_add_watch(self.fd, path, mask))

    @staticmethod
    def _require(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


class TailWatch:
    """Tells a consumer that the log may have grown. One thread waits; any may `wake` it."""

    def __init__(self, log: Path, storage: Storage) -> None:
        self._log = log
        self._storage = storage
        self._seen: tuple[int, int] | None = None
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._inotify: _Inotify | None = None
        try:
            self._inotify = _Inotify(log)
            self._poll.register(self._inotify.fd, select.POLLIN)
        except OSError as error:
            self._look_instead(error)

    def drain(self) -> None:
        """Forget what has happened so far. To be called just before the log is read."""
        if self._inotify is not None:
            try:
                self._inotify.begin()
            except OSError as error:
                self._poll.unregister(self._inotify.fd)
                self._inotify.close()
                self._inotify = None
                self._look_instead(error)
        if self._inotify is None:
            self._seen = self._look()

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
            self._inotify.close()

    def _look_instead(self, error: OSError) -> None:
        logger.info("%s: no inotify (%s); looking every %g s", self._log, error, POLL_SECONDS)

    def _look(self) -> tuple[int, int]:
        try:
            status = self._storage.stat(self._log)
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size
