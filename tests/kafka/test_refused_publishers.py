"""A publisher that the cluster refuses: told in one line, and the next call may be luckier."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    ResourceType,
)

from MessageBroker import AuthenticationError, OutgoingMessage
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.harness import clean_environment
from tests.diagnosis.rights import Right
from tests.kafka.conftest import Connect
from tests.kafka.test_errors import allow
from tests.pipeline.runner import ROOT
from tests.waiting import until_it_works, wait_until

PATIENCE_SECONDS = 20.0

AsUser = Callable[[str, str], dict[str, str]]


@pytest.fixture(autouse=True)
def no_thread_dies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    yield
    assert died == []


@pytest.fixture
def bob(connect: Connect, as_user: AsUser, admin: AdminClient, topic: str) -> KafkaHandler:
    """A handler that may look at the topic, and nothing else."""
    connect().create_topic(topic)
    allow(admin, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    return connect(as_user("bob", "bob-has-another-one"))


def revoke(admin: AdminClient, topic: str) -> None:
    Right("bob", "WRITE", "topic", topic).revoke(admin)


def publish_until_it_works(bob: KafkaHandler, topic: str) -> None:
    """Publish; the brokers learn a moment later that it is granted."""
    until_it_works(
        lambda: bob.publish(topic, b"granted").result(PATIENCE_SECONDS), AuthenticationError
    )


def test_the_call_after_the_right_was_granted_works(
    bob: KafkaHandler, admin: AdminClient, topic: str
) -> None:
    for _ in range(2):
        with pytest.raises(AuthenticationError, match="WRITE on the topic"):
            bob.publish(topic, b"refused").result(PATIENCE_SECONDS)

    allow(admin, ResourceType.TOPIC, topic, AclOperation.WRITE)

    publish_until_it_works(bob, topic)


def test_a_batch_is_refused_as_a_whole_and_at_once(bob: KafkaHandler, topic: str) -> None:
    messages = [OutgoingMessage(b"x" * 1000) for _ in range(5000)]
    began = time.monotonic()
    with pytest.raises(AuthenticationError):
        bob.publish_batch(topic, messages)
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_a_right_that_is_revoked_in_mid_run_is_told_and_nothing_hangs(
    bob: KafkaHandler, admin: AdminClient, topic: str
) -> None:
    allow(admin, ResourceType.TOPIC, topic, AclOperation.WRITE)
    publish_until_it_works(bob, topic)
    revoke(admin, topic)
    deadline = time.monotonic() + PATIENCE_SECONDS

    with pytest.raises(AuthenticationError, match="WRITE on the topic"):
        while time.monotonic() < deadline:
            bob.publish(topic, b"x").result(PATIENCE_SECONDS)

    allow(admin, ResourceType.TOPIC, topic, AclOperation.WRITE)
    publish_until_it_works(bob, topic)


@pytest.mark.timeout(120)
def test_app_1_whose_right_is_revoked_says_it_once_and_ends_with_1(
    bob: KafkaHandler, admin: AdminClient, as_user: AsUser, topic: str, tmp_path: Path
) -> None:
    for name in (topic, f"{topic}-dead-letter"):
        allow(admin, ResourceType.TOPIC, name, AclOperation.WRITE)
    connect_as = as_user("bob", "bob-has-another-one")
    (tmp_path / "broker_config.ini").write_text(f"[topics]\nimages = {topic}\n")
    ini = "".join(f"{name} = {value}\n" for name, value in connect_as.items())
    (tmp_path / "kafka_config.ini").write_text(f"[default]\n{ini}")
    ids = tmp_path / "ids.txt"
    with (tmp_path / "log.txt").open("w+") as log:
        script = subprocess.Popen(
            [
                sys.executable, str(ROOT / "app_1.py"), "--broker", "kafka", "--config-dir",
                str(tmp_path), "--count", "100000", "--rate", "300", "--ids", str(ids),
            ],
            stdout=log, stderr=log, env=clean_environment(),
        )  # fmt: skip
        wait_until(lambda: ids.exists() and ids.stat().st_size > 0, "some are confirmed")
        revoke(admin, topic)
        assert script.wait(PATIENCE_SECONDS) == 1
        log.seek(0)
        said = log.read()
    assert said.count(" ERROR ") == 1, said
    assert "has no right WRITE on the topic" in said
    assert "Traceback" not in said
