"""Closing a consumer ends, whatever the brokers and the group do meanwhile."""

from __future__ import annotations

import logging
import queue
import threading
import time

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from MessageBroker.kafka.stream import KafkaStream
from tests.kafka.conftest import Connect
from tests.pipeline.runner import wait_until

PATIENCE_SECONDS = 60.0


def test_nothing_is_asked_of_a_client_that_ends(
    connect: Connect,
    admin: AdminClient,
    topic: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two changes are to be told: the partitions for the newcomer, and then the rest."""
    group = f"{topic}-sub"
    broker = connect()
    broker.create_topic(topic)
    stream = broker._join(topic, group, from_the_beginning=True)
    tell, told = KafkaStream._before_revoke, []

    def tell_slowly(self: KafkaStream, partitions: set[int]) -> None:
        told.append(partitions)
        if len(told) > 1:
            time.sleep(0.5)  # a client that ends has ended by now
        tell(self, partitions)

    monkeypatch.setattr(KafkaStream, "_before_revoke", tell_slowly)

    def is_dealt_anew() -> bool:
        described = admin.describe_consumer_groups([group])[group].result()
        return len(described.members) == 2 and described.state == ConsumerGroupState.STABLE

    newcomers = queue.Queue[KafkaStream]()
    joining = threading.Thread(
        target=lambda: newcomers.put(broker._join(topic, group, from_the_beginning=True))
    )
    joining.start()
    wait_until(is_dealt_anew, "the group is dealt anew")

    with caplog.at_level(logging.DEBUG, logger="MessageBroker.kafka"):
        stream.close([])

    assert not [each for each in caplog.messages if "_DESTROY" in each]
    newcomers.get(timeout=PATIENCE_SECONDS).close([])
    joining.join()
