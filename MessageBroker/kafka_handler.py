"""Apache Kafka: Confluent Cloud, and any other cluster.

Kafka remembers of a consumer group one offset a partition. All that the contract asks beyond that
is built on it: `kafka/assignment.py` turns acknowledgements in any order into that offset, the core
keeps nacked messages, and `kafka/membership.py` gives up what the group deals to another.

**Share groups** (KIP-932) acknowledge single messages in the broker. They would be another
`Stream`, opened by `_open_stream`: nothing else here or in the core would change. They keep no
order of keys and drop a message after five deliveries, so they cannot keep the contract yet.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.cloudevents import KAFKA_PREFIX
from MessageBroker.configuration import DeliverySettings, ini_file
from MessageBroker.core.broker import BrokerCore
from MessageBroker.core.driver import AwaitedBatch, Batch, Stream
from MessageBroker.environment import home_of, is_path, secret, variable
from MessageBroker.errors import (
    ConfigurationError,
    MessageNotFoundError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
    topic_not_found,
)
from MessageBroker.ini_file import IniFile
from MessageBroker.kafka.admin import KafkaAdmin, TopicSettings
from MessageBroker.kafka.cluster import Cluster
from MessageBroker.kafka.committed_offsets import GroupReader, GroupTopic
from MessageBroker.kafka.opening import open_stream
from MessageBroker.kafka.places import Place, read
from MessageBroker.kafka.property_checks import LOGIN, VARIABLES, check_login, names_a_file
from MessageBroker.kafka.publisher import KafkaPublisher
from MessageBroker.kafka.records import place_of
from MessageBroker.kafka.settings import KafkaSettings
from MessageBroker.kafka.stream import KafkaStream
from MessageBroker.message import Message

logger = logging.getLogger(__name__)

KAFKA_CONFIG = "kafka_config.ini"
# A topic that was there is believed to be gone only if it is missed for so long (s).
GONE_SECONDS = 3.0
GONE_POLL_SECONDS = 0.1

Found = TypeVar("Found")


class KafkaHandler(BrokerCore):
    """A cluster, a topic for a topic, and a consumer group for a subscription."""

    name = "kafka"
    cloudevents_prefix = KAFKA_PREFIX

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        producer: Mapping[str, str] | None = None,
        consumer: Mapping[str, str] | None = None,
        topic: TopicSettings | None = None,
        delivery: DeliverySettings | None = None,
    ) -> None:
        """Prepare; the clients connect when they are first used.

        Args:
            properties: librdkafka properties of all clients, `bootstrap.servers` among them.
            producer: properties of the producer alone.
            consumer: properties of consumers alone.
            topic: what new topics get.
            delivery: how messages are delivered; None for the defaults.

        Raises:
            ConfigurationError: no servers, or a property that would break a promise.
        """
        super().__init__(delivery)
        self._settings = KafkaSettings(properties, producer or {}, consumer or {})
        self._cluster = Cluster(self._settings)
        self._admin = KafkaAdmin(self._cluster, topic or TopicSettings())
        self._groups = GroupReader(self._settings)
        self._publisher: KafkaPublisher | None = None
        self._publisher_lock = threading.Lock()
        # Default subscriptions that are not there, with the id of their topic: deleted here, or not
        # asked for when the topic was made here. Kafka knows nothing of one that nobody has
        # consumed yet: until then it is there because its topic is.
        self._absent: dict[str, str] = {}

    @classmethod
    def from_config(cls, config_dir: Path, delivery: DeliverySettings) -> KafkaHandler:
        """Read `kafka_config.ini`; the environment variables of `VARIABLES` win over it."""
        ini = ini_file(config_dir, KAFKA_CONFIG, ("default", "producer", "consumer", "topic"))
        environment = _environment()
        properties = _section(ini, "default", environment)
        if "bootstrap.servers" not in properties:
            raise ConfigurationError(
                f"{ini.where('default', 'bootstrap.servers')} is missing: fill it in, or set "
                f"{VARIABLES['bootstrap.servers']}"
            )
        producer, consumer = (
            _section(ini, section, environment) for section in ("producer", "consumer")
        )
        handler = cls(
            properties,
            producer=producer,
            consumer=consumer,
            topic=_topic_settings(ini),
            delivery=delivery,
        )
        check_login({**properties, **producer, **consumer})
        return handler

    def __repr__(self) -> str:
        return f"KafkaHandler({self._settings!r})"

    # ------------------------------------------------------------------ topics

    def _create_topics(self, wanted: Mapping[str, str]) -> set[str]:
        created = self._admin.create_topics(wanted)
        self._known_topics.update(wanted)
        # Whoever makes sure of a topic is about to use it, and an idempotent producer needs half a
        # second before it may send: that time passes from here on.
        self._connect_publisher()
        for topic, group in wanted.items():
            self._absent.pop(group, None)
            # Kafka knows nothing of a group without an offset. That suits `<topic>-sub`, which
            # begins at the earliest message anyway; another group gets its offsets from a member.
            default = default_subscription(topic)
            if group != default and not self._has_offsets(topic, group):
                self._join(topic, group, from_the_beginning=topic in created).close([])
            if group != default and topic in created:
                self._absent[default] = self._found(topic, self._admin.topic_id)
        return created

    def _delete_topic(self, topic: str) -> bool:
        return self._admin.delete_topic(topic)  # the groups' offsets in it go with it

    def _list_topics(self) -> list[str]:
        return list(self._admin.topics())

    def _has_topic(self, topic: str) -> bool:
        return self._admin.partitions(topic) is not None

    def _partitions(self, topic: str) -> list[int]:
        return self._found(topic, self._admin.partitions)

    def _found(self, topic: str, ask: Callable[[str], Found | None]) -> Found:
        """Ask the cluster about a topic; several times, if that is known to be there.

        Of several brokers one learns of a new topic later than another.
        """
        deadline = time.monotonic() + (GONE_SECONDS if topic in self._known_topics else 0.0)
        while (found := ask(topic)) is None:
            if time.monotonic() >= deadline:
                raise self._no_topic(topic)
            time.sleep(GONE_POLL_SECONDS)
        return found

    def _consumed(
        self, topic: str, group: str, *, from_the_beginning: bool = True
    ) -> tuple[GroupTopic, list[int]]:
        """Return a topic with its group, and its partitions."""
        partitions, topic_id = self._partitions(topic), self._found(topic, self._admin.topic_id)
        servers = self._settings.servers
        return GroupTopic(topic, topic_id, group, servers, from_the_beginning), partitions

    def _no_topic(self, topic: str) -> TopicNotFoundError:
        self._known_topics.discard(topic)
        return topic_not_found(f"kafka: there is no topic {topic!r}", topic)

    # ------------------------------------------------------------------ publishing

    def _prepare_publishing(self, topic: str) -> None:
        self._connect_publisher().prepare(topic)

    def _send(self, batch: Batch) -> None:
        self._connect_publisher().send(batch)

    def _await(self, batch: AwaitedBatch) -> None:
        self._connect_publisher().await_settled(batch)

    def _connect_publisher(self) -> KafkaPublisher:
        with self._publisher_lock:
            if self._publisher is not None and self._publisher.is_at_its_end:
                self._publisher.retire()
                self._publisher = None
            if self._publisher is None:
                self._publisher = KafkaPublisher(self._settings, self._cluster, self._outage)
            return self._publisher

    # ------------------------------------------------------------------ consuming

    def _open_stream(self, topic: str, subscription_id: str) -> Stream:
        for name in self._admin.compacted([topic, dead_letter_topic(topic)]):
            logger.warning(
                "kafka: the topic %r is compacted: of the messages of a key only the last is kept, "
                "the others may never come, and a message without a key is refused: change it with "
                "`kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config "
                "cleanup.policy=delete`",
                name,
                name,
            )
        return self._join(
            topic,
            subscription_id,
            from_the_beginning=subscription_id == default_subscription(topic),
        )

    def _join(self, topic: str, group: str, *, from_the_beginning: bool) -> KafkaStream:
        self._absent.pop(group, None)
        consumed, partitions = self._consumed(topic, group, from_the_beginning=from_the_beginning)
        return open_stream(consumed, partitions, self._settings, self._admin, self._groups)

    def _has_offsets(self, topic: str, group: str) -> bool:
        consumed, partitions = self._consumed(topic, group)
        return set(partitions) <= set(self._groups.committed(consumed, partitions))

    def _delete_subscription(self, topic: str, subscription_id: str) -> bool:
        consumed, partitions = self._consumed(topic, subscription_id)
        # Also for its own sake: the client that deletes ends the process where the coordinator goes
        # away meanwhile, and this one shows that it is there.
        if not self._groups.committed(consumed, partitions):
            self._groups.require_own(consumed, self._admin.topics())
        was_there = self._admin.delete_group(subscription_id) or self._came_with(consumed)
        if subscription_id == default_subscription(topic):
            self._absent[subscription_id] = consumed.topic_id
        return was_there

    def _came_with(self, consumed: GroupTopic) -> bool:
        """Tell whether a subscription came with its topic, as far as this process knows."""
        is_default = consumed.group == default_subscription(consumed.topic)
        return is_default and self._absent.get(consumed.group) != consumed.topic_id

    def _backlog(self, topic: str, subscription_id: str) -> int:
        consumed, partitions = self._consumed(topic, subscription_id)
        committed = self._groups.committed(consumed, partitions)
        if not committed and not self._came_with(consumed):
            raise SubscriptionNotFoundError(
                f"kafka: there is no subscription {subscription_id!r} of the topic {topic!r}: "
                "subscribing creates it"
            )
        earliest = self._admin.earliest(topic, partitions)
        latest = self._admin.latest(topic, partitions)
        return sum(
            max(0, latest[each] - max(earliest[each], committed.get(each, 0)))
            for each in partitions
        )

    def _read_place(self, place: str) -> list[Message]:
        found = Place.of(place)
        if not self._has_topic(found.topic):
            raise MessageNotFoundError(f"kafka: there is no topic {found.topic!r} any more")
        return read(self._settings, found)

    def _published_since_now(self, topic: str) -> Callable[[Message], bool]:
        ends = self._admin.latest(topic, self._partitions(topic))

        def is_new(message: Message) -> bool:
            partition, offset = place_of(message.id)
            return offset >= ends.get(partition, 0)

        return is_new

    # ------------------------------------------------------------------ life cycle

    def _ping(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._cluster.ping(timeout, self._topics_to_ping)
        for topic in self.configured_topics:
            group = default_subscription(topic)
            error = self._groups.reach(topic, group, deadline)
            if error is not None:
                raise self._cluster.coordinator_away(error, group)

    def _shutdown(self, timeout: float) -> None:
        if self._publisher is not None:
            self._publisher.close(timeout)
        self._groups.close()
        self._cluster.close()


def _environment() -> dict[str, str]:
    """Return the properties that environment variables set."""
    properties = {}
    for name, each in VARIABLES.items():
        value = secret(each) if name in LOGIN else variable(each)
        if value is not None:
            properties[name] = str(home_of(value)) if names_a_file(name, value) else value
    return properties


def _section(ini: IniFile, section: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a section, over which the environment wins; its paths are relative to its file."""
    properties = ini.section(section, overrides=environment)
    for name, value in properties.items():
        if name not in environment and names_a_file(name, value):
            path = ini.path_of(value)
            # What is no path, a secret perhaps, shall not become one.
            properties[name] = str(path) if path.exists() or is_path(value) else value
    return properties


def _topic_settings(ini: IniFile) -> TopicSettings:
    values: dict[str, int] = {}
    for key, text in ini.section("topic", {"num_partitions", "replication_factor"}).items():
        try:
            values[key] = int(text)
        except ValueError:
            values[key] = 0
        if values[key] < -1 or values[key] == 0:
            raise ConfigurationError(
                f"{ini.where('topic', key)} must be a whole number from 1, or -1 "
                "for the cluster's default"
            )
    return TopicSettings(**values)
