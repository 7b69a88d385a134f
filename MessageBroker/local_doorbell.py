"""Waking the consumers of the embedded broker, in whichever process they wait.

Each waiting consumer has a named pipe in a folder beside the topic's file. Whoever has committed
something that concerns others writes a byte into each. Polling would cost a hundred wake-ups a
second, or milliseconds of latency; a pipe costs neither, and needs no path shorter than 108 bytes
as a socket does.

A bell is a hint, never the truth: the consumer looks into the file before and after it waits.
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

_DRAIN_BYTES = 4096


class Doorbell:
    """A consumer's bell."""

    def __init__(self, folder: Path, consumer: str) -> None:
        """Hang up a bell named `consumer` in `folder`."""
        self._path = folder / consumer
        unfinished = folder / f".{consumer}"
        os.mkfifo(unfinished)
        # Opened for writing too: a pipe whose last writer has gone reads as ended for ever.
        self._pipe = os.open(unfinished, os.O_RDWR | os.O_NONBLOCK)
        # Named when somebody listens, for `ring` removes bells where nobody does.
        unfinished.rename(self._path)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Wait until it rings; False after `timeout` seconds."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, _DRAIN_BYTES)
        return True

    def close(self) -> None:
        """Take the bell down."""
        self._path.unlink(missing_ok=True)
        os.close(self._pipe)


def is_heard(folder: Path, consumer: str) -> bool:
    """Tell whether a consumer's process lives: the kernel closes the bells of dead ones."""
    try:
        os.close(os.open(folder / consumer, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:  # ENXIO: nobody listens; ENOENT: it was taken down
        return False
    return True


def ring(folder: Path) -> None:
    """Ring all bells in `folder`, and take down those of dead consumers."""
    try:
        bells = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:  # the topic was deleted
        return
    for path in bells:
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError:  # ENXIO: nobody listens
            path.unlink(missing_ok=True)
            continue
        try:
            os.write(pipe, b"\0")
        except BlockingIOError:
            pass  # it has rung so often that it cannot be missed
        finally:
            os.close(pipe)
