"""Foreign records that nobody can read, or that grow when they are unpacked: each costs itself."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource

from MessageBroker import Message, Subscription, dead_letters
from MessageBroker.__main__ import main
from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.conformance.stories import read_dead_letters, receive
from MessageBroker.dead_letters import Selection
from MessageBroker.kafka.admin import TopicSettings
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_server import KafkaCluster
from tests.brokers.raw_kafka import RawRecord, produce
from tests.kafka.conftest import Connect

PATIENCE_SECONDS = 30.0
# What the client unpacks at most: `receive.message.max.bytes` of the library's defaults.
BEYOND_THE_CLIENT = 101_000_000


def one_partition(connect: Connect, topic: str) -> KafkaHandler:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    return broker


def write(
    cluster: KafkaCluster, topic: str, *values: bytes, codec: str = "none", **record: object
) -> None:
    """Write records into one batch, as a foreign producer does that may do what it wants."""
    properties = {
        "bootstrap.servers": cluster.bootstrap_servers,
        "message.max.bytes": 500_000_000,
        "queue.buffering.max.kbytes": 1_000_000,
        "batch.size": 500_000_000,
        "linger.ms": 500,
        "compression.type": codec,
    }
    producer = Producer(properties)
    for value in values:
        producer.produce(topic, value, partition=0, **record)
    assert producer.flush(60) == 0


def collect(subscription: Subscription, until: Callable[[list[Message]], bool]) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until(messages):
        assert time.monotonic() < deadline, [each.data[:20] for each in messages]
        arrived = subscription.receive(100, 0.5)
        subscription.ack(arrived)
        messages += arrived
    return messages


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80"])
def test_a_header_name_that_is_no_text_costs_the_headers_only(
    cluster: KafkaCluster, connect: Connect, topic: str, name: bytes
) -> None:
    broker = one_partition(connect, topic)
    write(cluster, topic, b"before")
    record = RawRecord(b"value", b"key", [(b"good", b"1"), (name, b"v"), (b"more", None)])
    produce(cluster.bootstrap_servers, topic, 0, [record])
    write(cluster, topic, b"after")

    with broker.subscribe(topic) as subscription:
        before, unreadable, after = receive(subscription, 3)
        subscription.ack([before, unreadable, after])

    assert [before.data, unreadable.data, after.data] == [b"before", b"value", b"after"]
    assert (unreadable.key, unreadable.attributes) == ("key", {"unreadable-headers": "true"})


@pytest.mark.timeout(120)
def test_a_batch_that_the_client_refuses_is_one_letter_with_its_range(
    cluster: KafkaCluster, connect: Connect, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = one_partition(connect, topic)
    write(cluster, topic, b"before")
    # One batch of several records: together they unpack beyond every limit.
    write(cluster, topic, b"small", bytes(BEYOND_THE_CLIENT), b"small too", codec="zstd")
    write(cluster, topic, bytes(BEYOND_THE_CLIENT), codec="zstd")
    write(cluster, topic, b"after")

    with broker.subscribe(topic) as subscription:
        good = collect(subscription, lambda messages: len(messages) == 2)

    assert [each.data for each in good] == [b"before", b"after"]
    letters = sorted(read_dead_letters(broker, topic, 2), key=lambda each: each.id)
    places = {each.attributes["dead_letter_place"] for each in letters}
    assert places == {f"{topic}/0/1-3", f"{topic}/0/4"}
    for letter in letters:
        assert (letter.data, letter.attributes["dead_letter_body"]) == (b"", "absent")
        assert "dead_letter_bytes" not in letter.attributes
        assert "_BAD_COMPRESSION" in letter.attributes["dead_letter_error"]
    assert broker.backlog(topic) == 0
    told = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(told) == 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_bodies_too_large_to_be_dead_lettered_hold_nobody_up(
    cluster: KafkaCluster, connect: Connect, topic: str, codec: str
) -> None:
    broker = one_partition(connect, topic)
    body = bytes(20_000_000)
    for _ in range(4):
        write(cluster, topic, body, codec=codec, key=b"k", headers={"ce_id": b"7"})
    write(cluster, topic, *(b"good" for _ in range(40)))

    good = 0
    with broker.subscribe(topic) as subscription:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while good < 40:
            assert time.monotonic() < deadline
            messages = subscription.receive(256, 0.5)
            bad = [each for each in messages if each.data != b"good"]
            assert subscription.dead_letter(bad, "no image") == len(bad)
            subscription.ack([each for each in messages if each.data == b"good"])
            good += len(messages) - len(bad)

    letters = read_dead_letters(broker, topic, 4)
    attributes = letters[0].attributes
    assert (letters[0].data, letters[0].key, attributes["ce_id"]) == (b"", "k", "7")
    assert attributes["dead_letter_bytes"] == "20000000"
    assert attributes["dead_letter_sha256"] == hashlib.sha256(body).hexdigest()
    assert {each.attributes["dead_letter_place"] for each in letters} == {
        f"{topic}/0/{offset}" for offset in range(4)
    }
    assert broker.backlog(topic) == 0


def test_a_letter_that_grows_on_its_way_goes_without_its_body(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    """A header of bytes becomes three times as long when it is percent-encoded."""
    broker = one_partition(connect, topic)
    body = bytes(range(256)) * 4096
    write(cluster, topic, body, headers={"bytes": b"\xff" * 3_500_000, "ce_id": b"7"})
    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter(receive(subscription, 1), "no image") == 1

    (letter,) = read_dead_letters(broker, topic, 1)
    assert letter.data == b""
    assert letter.attributes["dead_letter_bytes"] == str(len(body))
    assert letter.attributes["ce_id"] == "7"
    assert len(letter.attributes["bytes"].encode()) <= 1024


def test_a_foreign_dead_letter_topic_of_a_small_limit_takes_every_letter(
    cluster: KafkaCluster, connect: Connect, admin: AdminClient, topic: str
) -> None:
    broker = one_partition(connect, topic)
    limit = ConfigResource(
        ConfigResource.Type.TOPIC,
        dead_letter_topic(topic),
        set_config={"max.message.bytes": "4000", "retention.ms": "-1"},
    )
    for future in admin.alter_configs([limit]).values():
        future.result(20)
    headers = {f"n{number}": os.urandom(900) for number in range(20)}
    write(cluster, topic, os.urandom(100_000), headers=headers)
    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter(receive(subscription, 1), "no image") == 1

    (letter,) = read_dead_letters(broker, topic, 1)
    assert letter.attributes["dead_letter_place"] == f"{topic}/0/0"


@pytest.mark.timeout(120)
def test_a_batch_that_was_damaged_on_a_disk_is_a_letter_and_the_rest_flows(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    broker = one_partition(connect, topic)
    write(cluster, topic, *(b"before %d" % number for number in range(3)))
    write(cluster, topic, *(b"damaged %d" % number for number in range(5)))
    write(cluster, topic, *(b"after %d" % number for number in range(3)))
    log = cluster.log_of(topic)
    content = bytearray(log.read_bytes())
    content[content.index(b"damaged 2")] ^= 0xFF
    log.write_bytes(content)  # as it is read next: the broker's own pages are the file's

    with broker.subscribe(topic) as subscription:
        good = collect(subscription, lambda messages: len(messages) == 6)

    assert sorted(each.data[:5] for each in good) == [b"after"] * 3 + [b"befor"] * 3
    (letter,) = read_dead_letters(broker, topic, 1)
    assert letter.attributes["dead_letter_place"] == f"{topic}/0/3-7"


@pytest.mark.timeout(120)
def test_a_letter_without_its_body_is_replayed_from_the_place_that_it_names(
    cluster: KafkaCluster, connect: Connect, admin: AdminClient, topic: str
) -> None:
    broker = one_partition(connect, topic)
    small = ConfigResource(
        ConfigResource.Type.TOPIC,
        dead_letter_topic(topic),
        set_config={"max.message.bytes": "4000", "retention.ms": "-1"},
    )
    for future in admin.alter_configs([small]).values():
        future.result(20)
    body = os.urandom(100_000)
    write(cluster, topic, body, key=b"k", headers={"label": b"7"})
    write(cluster, topic, bytes(20_000_000), codec="zstd")
    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter(receive(subscription, 2), "no image") == 2

    outcome = dead_letters.replay(connect(delivery=dead_letters.READING), topic, Selection())

    # What no topic takes from us stays, with its reason; the other one is back.
    assert (outcome.selected, outcome.kept) == (1, 1)
    (failure,) = outcome.failures.values()
    assert "max.message.bytes" in failure
    with broker.subscribe(topic) as subscription:
        (back,) = receive(subscription, 1)
        subscription.ack([back])
    assert (back.data, back.key, back.attributes["label"]) == (body, "k", "7")
    assert not any(name.startswith("dead_letter") for name in back.attributes)


@pytest.mark.timeout(120)
def test_a_place_that_is_no_more_is_told_and_the_letter_stays(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    broker = one_partition(connect, topic)
    write(cluster, topic, bytes(20_000_000), codec="zstd")
    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter(receive(subscription, 1), "no image") == 1
    broker.delete_topic(topic)
    broker.create_topic(topic)
    broker.publish(topic, b"another").result()

    outcome = dead_letters.replay(connect(delivery=dead_letters.READING), topic, Selection())

    assert (outcome.selected, outcome.kept) == (0, 1)
    assert "another message" in next(iter(outcome.failures.values()))


@pytest.mark.timeout(120)
def test_the_bytes_of_a_letter_are_saved_from_its_place_and_1_if_they_are_gone(
    cluster: KafkaCluster, connect: Connect, topic: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers)
    broker = one_partition(connect, topic)
    body = bytes(20_000_000)
    write(cluster, topic, body, codec="zstd", headers={"ce_id": b"7"})
    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter(receive(subscription, 1), "no image") == 1
    file = tmp_path / "body"
    save = ["dead-letters", "save", "7", topic, "--broker", "kafka", "--output", str(file)]

    assert main(save) == 0
    assert file.read_bytes() == body

    broker.delete_topic(topic)
    assert main(save) == 1
    assert "no topic" in capsys.readouterr().err
