"""The committed offsets of consumer groups: where each goes on in each partition.

They are read with a consumer that is a member of nothing. The admin client could read them too, but
it takes the whole process down when the group's coordinator has just moved
(https://github.com/confluentinc/librdkafka/issues/5040).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.broker_interface import SUBSCRIPTION_SUFFIX
from MessageBroker.errors import BrokerUnavailableError, ConfigurationError
from MessageBroker.kafka.errors import Right, error_of, is_outage, look_up
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.hearing import let_go
from MessageBroker.kafka.records import polled
from MessageBroker.kafka.settings import KafkaSettings

# All start-up errors come within 10 s; this leaves some for the client (s).
READ_TIMEOUT_SECONDS = 9.0
# A coordinator that moves or loads is asked again after this long (s).
RETRY_SECONDS = 0.1
# What closing may take beside one who waits for an answer (s).
CLOSE_SECONDS = 2.0
# How long to wait before listening for what keeps an answer away (s).
SLICE_SECONDS = 1.0

_PARTITIONS = "partitions at start"
_TOPIC_ID = "topic"


def read_committed(
    client: Consumer,
    events: ClientEvents,
    where: str,
    partitions: Mapping[str, Sequence[int]],
    *,
    joined: bool,
) -> list[TopicPartition]:
    """Read the committed offsets of a consumer's group.

    Args:
        client: a consumer.
        events: what it said in the background.
        where: the cluster and the group, for errors.
        partitions: topics to partitions to ask for.
        joined: whether the client is a member of its group. One that is none gets no messages, and
            may be polled for what keeps it from the group's coordinator.

    Returns:
        Those of the partitions in which the group has committed an offset, with it.

    Raises:
        BrokerUnavailableError, AuthenticationError: they cannot be read, within 10 s.
    """
    wanted = [TopicPartition(topic, each) for topic in partitions for each in partitions[topic]]
    deadline = time.monotonic() + READ_TIMEOUT_SECONDS
    while True:
        wait = READ_TIMEOUT_SECONDS if joined else SLICE_SECONDS
        try:
            found = client.committed(wanted, timeout=wait)
            failed = next((each.error for each in found if each.error is not None), None)
        except KafkaException as exception:
            failed = error_of(exception)
        if failed is None:
            break
        if not joined:
            failed = _heard(client, events) or failed
        refusal = events.refusal(where)
        if refusal is not None:
            raise refusal
        if not is_outage(failed) or time.monotonic() >= deadline:
            raise events.explain(failed, where)
        time.sleep(RETRY_SECONDS)
    events.answered()
    return [each for each in found if each.offset >= 0]


@dataclass(frozen=True)
class GroupTopic:
    """A topic, and the group that consumes it.

    Attributes:
        topic: an existing topic.
        topic_id: which one of its name it is.
        group: the consumer group.
        servers: of the cluster, for errors.
        from_the_beginning: where the group starts in a partition in which it has no committed
            offset yet: at the earliest message, or after the latest.
    """

    topic: str
    topic_id: str
    group: str
    servers: str
    from_the_beginning: bool

    @property
    def where(self) -> str:
        """The cluster, the topic and the group, for errors."""
        return f"Kafka at {self.servers}: topic {self.topic!r}, group {self.group!r}"

    @property
    def rights(self) -> tuple[Right, Right]:
        """What a consumer needs."""
        return Right("READ", "topic", self.topic), Right("READ", "group", self.group)


@dataclass(frozen=True)
class Note:
    """What a group writes beside its offsets, since Kafka itself cannot tell it.

    Attributes:
        partitions_at_start: how many the topic had when the group began. One that was added later
            then begins with its first message, in groups too that began at the end. None if that
            is not known.
        topic_id: which topic of its name it is. A consumer that is open while its topic is deleted
            and made again commits how far it was in the old one, which would skip messages of the
            new. Empty if that is not known.
    """

    partitions_at_start: int | None
    topic_id: str

    @classmethod
    def of(cls, committed: TopicPartition) -> Note:
        """Read what stands beside an offset; nothing is known if another program wrote it."""
        parts = (part.partition(": ") for part in (committed.metadata or "").split("; "))
        values = {name: value for name, _, value in parts}
        number = values.get(_PARTITIONS, "")
        return cls(int(number) if number.isdecimal() else None, values.get(_TOPIC_ID, ""))

    def __str__(self) -> str:
        parts = []
        if self.partitions_at_start is not None:
            parts.append(f"{_PARTITIONS}: {self.partitions_at_start}")
        if self.topic_id:
            parts.append(f"{_TOPIC_ID}: {self.topic_id}")
        return "; ".join(parts)


def require_own(
    client: Consumer,
    events: ClientEvents,
    consumed: GroupTopic,
    topics: Mapping[str, Sequence[int]],
) -> None:
    """Make sure that a group without a committed offset in its topic has none in another one.

    Args:
        client: a consumer of the group that is no member.
        events: what it said in the background.
        consumed: the topic and the group.
        topics: all that there are, with their partitions.

    Raises:
        ConfigurationError: the group consumes another topic.
        BrokerError: see `read_committed`.
    """
    topic, group = consumed.topic, consumed.group
    found = read_committed(client, events, consumed.where, topics, joined=False)
    owners = {each.topic for each in found}
    # `<topic>-sub` was made together with its topic, though nobody has used it yet.
    owner = group.removesuffix(SUBSCRIPTION_SUFFIX)
    if owner != group and owner in topics:
        owners.add(owner)
    others = sorted(owners - {topic})
    if others:
        raise ConfigurationError(
            f"kafka: the subscription {group!r} belongs to the topic {others[0]!r}: "
            f"choose another id for {topic!r}"
        )


def of_this_topic(committed: Sequence[TopicPartition], topic_id: str) -> list[TopicPartition]:
    """Leave out offsets in an earlier topic of the same name, as far as that is known."""
    return [each for each in committed if not topic_id or Note.of(each).topic_id in ("", topic_id)]


def _heard(client: Consumer, events: ClientEvents) -> KafkaError | None:
    """Let the callbacks of a client run; return an error that came in place of a message."""
    record = polled(client, 0)
    error = record.error() if record is not None else None
    if error is not None:
        events.heard(error)
    return error


class GroupReader:
    """Reads the committed offsets of any group. Any thread may call it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._events: dict[str, ClientEvents] = {}  # by group
        # Kept: connecting anew would cost a handshake for each look at a backlog.
        self._clients: dict[str, Consumer] = {}

    def read(self, consumed: GroupTopic, partitions: Sequence[int]) -> list[TopicPartition]:
        """Return those of `partitions` in which the group has committed an offset, with it."""
        wanted = {consumed.topic: partitions}
        with self._asking(consumed.topic, consumed.group) as (client, events):
            found = read_committed(client, events, consumed.where, wanted, joined=False)
        return of_this_topic(found, consumed.topic_id)

    def committed(self, consumed: GroupTopic, partitions: Sequence[int]) -> dict[int, int]:
        """Return the committed offsets of the group in those of `partitions` that have one."""
        return {each.partition: each.offset for each in self.read(consumed, partitions)}

    def require_own(self, consumed: GroupTopic, topics: Mapping[str, Sequence[int]]) -> None:
        """See the function of this name."""
        with self._asking(consumed.topic, consumed.group) as (client, events):
            require_own(client, events, consumed, topics)

    def reach(self, topic: str, group: str, deadline: float) -> KafkaError | None:
        """Ask the coordinator of a group for anything.

        Args:
            topic: the topic that the group consumes.
            group: the group; that it may not be looked at is an answer, too.
            deadline: when to give up, in monotonic seconds.

        Returns:
            What kept the answer away until then; None if there was one.

        Raises:
            BrokerUnavailableError: other threads were still asking then.
        """
        while True:
            left = deadline - time.monotonic()
            wait = max(0.01, min(SLICE_SECONDS, left))
            with self._asking(topic, group, left) as (client, events):
                try:
                    client.committed([TopicPartition(topic, 0)], timeout=wait)
                except KafkaException as exception:
                    failed = _heard(client, events) or error_of(exception)
                else:
                    events.answered()
                    return None
                if is_outage(failed) and time.monotonic() >= deadline:
                    self._let_go(group)
                    return failed
            if not is_outage(failed):
                return None
            time.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Let the clients go; one that is still asked goes once it has given up."""
        closing = threading.Thread(target=self._close, name="closing readers", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    @contextlib.contextmanager
    def _asking(
        self, topic: str, group: str, patience: float = READ_TIMEOUT_SECONDS
    ) -> Iterator[tuple[Consumer, ClientEvents]]:
        """Give a client of a group, for one thread at a time; another one after it was not heard.

        It may have let go of its brokers for good, and there is none to compare it with: see
        `hearing.Hearing`.
        """
        if not self._lock.acquire(timeout=max(0.0, patience)):
            raise BrokerUnavailableError(
                f"Kafka at {self._settings.servers}: the coordinator of the group {group!r} was "
                f"not asked within {patience:.3g} s: other threads still wait for an answer"
            )
        try:
            if group not in self._events:
                rights = look_up("topic", topic), look_up("group", group)
                self._events[group] = ClientEvents(self._settings, rights)
            events = self._events[group]
            if group not in self._clients:
                self._clients[group] = events.open(Consumer, self._settings.for_consumer(group))
            try:
                yield self._clients[group], events
            except BrokerUnavailableError:
                self._let_go(group)
                raise
        finally:
            self._lock.release()

    def _let_go(self, group: str) -> None:
        let_go(self._clients.pop(group).close)
