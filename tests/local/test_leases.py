"""Who is taken for dead, and who is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from MessageBroker.conformance.stories import bodies, receive
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local.consumers import LEASE_SECONDS, RENEW_SECONDS, Consumers
from MessageBroker.local.log import NewMessage
from MessageBroker.local.store import TopicStore
from MessageBroker.local.stream import LocalStream
from MessageBroker.message import Delivery, Message
from tests.core.streams import subscription_over
from tests.local.conftest import Connect


class Crowd:
    """Consumers of one topic, whose bells hang, under a clock that the test sets."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.store = TopicStore.make(path, "topic", clock=lambda: self.now)
        self.store.add_subscription("topic-sub", from_start=True)
        self.bells = contextlib.ExitStack()

    def join(self, *consumers: str) -> None:
        for consumer in consumers:
            self.bells.enter_context(contextlib.closing(self.store.doorbell(consumer)))
            self.store.join("topic-sub", consumer)

    def claim(self, consumer: str) -> list[tuple[int, int]] | None:
        claimed = self.store.claim("topic-sub", consumer, 1, 1000)
        return claimed and claimed.ranges


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(tmp_path / "topic.sqlite")
    with crowd.bells, contextlib.closing(crowd.store):
        crowd.store.append([NewMessage("id", None, {}, b"data")] * 3)
        yield crowd


def test_a_stall_of_all_kills_nobody(crowd: Crowd) -> None:
    crowd.join("first", "second", "third")
    assert crowd.claim("first") == [(1, 1)]
    assert crowd.claim("second") == [(2, 2)]

    crowd.now += 3 * LEASE_SECONDS  # nobody could commit: the disk was full, say

    assert crowd.claim("third") == [(3, 3)]
    assert crowd.store.renew("second")
    assert crowd.store.renew("first")
    assert crowd.store.acknowledge("topic-sub", "first", [1]) == 1


def test_a_stall_of_less_than_a_lease_kills_nobody(crowd: Crowd) -> None:
    crowd.join("first")
    crowd.now += RENEW_SECONDS  # just before the first renews
    crowd.join("second")

    crowd.now += LEASE_SECONDS - 1.0

    assert crowd.store.renew("second")
    assert crowd.store.renew("first")


def test_a_consumer_alone_does_not_bury_itself(crowd: Crowd) -> None:
    crowd.join("alone")
    crowd.now += 3 * LEASE_SECONDS
    assert crowd.store.renew("alone")

    crowd.now += 3 * LEASE_SECONDS
    assert crowd.claim("alone") == [(1, 1)]


def test_a_stopped_consumer_is_buried_by_one_that_renews_in_time(crowd: Crowd) -> None:
    crowd.join("stopped", "renewing")
    assert crowd.claim("stopped") == [(1, 1)]
    stopped = crowd.now
    while not (taken := crowd.claim("renewing")) or taken != [(1, 1)]:
        crowd.now += RENEW_SECONDS
        assert crowd.now < stopped + 15
        assert crowd.store.renew("renewing")

    assert not crowd.store.renew("stopped")


class UnluckyStore(TopicStore):
    """A topic on a disk that fails for a while."""

    failing = True

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[Message]:
        self._fail()
        return super().read(ranges)

    def release(self, subscription: str, consumer: str, seqs: Sequence[int]) -> None:
        self._fail()
        super().release(subscription, consumer, seqs)

    def _fail(self) -> None:
        if UnluckyStore.failing:
            raise BrokerUnavailableError("local broker: disk I/O error")


def test_what_was_claimed_and_cannot_be_read_goes_to_others(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    broker.publish("topic", b"body").result(30)
    path = next(each for each in folder.glob("topic.*.sqlite"))
    stream = LocalStream(lambda: UnluckyStore(path, "topic"), "topic-sub")
    stream.renew_interval = 0.05
    unlucky = subscription_over(stream)
    assert unlucky.receive(1, 0.2) == []

    UnluckyStore.failing = False

    with contextlib.closing(unlucky):
        assert bodies(receive(connect().subscribe("topic"), 1)) == ["body"]


def test_who_begins_anew_twice_keeps_what_was_claimed_in_between(
    connect: Connect, folder: Path
) -> None:
    """A fetch and a renewal both find out that others took this consumer for dead."""
    broker = connect()
    broker.create_topic("topic")
    broker.publish("topic", b"body").result(30)
    path = next(each for each in folder.glob("topic.*.sqlite"))
    stream = LocalStream(lambda: TopicStore(path, "topic"), "topic-sub")
    lost: list[Delivery] = []
    stream.on_lost = lost.extend
    with stream._settles._writing() as db:
        Consumers.bury(db, stream._consumer)
    messages: list[Message] = []
    while not messages:
        messages = stream.fetch(1, 1000, 0.1)

    stream._rejoin()  # the renewal, which was told the same before

    assert not lost
    assert stream.acknowledge([each.delivery for each in messages]) == 0
    stream.close([])
    assert broker.backlog("topic") == 0
