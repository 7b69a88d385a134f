"""Topics of a Kafka cluster, and the ends of their partitions, through one admin client."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    ConsumerGroupType,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from MessageBroker.broker_interface import is_dead_letter_topic
from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.diagnosis import error_of_finding
from MessageBroker.kafka.errors import Right, error_of, is_outage, look_up
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.listener_probe import MAX_ADDRESSES, look_at, look_at_one
from MessageBroker.kafka.settings import (
    KAFKA_MAX_LETTER_BYTES,
    KAFKA_MAX_MESSAGE_BYTES,
    KafkaSettings,
)

# All start-up errors come within 10 s; this leaves some for the client (s).
REQUEST_TIMEOUT_SECONDS = 9.0
# A look-up is asked again after this long, so that refused credentials are noticed at once (s).
LOOK_UP_SLICE_SECONDS = 0.5
# One that nobody answered for so long, though asked, is made anew: it may hear of no broker
# any more (`hearing.Hearing`), and there is none to compare it with (s).
DEAF_SECONDS = 15.0
# The brokers that lead partitions are asked again after this long (s).
LEADER_SLICE_SECONDS = 1.0
# How soon to look again whether a new topic has its leaders (s).
LEADER_POLL_SECONDS = 0.05
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
    """Asks the cluster, and says in our terms what went wrong. Any thread may call it."""

    def __init__(self, settings: KafkaSettings, topic: TopicSettings) -> None:
        self._settings = settings
        self._topic = topic
        self._events = ClientEvents(settings)
        self._lock = threading.Lock()
        self._connected: AdminClient | None = None
        self._brokers: Sequence[Any] = ()  # as the cluster last told them
        self._worked = False  # a broker at such an address has answered
        self._last_answer = 0.0  # or when the client was made
        self._where = f"Kafka at {settings.servers}"

    @property
    def _client(self) -> AdminClient:
        with self._lock:
            if self._connected is None:
                self._connected = self._events.open(AdminClient, self._settings.for_admin())
                self._last_answer = time.monotonic()
            return self._connected

    def serve(self) -> None:
        """Let the client's callbacks run: to be called now and then while nothing is asked."""
        client = self._connected
        if client is not None:
            client.poll(0)

    def close(self) -> None:
        """Let the client go."""
        with self._lock:
            self._connected = None

    def _answered(self) -> None:
        self._last_answer = time.monotonic()
        self._events.answered()

    def _unanswered(self) -> None:
        """Begin with another client where this one was asked in vain for long."""
        if time.monotonic() - self._last_answer <= DEAF_SECONDS:
            return
        with self._lock:
            deaf, self._connected = [self._connected], None
        # It goes with the last one that knows it, and that may take long.
        threading.Thread(target=deaf.clear, name="closing a deaf client", daemon=True).start()

    # ------------------------------------------------------------------ topics

    def ping(self, timeout: float, topics: Sequence[str] = ()) -> None:
        """Raise unless the cluster answers, takes the credentials, and so do those that lead.

        Args:
            timeout: seconds.
            topics: those of them that are there, and may be looked at, are asked for.
        """
        deadline = time.monotonic() + timeout
        led: dict[int, TopicPartition] = {}
        # One name, there or not: all topics of a large cluster would be megabytes.
        for topic in topics or ("ping",):
            left = max(0.1, deadline - time.monotonic())
            metadata = self._metadata(topic, left)
            found = metadata.topics.get(topic)
            for number, partition in found.partitions.items() if found else ():
                if partition.leader >= 0:
                    led[partition.leader] = TopicPartition(topic, number)
        if topics and led:
            self._ask_the_leaders(led, deadline)

    def _ask_the_leaders(self, led: Mapping[int, TopicPartition], deadline: float) -> None:
        """Ask each broker for an offset in a partition that it leads."""
        looked = False
        while True:
            left = max(0.1, min(LEADER_SLICE_SECONDS, deadline - time.monotonic()))
            request = {each: OffsetSpec.latest() for each in led.values()}
            answers = self._client.list_offsets(request, request_timeout=left)
            failed = [each for each in map(_failure_of, answers.values()) if each is not None]
            away = [error for error in failed if is_outage(error)]
            if not away:  # a right that is missing is an answer, too
                self._worked = True
                return
            late = time.monotonic() >= deadline
            if late or not looked:
                self._look_for_faults(late=late)
                looked = True
            if late:
                raise self._events.explain(away[0], f"{self._where}: the leaders of its partitions")
            time.sleep(LEADER_POLL_SECONDS)

    def coordinator_away(self, error: KafkaError, group: str) -> BrokerError:
        """Return the error for a group whose coordinator does not answer."""
        try:
            self._look_for_faults(late=True)
        except BrokerError as found:
            return found
        return self._events.explain(
            error, f"{self._where}: the coordinator of the group {group!r} does not answer"
        )

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
            tried = f"{self._where}: topic {topic!r}"
            raise self._events.explain(found.error, tried, look_up("topic", topic))
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
            if is_outage(error):
                self._unanswered()
            tried = f"{self._where}: topic {topic!r}"
            raise self._events.explain(error, tried, look_up("topic", topic)) from None
        self._answered()
        self._worked = True
        is_known = found.get_most_significant_bits() or found.get_least_significant_bits()
        return str(found) if is_known else ""

    def with_leaders(self, topic: str) -> set[int]:
        """Return the partitions of a topic that can be used now: those that have a leader."""
        found = self._metadata(topic, REQUEST_TIMEOUT_SECONDS).topics.get(topic)
        if found is None:
            return set()
        return {number for number, each in found.partitions.items() if each.leader >= 0}

    def compacted(self, topics: Iterable[str]) -> list[str]:
        """Name those of `topics` of which Kafka keeps only the last message of each key.

        Where that may not be looked at (DESCRIBE_CONFIGS), none is named.
        """
        asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        answers = self._client.describe_configs(asked, request_timeout=REQUEST_TIMEOUT_SECONDS)
        found = []
        for resource, answer in answers.items():
            with contextlib.suppress(KafkaException):
                if "compact" in answer.result()["cleanup.policy"].value:
                    found.append(str(resource.name))
        return found

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
        futures = self._client.create_topics([new], request_timeout=REQUEST_TIMEOUT_SECONDS)
        # Another process may have been quicker.
        right = Right("CREATE", "topic", topic, "or on the cluster")
        return self._done(futures[topic], right, "was not created", _NEW_TOPIC_EXISTS)

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
        right = Right("DELETE", "topic", topic)
        if not self._done(futures[topic], right, "was not deleted", _NO_TOPIC):
            return False
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while self.partitions(topic) is not None and time.monotonic() < deadline:
            time.sleep(LEADER_POLL_SECONDS)
        return True

    def delete_group(self, group: str) -> bool:
        """Delete a consumer group without members; False if it was not there."""
        futures = self._client.delete_consumer_groups(
            [group], request_timeout=REQUEST_TIMEOUT_SECONDS
        )
        return self._done(
            futures[group], Right("DELETE", "group", group), "was not deleted", _NO_GROUP
        )

    def is_of_the_other_protocol(self, group: str) -> bool:
        """Tell whether a member of this group speaks the protocol of KIP-848, as far as we may see.

        A cluster may let both kinds into one group. All groups of that kind are listed: describing
        this one would ask its coordinator, and while that goes away the client library ends the
        whole process (https://github.com/confluentinc/librdkafka/issues/5040).
        """
        try:
            found = self._client.list_consumer_groups(
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
                    raise self._events.explain(error, tried, look_up("topic", topic)) from None
                time.sleep(LEADER_POLL_SECONDS)
            else:
                self._answered()
                self._worked = True
                return {partition: int(each.offset) for partition, each in found.items()}

    # ------------------------------------------------------------------ asking

    def _done(
        self, answer: Future[None], right: Right, outcome: str, unless: Collection[int]
    ) -> bool:
        """Tell whether a change of a topic was made; False for errors with these codes."""
        try:
            answer.result()
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in unless:
                return False
            tried = f"{self._where}: {right.kind} {right.name!r} {outcome}"
            raise self._events.explain(error, tried, right) from None
        return True

    def _metadata(self, topic: str | None, timeout: float) -> Any:
        """Ask for one topic, or for all."""
        deadline = time.monotonic() + timeout
        client = self._client
        looked = False
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
                refusal = self._events.refusal(self._where)
                late = time.monotonic() >= deadline
                if late:
                    self._unanswered()
                if late or refusal is not None or not looked:
                    self._look_for_faults(late=late)
                    looked = True
                if refusal is not None:
                    raise refusal from None
                if late or not is_outage(error_of(exception)):
                    raise self._events.explain(error_of(exception), self._where) from None
            else:
                self._answered()
                self._brokers = list(metadata.brokers.values())
                return metadata

    def _look_for_faults(self, *, late: bool) -> None:
        """Look why nobody answers; raise what is wrong, and what may pass only if it is late.

        Settings that have worked once are right: whatever it is then, it is waited for.
        """
        properties = self._settings.connecting
        finding, told = look_at(self._settings.servers, properties), False
        for broker in self._brokers[:MAX_ADDRESSES]:
            if finding is None:
                finding, told = look_at_one(broker.host, broker.port, properties), True
        if finding is None or not (late or (not finding.fault.may_pass and not self._worked)):
            return
        tls = properties.get("security.protocol", "").lower().endswith("ssl")
        error = error_of_finding(finding, self._settings.servers, tls=tls, told=told)
        raise (BrokerUnavailableError(str(error)) if self._worked else error) from None


def _failure_of(answer: Future[Any]) -> KafkaError | None:
    try:
        answer.result()
    except KafkaException as exception:
        return error_of(exception)
    return None
