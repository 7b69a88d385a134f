"""Records of programs that never heard of this project."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from MessageBroker.kafka.records import attributes_of, key_of, text_of, time_of
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect


def test_of_headers_with_one_name_the_last_wins() -> None:
    assert attributes_of([("a", b"1"), ("b", b"2"), ("a", b"3")]) == {"a": "3", "b": "2"}


def test_a_header_without_a_value_is_empty_text() -> None:
    assert attributes_of([("a", None), ("b", b"2")]) == {"a": "", "b": "2"}


def test_a_header_that_is_no_text_is_percent_encoded() -> None:
    assert attributes_of([("trace", b"\xff\x00a")]) == {"trace": "%FF%00a"}


def test_an_empty_key_is_none() -> None:
    assert key_of(b"") is None


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62])
def test_any_timestamp_makes_a_time(timestamp: int) -> None:
    assert time_of(timestamp).tzinfo is not None


@given(st.binary())
def test_any_bytes_make_text(value: bytes) -> None:
    text_of(value).encode()


def test_a_foreign_record_arrives(cluster: KafkaCluster, connect: Connect, topic: str) -> None:
    broker = connect()
    broker.create_topic(topic)
    foreign = Producer({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    headers = [("a", b"1"), ("a", b"2"), ("none", None), ("raw", b"\xff")]
    foreign.produce(topic, value=None, key=b"\xfe", headers=headers)
    foreign.flush()

    with broker.subscribe(topic) as subscription:
        (message,) = subscription.receive(1, 10.0)

    assert message.data == b""
    assert message.key == "%FE"
    assert message.attributes == {"a": "2", "none": "", "raw": "%FF"}
