"""`--exit-when-idle` of the publisher: what cannot be looked at is told, and waited for."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from MessageBroker import BrokerInterface, BrokerUnavailableError
from Pipeline.script.script import Script
from Pipeline.serving.batches import take_batches
from Queue import QueueUnavailableError
from Queue.text.file_queue import FileQueue
from tests.waiting import wait_until


class Deaf:
    """A queue's status, or a broker's ping, that fails until it is told to answer."""

    def __init__(self, error: Exception) -> None:
        self.answers = threading.Event()
        self._error = error

    def __call__(self, *_: object) -> None:
        if not self.answers.is_set():
            raise self._error


@pytest.mark.parametrize("deaf", ["queue", "broker"])
def test_an_idle_publisher_that_cannot_look_whether_anything_is_left_says_so(
    deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.txt"
    script = Script(argparse.Namespace(exit_when_idle=0.0, batch_size=10, queue=path))
    status = Deaf(QueueUnavailableError("cannot read the queue"))
    ping = Deaf(BrokerUnavailableError("the broker is away"))
    (ping if deaf == "queue" else status).answers.set()
    caplog.set_level("INFO")
    with FileQueue(path) as queue:
        real = queue.status

        def tried() -> Any:
            status()
            return real()

        monkeypatch.setattr(queue, "status", tried)
        broker = cast(BrokerInterface, argparse.Namespace(ping=ping))
        idle = threading.Thread(target=lambda: list(take_batches(script, queue, broker)))
        idle.start()
        try:
            wait_until(lambda: "; waiting" in caplog.text, "it says what it waits for", 10)
            for each in (status, ping):
                each.answers.set()
            idle.join(20)
            assert not idle.is_alive()
        finally:
            script.stop.request()
            idle.join(20)
    assert "it works again" in caplog.text
