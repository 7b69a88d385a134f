"""Topics of a Kafka cluster, and the ends of their partitions, through one admin client."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from MessageBroker.broker_interface import is_dead_letter_topic
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.kafka.errors import error_of, is_outage
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.settings import KAFKA_MAX_MESSAGE_BYTES, KafkaSettings

# All start-up errors come within 10 s; this leaves some for the client (s).
REQUEST_TIMEOUT_SECONDS = 9.0
# A look-up is asked again after this long, so that refused credentials are noticed at once (s).
LOOK_UP_SLICE_SECONDS = 0.5
# How soon to look again whether a new topic has its leaders (s).
LEADER_POLL_SECONDS = 0.05
# Internal topics: __consumer_offsets, _schemas and the like.
INTERNAL_PREFIX = "_"

_NEW_TOPIC_EXISTS = frozenset({KafkaError.TOPIC_ALREADY_EXISTS})
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
    """Asks the cluster, and says in our terms what went wrong. Any thread may call it."""

    def __init__(self, settings: KafkaSettings, topic: TopicSettings) -> None:
        self._settings = settings
        self._topic = topic
        self._events = ClientEvents(settings)
        self._lock = threading.Lock()
        self._connected: AdminClient | None = None
        self._where = f"Kafka at {settings.servers}"

    @property
    def _client(self) -> AdminClient:
        with self._lock:
            if self._connected is None:
                self._connected = self._events.open(AdminClient, self._settings.for_admin())
            return self._connected

    def serve(self) -> None:
        """Let the client's callbacks run: to be called now and then while nothing is asked."""
        if self._connected is not None:
            self._connected.poll(0)

    def close(self) -> None:
        """Let the client go."""
        with self._lock:
            self._connected = None

    # ------------------------------------------------------------------ topics

    def ping(self, timeout: float) -> None:
        """Raise unless the cluster answers and takes the credentials."""
        # One name, there or not: all topics of a large cluster would be megabytes.
        self._metadata("ping", timeout)

    def topics(self) -> dict[str, list[int]]:
        """List all topics but the internal ones, with their partitions."""
        metadata = self._metadata(None, REQUEST_TIMEOUT_SECONDS)
        return {
            name: sorted(topic.partitions)
            for name, topic in metadata.topics.items()
            if not name.startswith(INTERNAL_PREFIX)
        }

    def partitions(self, topic: str, timeout: float = REQUEST_TIMEOUT_SECONDS) -> list[int] | None:
        """List the partitions of a topic; None if there is no such topic."""
        found = self._metadata(topic, timeout).topics.get(topic)
        if found is None or (found.error is not None and found.error.code() in _NO_TOPIC):
            return None
        if found.error is not None and not is_outage(found.error):
            raise self._events.explain(found.error, f"{self._where}: topic {topic!r}")
        return sorted(found.partitions)

    def topic_id(self, topic: str, timeout: float = REQUEST_TIMEOUT_SECONDS) -> str | None:
        """Tell which topic of its name this is; None if there is none.

        Empty where the cluster does not know, as before Apache Kafka 2.8.
        """
        futures = self._client.describe_topics(TopicCollection([topic]), request_timeout=timeout)
        try:
            found = futures[topic].result().topic_id
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in _NO_TOPIC:
                return None
            raise self._events.explain(error, f"{self._where}: topic {topic!r}") from None
        self._events.answered()
        is_known = found.get_most_significant_bits() or found.get_least_significant_bits()
        return str(found) if is_known else ""

    def with_leaders(self, topic: str) -> set[int]:
        """Return the partitions of a topic that can be used now: those that have a leader."""
        found = self._metadata(topic, REQUEST_TIMEOUT_SECONDS).topics.get(topic)
        if found is None:
            return set()
        return {number for number, each in found.partitions.items() if each.leader >= 0}

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
            config["retention.ms"] = "-1"
        new = NewTopic(
            topic,
            num_partitions=self._topic.num_partitions,
            replication_factor=self._topic.replication_factor,
            config=config,
        )
        futures = self._client.create_topics([new], request_timeout=REQUEST_TIMEOUT_SECONDS)
        # Another process may have been quicker.
        return self._done(futures[topic], f"{topic!r} was not created", _NEW_TOPIC_EXISTS)

    def _wait_for_leaders(self, topic: str) -> None:
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while True:
            if set(self.partitions(topic) or ()) == self.with_leaders(topic) != set():
                return
            if time.monotonic() >= deadline:
                raise BrokerUnavailableError(
                    f"{self._where}: topic {topic!r} has partitions without a leader after "
                    f"{REQUEST_TIMEOUT_SECONDS:g} s: check that enough brokers are up"
                )
            time.sleep(LEADER_POLL_SECONDS)

    def delete_topic(self, topic: str) -> bool:
        """Delete a topic and wait until it is gone; False if it was not there."""
        if self.partitions(topic) is None:
            return False
        futures = self._client.delete_topics([topic], request_timeout=REQUEST_TIMEOUT_SECONDS)
        if not self._done(futures[topic], f"{topic!r} was not deleted", _NO_TOPIC):
            return False
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while self.partitions(topic) is not None and time.monotonic() < deadline:
            time.sleep(LEADER_POLL_SECONDS)
        return True

    # ------------------------------------------------------------------ offsets

    def earliest(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return the first offset of each partition that retention has left."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())

    def latest(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return the offset that the next message of each partition will get."""
        return self._offsets(topic, partitions, OffsetSpec.latest())

    def _offsets(self, topic: str, partitions: Sequence[int], spec: OffsetSpec) -> dict[int, int]:
        tried = f"{self._where}: the offsets of topic {topic!r}"
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while True:
            request = {TopicPartition(topic, partition): spec for partition in partitions}
            futures = self._client.list_offsets(request, request_timeout=REQUEST_TIMEOUT_SECONDS)
            try:
                found = {each.partition: future.result() for each, future in futures.items()}
            except KafkaException as exception:
                # A partition whose leader has just changed, as after an outage.
                error = error_of(exception)
                if not is_outage(error) or time.monotonic() >= deadline:
                    self._client.poll(0)
                    raise self._events.explain(error, tried) from None
                time.sleep(LEADER_POLL_SECONDS)
            else:
                self._events.answered()
                return {partition: int(each.offset) for partition, each in found.items()}

    # ------------------------------------------------------------------ asking

    def _done(self, answer: Future[None], topic_was: str, unless: Collection[int]) -> bool:
        """Tell whether a change of a topic was made; False for errors with these codes."""
        try:
            answer.result()
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in unless:
                return False
            raise self._events.explain(error, f"{self._where}: topic {topic_was}") from None
        return True

    def _metadata(self, topic: str | None, timeout: float) -> Any:
        """Ask for one topic, or for all."""
        deadline = time.monotonic() + timeout
        client = self._client
        while True:
            wait = max(0.01, min(LOOK_UP_SLICE_SECONDS, deadline - time.monotonic()))
            try:
                metadata = (
                    client.list_topics(topic=topic, timeout=wait)
                    if topic
                    else (client.list_topics(timeout=wait))
                )
            except KafkaException as exception:
                client.poll(0)
                error = error_of(exception)
                refusal = self._events.refusal(self._where)
                if refusal is not None:
                    raise refusal from None
                if time.monotonic() >= deadline or not is_outage(error):
                    raise self._events.explain(error, self._where) from None
            else:
                self._events.answered()
                return metadata
