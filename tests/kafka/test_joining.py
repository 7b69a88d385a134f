"""What keeps a consumer out of its group is told while it joins, and by its right name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer

from MessageBroker import ConfigurationError
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect

# All start-up errors come within this long (s).
IN_TIME_SECONDS = 10.0
PATIENCE_SECONDS = 20.0


@contextmanager
def member(cluster: KafkaCluster, topic: str, **properties: str) -> Iterator[None]:
    """Somebody else's program is a member of the group `<topic>-sub`."""
    named = {name.replace("_", "."): value for name, value in properties.items()}
    other = Consumer(
        {"bootstrap.servers": cluster.bootstrap_servers, "group.id": f"{topic}-sub", **named}
    )
    try:
        other.subscribe([topic])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not other.assignment():
            assert time.monotonic() < deadline
            other.poll(0.1)
        yield
    finally:
        other.close()


@pytest.mark.parametrize(
    "properties",
    [{"partition_assignment_strategy": "range"}, {"partition_assignment_strategy": "roundrobin"}],
    ids=["range", "roundrobin"],
)
def test_a_member_with_another_assignor_is_told(
    cluster: KafkaCluster, connect: Connect, topic: str, properties: dict[str, str]
) -> None:
    broker = connect()
    broker.create_topic(topic)
    with member(cluster, topic, **properties):
        began = time.monotonic()
        with pytest.raises(ConfigurationError, match=r"partition\.assignment\.strategy"):
            broker.subscribe(topic)
        assert time.monotonic() - began < IN_TIME_SECONDS


def test_a_member_of_the_other_group_protocol_is_told(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    broker = connect()
    broker.create_topic(topic)
    with member(cluster, topic, group_protocol="consumer"):
        began = time.monotonic()
        with pytest.raises(ConfigurationError, match=r"group\.protocol=consumer"):
            broker.subscribe(topic)
        assert time.monotonic() - began < IN_TIME_SECONDS


def test_a_session_timeout_that_the_broker_refuses_is_told(connect: Connect, topic: str) -> None:
    broker = connect(consumer={"session.timeout.ms": "5000"})
    broker.create_topic(topic)
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"group\.min\.session\.timeout\.ms"):
        broker.subscribe(topic)
    assert time.monotonic() - began < IN_TIME_SECONDS
