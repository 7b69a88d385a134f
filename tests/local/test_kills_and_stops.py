"""A process that is killed or stopped in the middle of whatever it does to the embedded broker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from MessageBroker.conformance.stories import bodies, receive
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local import catalogue as local_catalogue
from MessageBroker.local import turnstile as local_turnstile
from MessageBroker.local_handler import LocalHandler
from tests.local.conftest import Connect
from tests.pipeline.runner import ROOT

IN_MID_TRANSACTION = """
import os, signal, sys
from MessageBroker.local_handler import LocalHandler
broker = LocalHandler(sys.argv[1])
if sys.argv[2] == "catalogue":
    transaction = broker._catalogue.changing()
else:
    transaction = broker._catalogue.open("topic")._writing()
with transaction:
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.parametrize(("deed", "least"), [("create", 40), ("delete", 15), ("publish", 5)])
def test_a_kill_at_any_step_leaves_a_topic_that_can_be_used(
    deed: str, least: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.local.killed_deeds", str(tmp_path), deed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least, "fewer steps than there must be: the kills miss them"


@contextlib.contextmanager
def stopped_in_mid_transaction(folder: Path, where: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, stopped while it changes the topic or the catalogue."""
    command = [sys.executable, "-c", IN_MID_TRANSACTION, str(folder), where]
    other = subprocess.Popen(command, cwd=ROOT)
    try:
        os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
        yield other
    finally:
        other.kill()
        other.wait()


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_turnstile.PATIENCE_SECONDS < 10
    for module in (local_turnstile, local_catalogue):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("where", ["topic", "catalogue"])
def test_a_start_beside_a_stopped_process_fails_and_names_it(
    where: str, connect: Connect, folder: Path
) -> None:
    connect().create_topic("topic")
    with stopped_in_mid_transaction(folder, where) as other:
        began = time.monotonic()
        broker = connect()
        for start in (broker.create_topic, broker.subscribe):
            with pytest.raises(BrokerUnavailableError, match=f"`kill -CONT {other.pid}`"):
                start("topic")
        assert time.monotonic() - began < 10

        other.kill()
        other.wait()
        broker.create_topic("topic")
        broker.subscribe("topic").close()


def test_a_topic_whose_file_was_removed_does_not_keep_anybody_from_starting(
    connect: Connect, folder: Path
) -> None:
    connect().create_topic("topic")
    for path in folder.glob("topic.*.sqlite*"):
        path.unlink()
    broker = connect()
    broker.configured_topics = ("topic",)

    broker.ping(1.0)  # as every script begins
    assert broker.create_topic("topic")


@pytest.mark.parametrize("where", ["topic", "catalogue"])
def test_ping_beside_a_stopped_process_keeps_to_its_timeout_and_names_it(
    where: str, connect: Connect, folder: Path
) -> None:
    """Also where it is in the way of one topic alone, which the settings name."""
    broker = connect()
    broker.configured_topics = ("topic", "another")
    broker.create_topic("topic")
    broker.ping(0.2)
    with stopped_in_mid_transaction(folder, where) as other:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match=f"`kill -CONT {other.pid}`"):
            broker.ping(0.2)
        assert time.monotonic() - began < local_turnstile.PATIENCE_SECONDS


@pytest.mark.usefixtures("impatience")
def test_what_runs_beside_a_stopped_process_waits_and_goes_on(
    connect: Connect, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker: LocalHandler = connect()
    broker.create_topic("topic")
    subscription = broker.subscribe("topic")
    broker.publish("topic", b"before").result(30)
    before = receive(subscription, 1)
    with stopped_in_mid_transaction(folder, "topic") as other:
        future = broker.publish("topic", b"meanwhile")
        subscription.ack(before)
        assert subscription.receive(1, 1.5) == []
        assert not future.done()
        assert f"`kill -CONT {other.pid}`" in caplog.text

        other.send_signal(signal.SIGCONT)

        assert future.result(30)
        assert bodies(receive(subscription, 1)) == ["meanwhile"]
    subscription.close()
    assert subscription.late_acks == 0
    assert bodies(receive(broker.subscribe("topic"), 1)) == ["meanwhile"]
