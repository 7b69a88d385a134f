"""Topics of a Kafka cluster, the ends of their partitions, and its groups."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import (
    ConsumerGroupType,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from MessageBroker.broker_interface import is_dead_letter_topic
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.kafka.cluster import LEADER_POLL_SECONDS, REQUEST_TIMEOUT_SECONDS, Cluster
from MessageBroker.kafka.errors import Right, error_of, is_outage, look_up
from MessageBroker.kafka.settings import KAFKA_MAX_LETTER_BYTES, KAFKA_MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

# Internal topics: __consumer_offsets, _schemas and the like.
INTERNAL_PREFIX = "_"

_NEW_TOPIC_EXISTS = frozenset({KafkaError.TOPIC_ALREADY_EXISTS})
_NO_GROUP = frozenset({KafkaError.GROUP_ID_NOT_FOUND})
_NO_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION})


@dataclass(frozen=True)
class TopicSettings:
    """Section `[topic]` of `kafka_config.ini`: what new topics get.

    Attributes:
        num_partitions: so many consumers of one subscription can share its messages; -1 for the
            cluster's default.
        replication_factor: copies of each partition; -1 for the cluster's default.
    """

    num_partitions: int = 6
    replication_factor: int = -1


class KafkaAdmin:
    """Asks a cluster for its topics, and changes them. Any thread may call it."""

    def __init__(self, cluster: Cluster, topic: TopicSettings) -> None:
        """Prepare; nothing is asked yet.

        Args:
            cluster: the brokers.
            topic: what new topics get.
        """
        self._cluster = cluster
        self._topic = topic

    # ------------------------------------------------------------------ topics

    def topics(self) -> dict[str, list[int]]:
        """List all topics but the internal ones, with their partitions."""
        metadata = self._cluster.metadata(None)
        return {
            name: sorted(topic.partitions)
            for name, topic in metadata.topics.items()
            if not name.startswith(INTERNAL_PREFIX)
        }

    def partitions(self, topic: str) -> list[int] | None:
        """List the partitions of a topic; None if there is no such topic."""
        found = self._cluster.metadata(topic).topics.get(topic)
        if found is None or (found.error is not None and found.error.code() in _NO_TOPIC):
            return None
        if found.error is not None and not is_outage(found.error):
            raise self._cluster.explain(found.error, f"topic {topic!r}", look_up("topic", topic))
        return sorted(found.partitions)

    def topic_id(self, topic: str, timeout: float = REQUEST_TIMEOUT_SECONDS) -> str | None:
        """Tell which topic of its name this is; None if there is none.

        Empty where the cluster does not know, as before Apache Kafka 2.8.
        """
        try:
            with self._cluster.asking() as client:
                answers = client.describe_topics(TopicCollection([topic]), request_timeout=timeout)
                found = answers[topic].result().topic_id
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in _NO_TOPIC:
                return None
            right = look_up("topic", topic)
            raise self._cluster.explain(error, f"topic {topic!r}", right) from None
        is_known = found.get_most_significant_bits() or found.get_least_significant_bits()
        return str(found) if is_known else ""

    def with_leaders(self, topic: str) -> set[int]:
        """Return the partitions of a topic that can be used now: those that have a leader."""
        found = self._cluster.metadata(topic).topics.get(topic)
        if found is None:
            return set()
        return {number for number, each in found.partitions.items() if each.leader >= 0}

    def compacted(self, topics: Iterable[str]) -> list[str]:
        """Name those of `topics` of which Kafka keeps only the last message of each key.

        Where that may not be looked at (DESCRIBE_CONFIGS), none is named.

        Raises:
            BrokerUnavailableError: nobody answers.
        """
        found = self._cluster.setting_of_topics("cleanup.policy", topics)
        return [topic for topic, policy in found.items() if "compact" in policy]

    def create_topics(self, topics: Iterable[str]) -> set[str]:
        """Create the topics that are missing, in order; return the new ones.

        Returns when each partition of all has a leader.
        """
        created: set[str] = set()
        topics = list(topics)
        for topic in topics:
            if self.partitions(topic) is None and self._create(topic):
                created.add(topic)
        for topic in topics:
            self._wait_for_leaders(topic)
        return created

    def _create(self, topic: str) -> bool:
        config = {"max.message.bytes": str(KAFKA_MAX_MESSAGE_BYTES)}
        if is_dead_letter_topic(topic):
            config = {"max.message.bytes": str(KAFKA_MAX_LETTER_BYTES), "retention.ms": "-1"}
        new = NewTopic(
            topic,
            num_partitions=self._topic.num_partitions,
            replication_factor=self._topic.replication_factor,
            config=config,
        )
        # Another process may have been quicker.
        return self._change(
            lambda client: client.create_topics([new], request_timeout=REQUEST_TIMEOUT_SECONDS),
            Right("CREATE", "topic", topic, "or on the cluster"),
            "was not created",
            _NEW_TOPIC_EXISTS,
        )

    def _wait_for_leaders(self, topic: str) -> None:
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while True:
            if set(self.partitions(topic) or ()) == self.with_leaders(topic) != set():
                return
            if time.monotonic() >= deadline:
                raise BrokerUnavailableError(
                    f"{self._cluster.where}: topic {topic!r} has partitions without a leader after "
                    f"{REQUEST_TIMEOUT_SECONDS:g} s: check that enough brokers are up"
                )
            time.sleep(LEADER_POLL_SECONDS)

    def delete_topic(self, topic: str) -> bool:
        """Delete a topic and wait until it is gone; False if it was not there."""
        if self.partitions(topic) is None:
            return False
        if not self._change(
            lambda client: client.delete_topics([topic], request_timeout=REQUEST_TIMEOUT_SECONDS),
            Right("DELETE", "topic", topic),
            "was not deleted",
            _NO_TOPIC,
        ):
            return False
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while self.partitions(topic) is not None:
            if time.monotonic() >= deadline:
                logger.warning(
                    "%s: the deletion of topic %r has begun, and has not ended after %g s: check "
                    "that all brokers are up; until then nobody can make it again",
                    self._cluster.where,
                    topic,
                    REQUEST_TIMEOUT_SECONDS,
                )
                break
            time.sleep(LEADER_POLL_SECONDS)
        return True

    def delete_group(self, group: str) -> bool:
        """Delete a consumer group without members; False if it was not there."""
        return self._change(
            lambda client: client.delete_consumer_groups(
                [group], request_timeout=REQUEST_TIMEOUT_SECONDS
            ),
            Right("DELETE", "group", group),
            "was not deleted",
            _NO_GROUP,
        )

    def is_of_the_other_protocol(self, group: str) -> bool:
        """Tell whether a member of this group speaks the protocol of KIP-848, as far as we may see.

        A cluster may let both kinds into one group. All groups of that kind are listed: describing
        this one would ask its coordinator, and while that goes away the client library ends the
        whole process (https://github.com/confluentinc/librdkafka/issues/5040).
        """
        try:
            with self._cluster.asking() as client:
                found = client.list_consumer_groups(
                    types={ConsumerGroupType.CONSUMER}, request_timeout=REQUEST_TIMEOUT_SECONDS
                ).result()
        except KafkaException:  # no right to look, or a cluster that knows one kind only
            return False
        return any(each.group_id == group for each in found.valid)

    # ------------------------------------------------------------------ offsets

    def earliest(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return the first offset of each partition that retention has left."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())

    def latest(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return the offset that the next message of each partition will get."""
        return self._offsets(topic, partitions, OffsetSpec.latest())

    def _offsets(self, topic: str, partitions: Sequence[int], spec: OffsetSpec) -> dict[int, int]:
        request = {TopicPartition(topic, partition): spec for partition in partitions}
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while True:
            left = max(0.1, deadline - time.monotonic())
            try:
                with self._cluster.asking() as client:
                    answers = client.list_offsets(request, request_timeout=left)
                    return {each.partition: answers[each].result().offset for each in answers}
            except KafkaException as exception:
                error = error_of(exception)
                if not self._passes(error, topic) or time.monotonic() >= deadline:
                    tried, right = f"the offsets of topic {topic!r}", look_up("topic", topic)
                    raise self._cluster.explain(error, tried, right) from None
                time.sleep(LEADER_POLL_SECONDS)

    def _passes(self, error: KafkaError, topic: str) -> bool:
        """Tell whether an error of a partition passes by itself.

        Its leader has just changed, as after an outage; or has not heard yet of a new topic, of
        which other brokers tell that it leads it.
        """
        if error.code() in _NO_TOPIC:
            return self.partitions(topic) is not None
        return is_outage(error)

    def _change(
        self,
        ask: Callable[[AdminClient], Mapping[str, Future[None]]],
        right: Right,
        outcome: str,
        unless: Collection[int],
    ) -> bool:
        """Change a topic or a group; tell whether that was done.

        Args:
            ask: begins the change.
            right: what it needs, and to what.
            outcome: what to say of it where it fails.
            unless: with these codes there was nothing to change.
        """
        try:
            with self._cluster.asking() as client:
                ask(client)[right.name].result()
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in unless:
                return False
            tried = f"{right.kind} {right.name!r} {outcome}"
            raise self._cluster.explain(error, tried, right) from None
        return True
