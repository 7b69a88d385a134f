"""A dead-letter topic that is away, alone: good messages flow past, and the letters come later.

On Kafka that takes a cluster (`tests/kafka/test_cluster.py`), and Pub/Sub's emulator cannot take a
single topic away.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator

import pytest

from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.conformance.stories import numbered, read_dead_letters, receive, wait_until
from MessageBroker.core import letters
from tests.brokers.harness import BrokerUnderTest, LocalUnderTest

BAD, GOOD = 20, 200


@contextlib.contextmanager
def away(under_test: BrokerUnderTest, topic: str) -> Iterator[None]:
    """Nobody can write to the topic; all others can be used."""
    assert isinstance(under_test, LocalUnderTest)
    (file,) = under_test.folder.glob(f"*{topic}*.sqlite")
    other = sqlite3.connect(file, isolation_level=None, timeout=10)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("running_broker", ["local"], indirect=True)
def test_good_messages_flow_while_the_dead_letter_topic_is_away(
    under_test: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(letters, "PATIENCE_SECONDS", 1.0)
    caplog.set_level(logging.INFO)
    broker, topic = under_test.connect_with_topic(max_outstanding_messages=50)
    broker.publish_batch(topic, numbered(BAD + GOOD))
    with broker.subscribe(topic) as subscription:
        with away(under_test, dead_letter_topic(topic)):
            assert subscription.dead_letter(receive(subscription, BAD), "no image") == 0
            assert subscription.letters_waiting == BAD
            good = 0
            while good < GOOD:
                messages = receive(subscription, 1)
                subscription.ack(messages)
                good += len(messages)
            told = [each for each in caplog.messages if "others flow on" in each]
            assert len(told) == 1
        wait_until(lambda: subscription.dead_lettered == BAD, "the letters are sent, and counted")
        assert subscription.letters_waiting == 0
        if broker.backlog(topic) is not None:
            wait_until(lambda: broker.backlog(topic) == 0, "all is acknowledged")

    assert len(read_dead_letters(broker, topic, BAD)) == BAD
