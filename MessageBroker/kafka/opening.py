"""How a stream of Kafka's is made: with the clients that it needs, and joined to its group."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer

from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.commits import Commits
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.refused import span_finder
from MessageBroker.kafka.settings import KafkaSettings
from MessageBroker.kafka.stream import KafkaStream


def open_stream(
    consumed: GroupTopic, partitions: Sequence[int], settings: KafkaSettings, admin: KafkaAdmin
) -> KafkaStream:
    """Connect a consumer, and join its group.

    Args:
        consumed: the topic and the group.
        partitions: all that the topic has.
        settings: the clients' properties.
        admin: asks for the ends of partitions.

    Raises:
        ConfigurationError: the group consumes another topic, or a property is not taken.
        BrokerError: it could not join.
    """
    events = ClientEvents(settings, consumed.rights)

    def open_client() -> Consumer:
        commits = Commits(consumed.where, events)
        properties = settings.for_consumer(consumed.group)
        return events.open(Consumer, properties, on_commit=commits.heard)

    find_span = span_finder(settings, consumed)
    stream = KafkaStream(open_client, events, admin, consumed, settings.session_seconds, find_span)
    try:
        stream.join(partitions)
    except BaseException:
        stream.close([])
        raise
    return stream
