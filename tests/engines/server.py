"""What the real servers behind queue and DB have in common in the tests."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import psutil

from DurableText.program.closing import ClosedAtExit
from tests.servers import free_port


class Server(ClosedAtExit, ABC):
    """A server on a port of this machine, in a folder of its own.

    It keeps port and data when it is stopped or killed and started again.
    """

    def __init__(self, program: str, port: int | None = None) -> None:
        """Choose a port; nothing runs yet.

        Args:
            program: what its folder is called by.
            port: None for a free one.
        """
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{program}-under-test-", dir="/tmp"))

    def __enter__(self) -> Self:
        self.start()
        return self

    @abstractmethod
    def start(self) -> None:
        """Start it; return once it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it as an administrator does."""

    @abstractmethod
    def kill(self) -> None:
        """Kill all of its processes at once."""

    @abstractmethod
    def suspend(self) -> None:
        """Let it hang: it is stopped, and the kernel still answers for it."""

    @abstractmethod
    def resume(self) -> None:
        """Let it go on."""

    @abstractmethod
    def cpu_seconds(self) -> float:
        """Return what its processes have used of CPU so far."""

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it hang for a while."""
        self.suspend()
        try:
            yield
        finally:
            self.resume()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Keep it stopped for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def cpu_seconds_of(processes: Iterable[psutil.Process]) -> float:
    """Return what processes have used of CPU so far."""
    found = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found += times.user + times.system
    return found


def until_interrupted() -> None:
    """Wait for Ctrl-C, or to be told to end."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopped.set())
    print("Ctrl-C stops it and forgets its data.", flush=True)
    stopped.wait()
