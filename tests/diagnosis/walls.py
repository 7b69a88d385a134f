"""What a wall is, and how one is met: an error's class, its text, and the time it took."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from MessageBroker import BrokerError, ConfigurationError, MessageBrokerFactory
from tests.brokers.harness import clean_environment

ROOT = Path(__file__).resolve().parents[2]
# Where waiting cannot cure it (s).
AT_ONCE_SECONDS = 3.0
# What a wait at the start may take beyond its own time (s).
SPARE_SECONDS = 3.0
PROCESS_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Met:
    """What came of it.

    Attributes:
        kind: the error's class.
        text: what a person reads.
        seconds: how long it took.
        shown: the traceback, which shows what its causes say.
    """

    kind: type[BrokerError]
    text: str
    seconds: float
    shown: str

    @property
    def exit_code(self) -> int:
        return 2 if issubclass(self.kind, ConfigurationError) else 1

    def __str__(self) -> str:
        return f"{self.kind.__name__} | {self.exit_code} | {self.seconds:.1f} s | {self.text}"


def meet(broker: str, folder: Path | None = None, timeout: float = 10.0) -> Met:
    """Open a broker as every command does, and ping it; it must fail."""
    began = time.monotonic()
    try:
        with MessageBrokerFactory.get_broker(broker, config_dir=folder) as opened:
            opened.ping(timeout)
    except BrokerError as error:
        seconds = time.monotonic() - began
        met = Met(type(error), str(error), seconds, "".join(traceback.format_exception(error)))
        print(f"wall: {met}")  # `pytest -s` shows all texts, for a person to read
        return met
    raise AssertionError("there is no wall")


def expect(met: Met, kind: type[BrokerError], *says: str, at_once: bool = True) -> None:
    """Check an error: its class, its words, one line, and no longer than it may take."""
    assert met.kind is kind, met
    for words in says:
        assert words in met.text, (words, met.text)
    assert "\n" not in met.text
    if at_once:
        assert met.seconds < AT_ONCE_SECONDS, met


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    output: str
    seconds: float

    @property
    def line(self) -> str:
        """What was said last."""
        lines = self.output.strip().splitlines()
        return lines[-1] if lines else ""


def run_process(
    *arguments: str, environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Ended:
    """Run a script or a module to its end."""
    began = time.monotonic()
    outcome = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**clean_environment(), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PROCESS_TIMEOUT_SECONDS,
        check=False,
    )
    return Ended(outcome.returncode, outcome.stdout, time.monotonic() - began)
