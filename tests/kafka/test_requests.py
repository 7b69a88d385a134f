"""What a request to the brokers holds, as they write it to their disks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from MessageBroker.kafka.admin import TopicSettings
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect

MESSAGES, BODY = 3000, b"x" * 1000

# Half a region of the collector's, in heaps of up to 2 GiB: what is larger it calls humongous.
HUMONGOUS_BYTES = 512 * 1024


def record_batches(segment: Path) -> Iterator[int]:
    """Bytes of each record batch of a log: an offset, then the length of what follows."""
    log, at = segment.read_bytes(), 0
    while at < len(log):
        (length,) = struct.unpack_from(">i", log, at + 8)
        yield 12 + length
        at += 12 + length


def test_no_request_of_small_messages_is_humongous_for_a_broker(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    """With half a second for all to come into one request."""
    broker = connect(topic=TopicSettings(num_partitions=1), producer={"linger.ms": "500"})
    broker.create_topic(topic)
    for future in [broker.publish(topic, BODY) for _ in range(MESSAGES)]:
        future.result(30.0)

    batches = list(record_batches(cluster.log_of(topic)))
    assert sum(batches) > MESSAGES * len(BODY)
    assert HUMONGOUS_BYTES / 2 < max(batches) < HUMONGOUS_BYTES
