"""What the author of a handler supplies: how to start the broker, reach it, and take it away."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NoReturn, Self

import pytest

from MessageBroker.configuration import DeliverySettings
from MessageBroker.conformance.process import Worker
from MessageBroker.core.broker import BrokerCore

# Short back-offs: the tests assert what comes again, not that it takes half a second.
QUICK = {"min_backoff": 0.05, "max_backoff": 0.4}
INI = "[broker]\nname = {name}\n[delivery]\nmin_backoff = 0.05\nmax_backoff = 0.4\n"
# How long a broker that cannot be replaced is away instead (s).
RESTART_SECONDS = 1.0


def missing(how_to_get_it: str) -> NoReturn:
    """Skip what needs a broker that cannot be run here; fail in CI, which must skip nothing.

    Args:
        how_to_get_it: what is missing, and the command that brings it.
    """
    if os.environ.get("CI"):
        pytest.fail(how_to_get_it)
    pytest.skip(how_to_get_it)


class BrokerUnderTest(ABC):
    """One broker that runs, and everything that was opened on it by the test at hand."""

    name: ClassVar[str]
    """By which the factory knows the broker."""
    inattention_seconds: ClassVar[float]
    """A consumer that neither renews nor polls for so long would lose its messages."""
    counts_backlog: ClassVar[bool] = True
    """False where the broker cannot tell how much is not acknowledged."""
    foreign_variables: ClassVar[tuple[str, ...]] = ("MESSAGE_BROKER", "MESSAGE_BROKER_CONFIG_DIR")
    """What a person may have exported: no test shall reach a broker that is not of the tests."""

    def __init__(self) -> None:
        """Make a folder for the INI files; nothing runs yet."""
        self.config_dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-under-test-"))
        self._opened = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._run = uuid.uuid4().hex[:6]
        self.write_ini("broker_config.ini", INI.format(name=self.name))

    # ------------------------------------------------------------------ for the tests

    def connect(self, **delivery: float) -> BrokerCore:
        """Return a new handler, closed at the end of the test."""
        settings = DeliverySettings(**{**QUICK, **delivery})  # type: ignore[arg-type]
        broker = self.handler_class().from_config(self.config_dir, settings)
        # One second: what a test leaves unconfirmed is not waited for.
        self._opened.callback(broker.close, 1.0)
        return broker

    def connect_with_topic(self, **delivery: float) -> tuple[BrokerCore, str]:
        """Return a new handler and a topic that was just created."""
        broker = self.connect(**delivery)
        topic = self.unused_name()
        broker.create_topic(topic)
        return broker, topic

    def unused_name(self, stem: str = "topic") -> str:
        """Return a name for a topic or a subscription that nobody has used."""
        return f"{stem}-{self._run}-{next(self._numbers)}"

    def worker(self) -> Worker:
        """Start another process that uses the same broker; it is gone after the test."""
        return self._opened.enter_context(
            Worker(self.name, self.handler_class(), self.config_dir, self.environment)
        )

    def write_ini(self, name: str, text: str) -> None:
        """Write an INI file, for `from_config` of the handler and for other processes."""
        (self.config_dir / name).write_text(text, encoding="utf-8")

    def end_of_test(self) -> None:
        """Close whatever the test has opened."""
        self._opened.close()

    # ------------------------------------------------------------------ for each broker

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Environment variables with which any process reaches this broker."""

    @abstractmethod
    def start(self) -> None:
        """Start the broker, and write its INI file; call `missing` where it cannot be run."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it and remove what it left; fine if it never started."""
        shutil.rmtree(self.config_dir, ignore_errors=True)

    def restart(self) -> None:
        """Take the broker away and bring it back with all its data, breaking connections."""
        with self.outage():
            time.sleep(RESTART_SECONDS)

    @abstractmethod
    def outage(self) -> contextlib.AbstractContextManager[None]:
        """Let the broker be away inside: nothing is answered, and the data stay.

        Neither what is open nor what is being opened gets through, be it refused or left waiting.
        """

    def silence(self) -> contextlib.AbstractContextManager[None]:
        """Let the broker hang inside: it takes what it is asked, and answers nothing."""
        return self.outage()

    @abstractmethod
    def handler_class(self) -> type[BrokerCore]:
        """Import the handler: a class of a module that other processes can import, too."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end_of_test()
        self.stop()
