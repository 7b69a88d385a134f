"""A process that decodes pictures for another one: the place where strangers' bytes are parsed.

It is started by `decoding_pool` with one end of a socket and two pieces of shared memory. A request
is a line of JSON: what is wanted, and how long each picture is; the pictures stand one after
another in the first piece of memory, and the prepared arrays are left in the second. Before each
picture its number is written at the head of the second: whatever happens to this process, it is
known which picture it happened on.

A picture may take so much CPU time, counted by the system over all threads of the process; at its
end SIGPROF ends the process, whatever code it is in. Memory is limited likewise, by the system.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from Modelling.data_preparation import Preparation
from Modelling.errors import ImageError
from Modelling.images import pillow
from Modelling.images.batch_preparation import prepare_or_error

# The number of the picture that is being worked on stands here, in the memory for results.
HEAD = struct.Struct("<q")

# Bytes of address space beyond what the process has at its start: a picture's 400 MB, the arrays it
# is made into, and the shared memory.
ADDRESS_SPACE = 1 << 30

NOT_BEGUN = -1

READY = b"ready\n"

# More than the longest request: a few numbers for each of a few pictures.
MAX_LINE = 1 << 20


class SharedMemory:
    """Memory that two processes see, of a size that grows."""

    def __init__(self, descriptor: int) -> None:
        """Map what is behind a descriptor when it is first needed.

        Args:
            descriptor: Of a file that lies in memory.
        """
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None
        self._size = 0

    def grown(self, size: int) -> mmap.mmap:
        """Make the file at least so large, and map it; for the process that gives the work."""
        if size > self._size:
            os.ftruncate(self.descriptor, size)
        return self.of(size)

    def of(self, size: int) -> mmap.mmap:
        """Map at least so many bytes."""
        if self._map is None or size > self._size:
            # The old map goes once nothing looks at it any more.
            self._map, self._size = mmap.mmap(self.descriptor, size), size
        return self._map


def main(arguments: list[str]) -> None:
    """Work until the other end of the socket is closed."""
    control, taken, given, lock, microseconds = (int(each) for each in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _limit_memory()
    pillow.one_at_a_time = _exclusively(lock)
    connection = socket.socket(fileno=control)
    connection.sendall(READY)
    requests = connection.makefile("rb")
    worker = _Worker(SharedMemory(taken), SharedMemory(given), microseconds / 1e6)
    while line := requests.readline(MAX_LINE):
        connection.sendall(json.dumps(worker.work(json.loads(line))).encode() + b"\n")


class _Worker:
    def __init__(self, taken: SharedMemory, given: SharedMemory, seconds: float) -> None:
        self._taken = taken
        self._given = given
        self._seconds = seconds

    def work(self, request: dict[str, Any]) -> list[Any]:
        """Prepare the pictures of a request.

        Returns:
            For each picture whether its file lacks its last bytes, or the reason and the detail of
            its error.
        """
        preparation = Preparation(
            tuple(request["input_shape"]),
            request["preprocessing"],
            request["resize"],
            request["white"],
        )
        lengths = request["lengths"]
        each = int(np.prod(preparation.input_shape))
        taken = self._taken.of(sum(lengths))
        given = self._given.of(HEAD.size + 4 * each * len(lengths))
        arrays = np.frombuffer(given, np.float32, each * len(lengths), HEAD.size)
        answers: list[Any] = []
        place = 0
        for index, (length, white) in enumerate(zip(lengths, request["whites"], strict=True)):
            HEAD.pack_into(given, 0, index)
            with self._within_budget():
                prepared = prepare_or_error(taken[place : place + length], white, preparation)
            if isinstance(prepared, ImageError):
                answers.append([prepared.reason, prepared.detail])
            else:
                arrays[each * index : each * (index + 1)] = prepared.pixels.reshape(-1)
                answers.append(prepared.cut_off)
            place += length
        return answers

    @contextlib.contextmanager
    def _within_budget(self) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory() -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # macOS has no such file, and does not keep to the limit either.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _exclusively(lock: int) -> Any:
    """Make a context in which no other process with the same file is; its end frees it."""

    @contextlib.contextmanager
    def held() -> Iterator[None]:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(lock, fcntl.LOCK_UN)

    return held


if __name__ == "__main__":
    main(sys.argv[1:])
