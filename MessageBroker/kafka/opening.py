"""How a stream of Kafka's is made: with the clients that it needs, and joined to its group."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, TopicPartition

from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.commits import Commits
from MessageBroker.kafka.committed_offsets import GroupReader, GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.refused import span_finder
from MessageBroker.kafka.settings import KafkaSettings
from MessageBroker.kafka.stream import KafkaStream, OnCommit


def open_stream(
    consumed: GroupTopic,
    partitions: Sequence[int],
    settings: KafkaSettings,
    admin: KafkaAdmin,
    groups: GroupReader,
) -> KafkaStream:
    """Connect a consumer, and join its group.

    Args:
        consumed: the topic and the group.
        partitions: all that the topic has.
        settings: the clients' properties.
        admin: asks for the ends of partitions.
        groups: reads what the group has committed.

    Raises:
        ConfigurationError: the group consumes another topic, or a property is not taken.
        BrokerError: it could not join.
    """
    events = ClientEvents(settings, consumed.rights)

    def open_client(on_commit: OnCommit) -> Consumer:
        commits = Commits(consumed.where, events)

        def heard(error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
            commits.heard(error, partitions)
            on_commit(error, partitions)

        return events.open(Consumer, settings.for_consumer(consumed.group), on_commit=heard)

    stream = KafkaStream(
        open_client,
        events,
        admin,
        groups,
        consumed,
        settings.session_seconds,
        span_finder(settings, consumed),
    )
    try:
        stream.join(partitions)
    except BaseException:
        stream.close([])
        raise
    return stream
