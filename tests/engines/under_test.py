"""What the suites of queue and DB have in common: an engine, what can be done to it, processes."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]


class EngineUnderTest(ABC):
    """One engine that runs, and everything that was opened on it by the test at hand.

    Attributes:
        place: a path or URL of the test's own.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._run = uuid.uuid4().hex[:6]
        self.place = ""

    # ------------------------------------------------------------------ for the tests

    @abstractmethod
    def away(self) -> contextlib.AbstractContextManager[None]:
        """Let the engine be away, and come back."""

    @abstractmethod
    def hanging(self) -> contextlib.AbstractContextManager[None]:
        """Let the engine answer nothing for a while."""

    @abstractmethod
    def full(self) -> contextlib.AbstractContextManager[None]:
        """Let disk or memory have no room for a while."""

    @abstractmethod
    def read_only(self) -> contextlib.AbstractContextManager[None]:
        """Let the engine take no writes for a while."""

    @abstractmethod
    def lose_everything(self) -> None:
        """Let the engine come back empty at the same place."""

    @abstractmethod
    def put_something_foreign(self) -> None:
        """Put at the test's place what another program has made."""

    @abstractmethod
    def foreign_is_untouched(self) -> bool:
        """Tell whether it is still as it was."""

    # ------------------------------------------------------------------ for the fixtures

    @abstractmethod
    def start(self) -> None:
        """Start the engine."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it."""

    def begin_test(self) -> None:
        """Choose a place that is empty."""
        self.place = self._new_place(f"t{self._run}_{next(self._numbers)}")

    def end_test(self) -> None:
        """Close whatever the test has opened."""
        self._opened.close()
        self._opened = contextlib.ExitStack()

    @abstractmethod
    def _new_place(self, name: str) -> str:
        """Return a path or URL at which there is nothing yet."""


class WorkerProcess:
    """A process that works on a place, and says what it did, line by line."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def lines(self, number: int) -> list[str]:
        """Wait for so many lines of its output; fewer at its end."""
        assert self._process.stdout is not None
        return [line.rstrip() for line in itertools.islice(self._process.stdout, number)]

    def finish(self) -> list[str]:
        """Let it go on to its end; return the rest of its output."""
        out, _ = self._process.communicate("\n", timeout=120)
        assert self._process.returncode == 0
        return out.splitlines()

    def kill(self) -> list[str]:
        """Kill it; return what it had still said, once."""
        if self._process.returncode is not None:
            return []
        self._process.kill()
        out, _ = self._process.communicate()
        return out.splitlines()
