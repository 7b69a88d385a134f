"""The seam between what is measured and how: a system that serves images over Kafka, running."""

from __future__ import annotations

import resource
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """A result that has come to rest. Times are seconds since the epoch.

    Attributes:
        id: The image's.
        published: When it was meant to be sent.
        arrived: When its result was where this system leaves it.
        right: Whether the label is the expected one.
    """

    id: str
    published: float
    arrived: float
    right: bool


class System(ABC):
    """A system that runs, with topics of its own.

    Attributes:
        results: All that have arrived so far, repetitions too; `look` adds what is new.
    """

    def __init__(self, ids_file: Path) -> None:
        self.results: list[Result] = []
        self._ids_file = ids_file
        self._sent = 0

    def look(self) -> list[Result]:
        """Return what has arrived since the last look."""
        new = list(self._new_results())
        self.results += new
        return new

    def begin(self, count: int, rate: float | None = None) -> Sending:
        """Begin to publish images, as fast as it goes or in an open loop at a rate a second."""
        return Sending(self.publisher(count, rate), self._take_ids)

    def _take_ids(self) -> list[str]:
        ids = self._ids_file.read_text().split()
        new, self._sent = ids[self._sent :], len(ids)
        return new

    @abstractmethod
    def publisher(self, count: int, rate: float | None) -> subprocess.Popen[bytes]:
        """Start the process that publishes; it appends each confirmed id to `ids_file`."""

    @abstractmethod
    def _new_results(self) -> Iterator[Result]:
        """Yield the results that have arrived since the last call."""

    @abstractmethod
    def servers(self) -> list[int]:
        """Return the processes between the two topics: what serves."""

    @abstractmethod
    def readers(self) -> list[int]:
        """Return the processes behind the topic of results."""

    @abstractmethod
    def kill(self) -> None:
        """End all of its own processes with SIGKILL."""

    @abstractmethod
    def restart(self) -> None:
        """Start again what was killed; return at once."""

    @abstractmethod
    def stop(self) -> None:
        """End all."""


@dataclass
class Sending:
    """Images that are being published."""

    process: subprocess.Popen[bytes]
    take_ids: Callable[[], list[str]]
    cpu_seconds: float = 0.0

    def wait(self) -> list[str]:
        """Wait until all is confirmed; return the ids."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if self.process.wait(300) != 0:
            raise RuntimeError(f"the publisher ended with {self.process.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return self.take_ids()


class GrowingFile:
    """Reads the lines that have been appended to a file since the last look, whole ones only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0

    def lines(self) -> list[bytes]:
        """Return the new lines."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.splitlines()
