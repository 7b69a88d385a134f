"""Clients that do at once what those of a cluster do, and fail when told to."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from MessageBroker import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.committed_offsets import GroupTopic

TOPIC = "topic"


class Hanging:
    """A call that hangs.

    Attributes:
        begun: it was called.
        answers: it goes on when this is set.
        ended: it has gone on, or was waited for too long.
    """

    def __init__(self) -> None:
        self.begun, self.answers, self.ended = (threading.Event() for _ in range(3))

    def __call__(self) -> None:
        self.begun.set()
        self.answers.wait(10)
        self.ended.set()

    @property
    def hangs(self) -> bool:
        return self.begun.is_set() and not self.ended.is_set()


class FrozenError(BaseException):
    """The real client would never return from here, with the interpreter's lock in its hands."""


class FakeRecord:
    """One record of the fake log."""

    def __init__(
        self, partition: int, offset: int, body: bytes, on_read: Callable[[], None]
    ) -> None:
        self._place = (partition, offset)
        self._body = body
        self._on_read = on_read

    def __len__(self) -> int:
        return len(self._body)

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def value(self) -> bytes:
        self._on_read()
        return self._body

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000

    def error(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def key(self) -> None:
        return None


class FakeConsumer:
    """A `confluent_kafka.Consumer` over lists of records.

    Attributes:
        log: the records of each partition.
        owned: what the group deals to this consumer, told when it is polled next.
        empty_deals: so many times it joins and is dealt nothing, as of a topic that is too new.
        committed_offsets: by partition.
        stored: what `store_offsets` was told, by partition.
        taken: how many records it has given.
        faults: by the name of a method, what its next calls raise.
        commit_error: the answer to every commit.
        commits: how many were asked for.
        on_commit: told of commits that nobody waited for, when it is polled next.
        on_poll: called whenever it is polled, first of all.
        on_read: called whenever the body of a record is read.
        on_ask: called whenever it asks a broker for metadata.
        closed: it was closed, and told all that it had to tell.
    """

    def __init__(self, log: dict[int, list[bytes]]) -> None:
        self.log = {
            partition: [
                FakeRecord(partition, offset, body, lambda: self.on_read())
                for offset, body in enumerate(bodies)
            ]
            for partition, bodies in log.items()
        }
        self.owned: set[int] = set(log)
        self.empty_deals = 0
        self.committed_offsets: dict[int, int] = {}
        self.stored: dict[int, int] = {}
        self.taken = 0
        self.faults: defaultdict[str, list[BaseException]] = defaultdict(list)
        self.commit_error: KafkaError | None = None
        self.on_commit: Callable[[KafkaError | None, list[TopicPartition]], None]
        self.commits = 0
        self._commits: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self.on_poll: Callable[[], None] = lambda: None
        self.on_read: Callable[[], None] = lambda: None
        self.on_ask: Callable[[], None] = lambda: None
        self.closed = False
        self._callbacks: dict[str, Callable[..., None]] = {}
        self._subscribed = False
        self._given_back: set[int] = set()
        self._ended = False  # of what is asked from now on nothing is answered
        self._dealt: set[int] = set()
        self._positions: dict[int, int] = {}

    def list_topics(self, _topic: str, _timeout: float) -> None:
        self.on_ask()
        self._fail("list_topics")

    # ------------------------------------------------------------------ the group

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        assert topics == [TOPIC]
        self._callbacks, self._subscribed = callbacks, True

    def unsubscribe(self) -> None:
        self._fail("unsubscribe")
        self._subscribed = False
        self._given_back |= self._dealt

    def assignment(self) -> list[TopicPartition]:
        self._answer()
        return [TopicPartition(TOPIC, each) for each in self._positions]

    def incremental_assign(self, starts: Sequence[TopicPartition]) -> None:
        self._positions.update({each.partition: each.offset for each in starts})

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        self._answer()
        for each in partitions:
            del self._positions[each.partition]

    def _answer(self) -> None:
        if self._ended:
            raise FrozenError

    def _tell(self, callback: str, partitions: set[int]) -> None:
        if partitions:
            named = [TopicPartition(TOPIC, each) for each in sorted(partitions)]
            self._dealt ^= partitions
            self._callbacks[callback](self, named)

    # ------------------------------------------------------------------ fetching

    def consume(self, count: int, timeout: float) -> list[FakeRecord]:
        assert timeout == 0
        self.on_poll()
        while self._commits:
            self.on_commit(*self._commits.pop(0))
        self._tell("on_revoke", self._dealt - self.owned)
        self._tell("on_revoke", self._dealt & self._given_back)
        self._given_back.clear()
        if self._subscribed and self.empty_deals:
            self.empty_deals -= 1
            self._subscribed = False  # until it joins anew
            self._callbacks["on_assign"](self, [])
        elif self._subscribed:
            self._tell("on_assign", self.owned - self._dealt)
        records: list[FakeRecord] = []
        for partition in list(self._positions):
            ahead = self.log[partition][self._positions[partition] :][: count - len(records)]
            self._positions[partition] += len(ahead)
            records += ahead
        self.taken += len(records)
        self._fail("consume")
        return records

    def poll(self, timeout: float) -> FakeRecord | None:
        return next(iter(self.consume(1, 0)), None)

    def seek(self, place: TopicPartition) -> None:
        self._fail("seek")
        self._positions[place.partition] = place.offset

    # ------------------------------------------------------------------ offsets

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        offsets = self.committed_offsets
        return [
            TopicPartition(each.topic, each.partition, offsets.get(each.partition, -1001))
            for each in wanted
        ]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.commits += 1
        if self.commit_error is None:
            self.committed_offsets.update({each.partition: each.offset for each in offsets})
        if asynchronous:
            self._commits.append((self.commit_error, offsets))
        elif self.commit_error is not None:
            raise KafkaException(self.commit_error)
        return offsets

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        self._fail("store_offsets")
        self.stored.update({each.partition: each.offset for each in offsets})

    def close(self) -> None:
        """Tell of all changes that were not told yet; the first one is the last that counts."""
        for gone in (self._dealt - self.owned, self._dealt & self.owned):
            if gone:
                self._tell("on_revoke", gone)
                self._ended = True
        self.closed = True

    def _fail(self, method: str) -> None:
        if self.faults[method]:
            raise self.faults[method].pop(0)


class FakeAdmin:
    """What a `KafkaAdmin` tells of the topic of a `FakeConsumer`.

    Attributes:
        faults: what the next look-ups of where partitions begin raise.
        on_ask: called whenever such a look-up begins.
        is_away: no broker answers.
    """

    def __init__(self, client: FakeConsumer) -> None:
        self._client = client
        self.on_ask: Callable[[], None] = lambda: None
        self.faults: list[BrokerError] = []
        self.is_away = False

    def topics(self) -> dict[str, list[int]]:
        return {TOPIC: list(self._client.log)}

    def partitions(self, topic: str) -> list[int]:
        return list(self._client.log)

    def topic_id(self, *_arguments: Any) -> str:
        if self.is_away:
            raise BrokerUnavailableError("nobody answers")
        return "id"

    def with_leaders(self, topic: str) -> set[int]:
        return set(self._client.log)

    def is_of_the_other_protocol(self, _group: str) -> bool:
        return False

    def earliest(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        self.on_ask()
        if self.faults:
            raise self.faults.pop(0)
        return dict.fromkeys(partitions, 0)

    def latest(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return {each: len(self._client.log[each]) for each in partitions}


class FakeGroups:
    """What a `GroupReader` reads of the group of a `FakeConsumer`.

    Attributes:
        on_read: called whenever it is asked.
    """

    def __init__(self, client: FakeConsumer) -> None:
        self._client = client
        self.on_read: Callable[[], None] = lambda: None

    def read(self, consumed: GroupTopic, partitions: Sequence[int]) -> list[TopicPartition]:
        self.on_read()
        wanted = [TopicPartition(consumed.topic, each) for each in partitions]
        return [each for each in self._client.committed(wanted, 0) if each.offset >= 0]


class DeafProducer:
    """Takes messages, and hears of no broker.

    Attributes:
        faults: what its next polls raise.
    """

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self._waiting: list[Callable[[KafkaError | None, Any], None]] = []
        self._purged: list[Callable[[KafkaError | None, Any], None]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._purged)

    def produce(self, *_arguments: Any, **named: Any) -> None:
        self._waiting.append(named["on_delivery"])

    def list_topics(self, *_arguments: Any, **_named: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def purge(self) -> None:
        self._purged, self._waiting = self._waiting, []

    def poll(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.001))
        if self.faults:
            raise self.faults.pop()
        purged, self._purged = self._purged, []
        for settle in purged:
            settle(KafkaError(KafkaError._PURGE_QUEUE), None)

    flush = poll


class SupposingProducer(DeafProducer):
    """Confirms the first message without a place, as the client does what it only supposes."""

    def __init__(self) -> None:
        super().__init__()
        self.produced = 0

    def produce(self, *_arguments: Any, **named: Any) -> None:
        self.produced += 1
        super().produce(**named)

    def poll(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.001))
        confirmed, self._waiting = self._waiting, []
        for settle in confirmed:
            offset: Any = None if self.produced == 1 else self.produced
            settle(None, FakeRecord(0, offset, b"", lambda: None))

    flush = poll
