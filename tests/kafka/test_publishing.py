"""Publishing where only Kafka is like that: its client lingers."""

from __future__ import annotations

import time

from MessageBroker import OutgoingMessage
from tests.kafka.conftest import Connect

LINGER_SECONDS = 100.0


def test_a_batch_that_is_waited_for_does_not_linger(connect: Connect, topic: str) -> None:
    broker = connect(producer={"linger.ms": f"{1000 * LINGER_SECONDS:.0f}"})
    broker.create_topic(topic)
    began = time.monotonic()
    assert len(broker.publish_batch(topic, [OutgoingMessage(b"now")] * 100)) == 100
    assert time.monotonic() - began < LINGER_SECONDS / 2
