"""One process that decodes pictures, as the process sees it that gives it work.

The other side, and what the two say to each other, is `decoding_worker`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from Modelling.data_preparation import Preparation, Prepared
from Modelling.errors import TOOK_TOO_LONG, ImageError
from Modelling.images import decoding_worker
from Modelling.images.decoding_worker import HEAD, NOT_BEGUN, READY, SharedMemory
from Modelling.processes import command_of, end_of

# How long a process may take to start: the import of NumPy and Pillow, on a machine that swaps.
START_SECONDS = 60.0

# Real time, as a multiple of the CPU time, after which a process was stopped by somebody, or the
# machine has no time at all: it is ended.
REAL_TIME_FACTOR = 60

# Each works alone: one thread for its arithmetic. And what a picture took of memory is kept for the
# next, up to 32 MiB, instead of being given back to the system and taken again: 1,700 page faults
# less for a photograph, a sixth of its time. (glibc's names; elsewhere nobody reads them.)
KEPT_BYTES = 32 << 20
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
    "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES),
}

CRASHED = "crashed its decoder"
KILLED = "ended its decoder, which was killed: probably for its memory"

Answer = Prepared | ImageError


@dataclass(frozen=True)
class PictureBatch:
    """Pictures that a process is given at once.

    Attributes:
        places: Where they stand in their batch.
        datas: Their bytes.
        whites: What is white in each, if it is known.
        preparation: What they are to be made into.
    """

    places: tuple[int, ...]
    datas: tuple[bytes, ...]
    whites: tuple[float | None, ...]
    preparation: Preparation

    @property
    def values(self) -> int:
        """How many numbers one of them becomes."""
        return int(np.prod(self.preparation.input_shape))

    @property
    def result_bytes(self) -> int:
        """Bytes of memory for what they become."""
        return HEAD.size + 4 * self.values * len(self.places)


class DecodingProcess:
    """A process, and the memory that is shared with it."""

    def __init__(self, image_seconds: float, lock: int) -> None:
        """Start it; it is to be given work once its first line is `READY`.

        Args:
            image_seconds: CPU time that one picture may take.
            lock: A file by which the processes of a pool exclude each other.
        """
        self._seconds = image_seconds
        self._taken = SharedMemory(memory_file())
        self._given = SharedMemory(memory_file())
        self.socket, theirs = socket.socketpair()
        self._buffer = b""
        self.ready = False
        self.pictures: PictureBatch | None = None
        self._deadline = time.monotonic() + START_SECONDS
        shared = theirs.fileno(), self._taken.descriptor, self._given.descriptor, lock
        # A session of its own: Ctrl-C is for the server, which still wants its answers.
        self._process = subprocess.Popen(
            command_of(
                decoding_worker.__name__, *map(str, shared), str(int(image_seconds * 1e6))
            ),
            pass_fds=shared,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # malloc's last words
            start_new_session=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        theirs.close()

    def give(self, pictures: PictureBatch) -> None:
        """Send pictures. The answer, or the end of the process, comes by the socket."""
        assert self.ready
        assert self.pictures is None, "one piece of work at a time"
        lengths = [len(data) for data in pictures.datas]
        taken = self._taken.grown(sum(lengths))
        place = 0
        for data in pictures.datas:
            taken[place : place + len(data)] = data
            place += len(data)
        HEAD.pack_into(self._given.grown(pictures.result_bytes), 0, NOT_BEGUN)
        self.pictures = pictures
        self._deadline = time.monotonic() + REAL_TIME_FACTOR * self._seconds * len(lengths)
        wanted = pictures.preparation
        request = {
            "input_shape": wanted.input_shape,
            "preprocessing": wanted.preprocessing,
            "resize": wanted.resize,
            "white": wanted.white,
            "lengths": lengths,
            "whites": pictures.whites,
        }
        with contextlib.suppress(ConnectionError):  # it died meanwhile: the socket's end tells
            self.socket.sendall(json.dumps(request).encode() + b"\n")

    def heard(self) -> bytes | None:
        """Read on: a whole line, b"" for the process's end, None while there is no whole line."""
        try:
            received = self.socket.recv(1 << 16)
        except ConnectionError:
            received = b""
        if not received:
            return b""
        self._buffer += received
        if not self._buffer.endswith(b"\n"):
            return None
        line, self._buffer = self._buffer, b""
        if line == READY:
            self.ready = True
        return line

    def answers(self, line: bytes) -> list[Answer]:
        """Take what the process has said and left in memory of the pictures that it was given."""
        assert self.pictures is not None
        pictures, self.pictures = self.pictures, None
        said: list[Any] = json.loads(line)
        assert len(said) == len(pictures.places), "one answer for each picture"
        memory = self._given.of(pictures.result_bytes)
        arrays = np.frombuffer(memory, np.float32, pictures.values * len(said), HEAD.size)
        pixels = arrays.reshape(-1, *pictures.preparation.input_shape)
        return [
            ImageError(*each) if isinstance(each, list) else Prepared(pixels[i].copy(), each)
            for i, each in enumerate(said)
        ]

    @property
    def overdue(self) -> bool:
        """Whether it has not answered, or not started, for far too long."""
        at_work = self.pictures is not None or not self.ready
        return at_work and time.monotonic() > self._deadline

    def died_at(self) -> int | None:
        """Tell at which of its pictures the process died; None if it had not begun."""
        assert self.pictures is not None
        (index,) = HEAD.unpack_from(self._given.of(self.pictures.result_bytes))
        return int(index) if 0 <= index < len(self.pictures.places) else None

    def exit_code(self) -> int:
        """Wait for the end of a process whose socket has ended."""
        return self._process.wait()

    def kill(self) -> None:
        """End it, whatever it does; its socket tells."""
        self._process.kill()

    def close(self) -> None:
        """End it and forget it."""
        self.socket.close()
        self._process.kill()
        self._process.wait()
        for memory in (self._taken, self._given):
            os.close(memory.descriptor)


def error_of(exit_code: int, image_seconds: float) -> ImageError:
    """Say what a picture did to the process that decoded it."""
    if exit_code == -signal.SIGPROF:
        return ImageError(TOOK_TOO_LONG, f"more than {image_seconds:g} s of CPU")
    if exit_code == -signal.SIGKILL:
        return ImageError(KILLED)
    return ImageError(CRASHED, end_of(exit_code))


def memory_file() -> int:
    """Open a file that lies in memory and has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
