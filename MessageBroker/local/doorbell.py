"""Waking the consumers of the embedded broker, in whichever process they wait.

Each waiting consumer has a named pipe in a folder beside the topic's file. Whoever has committed
something that concerns others writes a byte into each. Polling would cost a hundred wake-ups a
second, or milliseconds of latency; a pipe costs neither, and needs no path shorter than 108 bytes
as a socket does.

A bell is a hint, never the truth: the consumer looks into the file before and after it waits.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import select
from pathlib import Path

from MessageBroker.local.files_in_use import FILE_MODE, make_folder

_DRAIN_BYTES = 4096
_RING, _KNOCK = b"!", b"?"


class Heard(enum.Enum):
    """What a consumer heard at its bell."""

    NOTHING = enum.auto()
    KNOCK = enum.auto()  # somebody is about to write
    RING = enum.auto()  # somebody has written


class Doorbell:
    """A consumer's bell."""

    def __init__(self, folder: Path, consumer: str) -> None:
        """Hang up a bell named `consumer` in `folder`, making the folder if it is missing.

        Raises:
            OSError: it cannot be made.
        """
        self._path = folder / consumer
        self._pipe = self._hang()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)

    @property
    def hangs(self) -> bool:
        """Whether others can find it."""
        return self._path.exists()

    def hang_again(self) -> None:
        """Hang it up anew: others, or a cleaner of old files, have taken it down.

        Raises:
            OSError: it cannot be made; the old one stays.
        """
        pipe = self._hang()
        # The descriptor keeps its number, for another thread may be waiting at it.
        os.dup2(pipe, self._pipe, inheritable=False)
        os.close(pipe)

    def _hang(self) -> int:
        make_folder(self._path.parent)
        unfinished = self._path.with_name(f".{self._path.name}")
        unfinished.unlink(missing_ok=True)
        os.mkfifo(unfinished, FILE_MODE)
        # Opened for writing too: a pipe whose last writer has gone reads as ended for ever.
        pipe = os.open(unfinished, os.O_RDWR | os.O_NONBLOCK)
        # Named when somebody listens, for `ring` removes bells where nobody does.
        try:
            unfinished.rename(self._path)
        except OSError:
            os.close(pipe)
            raise
        return pipe

    def wait(self, timeout: float) -> Heard:
        """Wait until it is heard, for `timeout` seconds at most."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return Heard.NOTHING
        try:
            sounds = os.read(self._pipe, _DRAIN_BYTES)
        except BlockingIOError:  # hung up anew meanwhile
            return Heard.RING
        return Heard.KNOCK if sounds.count(_KNOCK) == len(sounds) else Heard.RING

    def close(self) -> None:
        """Take the bell down."""
        with contextlib.suppress(OSError):  # whoever finds it silent takes it down
            self._path.unlink(missing_ok=True)
        os.close(self._pipe)


def is_heard(folder: Path, consumer: str) -> bool:
    """Tell whether a consumer's process may live: the kernel closes the bells of dead ones.

    Only a bell that hangs nowhere or that nobody listens to tells of a death. What keeps this
    process from finding out (its open files are too many, say) tells nothing: the lease decides.
    """
    try:
        os.close(_open_to_ring(folder / consumer))
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENOENT)
    return True


def knock(folder: Path) -> None:
    """Let all consumers wake up, as `ring` does: what is about to be written is for them.

    Waking takes as long as writing. Both at once spare a lone message 0.3 ms at each hop.
    """
    _make_heard(folder, _KNOCK)


def ring(folder: Path) -> None:
    """Ring all bells in `folder`, and take down those of dead consumers.

    Never raises: what it tells of has been committed, and who was not woken looks by itself.
    """
    _make_heard(folder, _RING)


def _make_heard(folder: Path, sound: bytes) -> None:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a third of the time, and asked after each commit
    except OSError:  # the topic was deleted; or too many files are open
        return
    for name in names:
        if not name.startswith("."):
            with contextlib.suppress(OSError):
                _ring_one(f"{folder}/{name}", sound)


def _ring_one(path: str, sound: bytes) -> None:
    try:
        pipe = _open_to_ring(path)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody listens
            Path(path).unlink(missing_ok=True)
        return
    try:
        os.write(pipe, sound)
    except BlockingIOError:
        pass  # it has rung so often that it cannot be missed
    finally:
        os.close(pipe)


def _open_to_ring(path: str | Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
