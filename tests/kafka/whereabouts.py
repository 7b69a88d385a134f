"""Where messages are that a subscription did not bring: what to know when a test misses some.

Three things may be wrong, and they look alike from outside: Kafka has lost what it confirmed, or
has it under other ids; the consumer passed it over; or it stands still before it.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from MessageBroker import Subscription
from MessageBroker.core.subscription import SubscriptionCore
from MessageBroker.kafka.records import id_of, place_of
from MessageBroker.kafka.stream import KafkaStream

ASK_SECONDS = 10.0


def whereabouts(subscription: Subscription, servers: str, topic: str, ids: Iterable[str]) -> str:
    """Tell, for each partition of these messages, what Kafka has and where its consumer is.

    Never raises for what Kafka does: it is called when something is wrong already.
    """
    missing: dict[int, list[str]] = {}
    for each in ids:
        missing.setdefault(place_of(each)[0], []).append(each)
    lines = []
    # As committed only: what a consumer may have.
    properties = {"bootstrap.servers": servers, "group.id": "a look", "enable.auto.commit": "false"}
    witness = Consumer({**properties, "enable.partition.eof": "true", "log_level": 0})
    try:
        for partition, names in sorted(missing.items()):
            lines.append(f"partition {partition} misses {len(names)} of it: {names[:20]}")
            for tell in (_in_kafka, _at_the_consumer):
                try:
                    lines.append(f"  {tell(witness, subscription, topic, partition, names)}")
                except (KafkaException, AttributeError, RuntimeError) as error:
                    lines.append(f"  {tell.__name__}: {error!r}")
    finally:
        witness.close()
    return "\n".join(lines)


def _in_kafka(
    witness: Consumer, _subscription: Subscription, topic: str, partition: int, names: list[str]
) -> str:
    low, high = witness.get_watermark_offsets(TopicPartition(topic, partition), ASK_SECONDS)
    first = min(place_of(each)[1] for each in names)
    witness.assign([TopicPartition(topic, partition, max(low, first))])
    found: set[str] = set()
    error: object = None
    while (record := witness.poll(ASK_SECONDS)) is not None:
        if (error := record.error()) is not None:
            break
        found.add(id_of(partition, record.offset() or 0, record.timestamp()[1]))
    there = sum(each in found for each in names)
    return (
        f"Kafka has offsets {low} to {high}, read by another consumer from {first}: "
        f"{len(found)} records up to {error}, {there} of the missing among them"
    )


def _at_the_consumer(
    _witness: Consumer, subscription: Subscription, topic: str, partition: int, _names: list[str]
) -> str:
    assert isinstance(subscription, SubscriptionCore)
    stream = subscription._stream
    assert isinstance(stream, KafkaStream)
    consumer = stream._consumer
    place = TopicPartition(topic, partition)
    client, tracker = consumer._client, consumer.assignment.trackers.get(partition)
    return (
        f"its consumer: position {client.position([place])[0].offset}, "
        f"committed {client.committed([place], ASK_SECONDS)[0].offset}, "
        f"ends as it was told {client.get_watermark_offsets(place, cached=True)}, "
        f"tracker {tracker and (tracker.stored_offset, tracker.position, tracker.at_end)}, "
        f"{len(consumer._buffer)} records wait, paused {sorted(consumer._pauses._paused)}, "
        f"assigned {sorted(each.partition for each in client.assignment())}"
    )
