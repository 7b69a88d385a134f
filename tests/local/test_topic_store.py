"""Claims and acknowledgements of the embedded broker, against a plain model of them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from MessageBroker.local import log, store
from MessageBroker.local.claims import runs
from MessageBroker.local.log import NewMessage
from MessageBroker.local.store import PURGE_EVERY, TopicStore

SUBSCRIPTIONS = ("one", "two")
CONSUMERS = tuple(itertools.product(SUBSCRIPTIONS, ("a", "b", "c")))
ALL = 1_000_000


class TopicModel(RuleBasedStateMachine):
    """Each message of each subscription is waiting, held by one consumer, or acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = TopicStore.make(self.folder / "topic.sqlite", "topic")
        self.keys: list[str | None] = []
        self.holder: dict[str, dict[int, str | None]] = {each: {} for each in SUBSCRIPTIONS}
        self.bells = {}
        self.patched = pytest.MonkeyPatch()

    @initialize(
        few_bytes=st.sampled_from([store.FEW_BYTES, 20, 0]),
        large_body=st.sampled_from([log.LARGE_BODY, 4]),
    )
    def subscribe(self, few_bytes: int, large_body: int) -> None:
        self.patched.setattr(store, "FEW_BYTES", few_bytes)  # read in the transaction, or after it
        self.patched.setattr(log, "LARGE_BODY", large_body)  # bodies as one value, or in place
        for subscription in SUBSCRIPTIONS:
            self.store.add_subscription(subscription, from_start=True)
        for subscription, name in CONSUMERS:
            self.join(subscription, name)

    def join(self, subscription: str, name: str) -> None:
        consumer = f"{subscription}-{name}"
        self.bells[consumer] = self.store.doorbell(consumer)
        self.store.join(subscription, consumer)

    @rule(keys=st.lists(st.sampled_from([None, None, None, "k", "l"]), min_size=1, max_size=12))
    def publish(self, keys: list[str | None]) -> None:
        self.store.append(
            [
                NewMessage(f"id-{seq}", key, {"seq": str(seq)}, b"%04d" % seq)
                for seq, key in enumerate(keys, len(self.keys) + 1)
            ]
        )
        for key in keys:
            self.keys.append(key)
            for waiting in self.holder.values():
                waiting[len(self.keys)] = None

    @rule(who=st.sampled_from(CONSUMERS), room=st.integers(1, 10), room_bytes=st.integers(1, 60))
    def claim(self, who: tuple[str, str], room: int, room_bytes: int) -> None:
        subscription, consumer = who[0], "-".join(who)
        expected = self.claimable(subscription, consumer)[: min(room, -(-room_bytes // 4))]
        found = self.store.claim(subscription, consumer, room, room_bytes)
        assert found is not None
        claimed = self.store.read(found)
        assert [each.delivery.handle for each in claimed] == expected
        assert [each.key for each in claimed] == [
            self.keys[each.delivery.handle - 1] for each in claimed
        ]
        for each in claimed:
            assert (each.id, each.data) == (
                f"id-{each.delivery.handle}",
                b"%04d" % each.delivery.handle,
            )
            assert each.attributes == {"seq": str(each.delivery.handle)}
            each.attributes.clear()  # the application's own: it comes whole the next time
            self.holder[subscription][each.delivery.handle] = consumer

    def claimable(self, subscription: str, consumer: str) -> list[int]:
        """The oldest first; of keys that others hold, none."""
        held = self.holder[subscription]
        others = {
            self.keys[seq - 1] for seq, holder in held.items() if holder not in (None, consumer)
        } - {None}
        return [
            seq
            for seq, holder in sorted(held.items())
            if holder is None and self.keys[seq - 1] not in others
        ]

    @rule(who=st.sampled_from(CONSUMERS), data=st.data())
    def acknowledge(self, who: tuple[str, str], data: st.DataObject) -> None:
        subscription, consumer = who[0], "-".join(who)
        chosen = data.draw(st.sets(st.integers(1, max(1, len(self.keys))), max_size=8))
        held = self.holder[subscription]
        own = {seq for seq in chosen if held.get(seq) == consumer}
        assert self.store.acknowledge(subscription, consumer, list(chosen)) == len(own)
        for seq in own:
            del held[seq]

    @rule(who=st.sampled_from(CONSUMERS), data=st.data())
    def release(self, who: tuple[str, str], data: st.DataObject) -> None:
        subscription, consumer = who[0], "-".join(who)
        chosen = data.draw(st.sets(st.integers(1, max(1, len(self.keys))), max_size=8))
        self.store.release(subscription, consumer, list(chosen))
        for seq in chosen:
            if self.holder[subscription].get(seq) == consumer:
                self.holder[subscription][seq] = None

    @rule(who=st.sampled_from(CONSUMERS), killed=st.booleans())
    def leave_and_come_back(self, who: tuple[str, str], killed: bool) -> None:
        subscription, consumer = who[0], "-".join(who)
        self.bells[consumer].close()
        if killed:
            assert self.store.renew("somebody else") is False  # looks for the dead
        else:
            self.store.leave(consumer)
        assert self.store.claim(subscription, consumer, 10, ALL) is None
        for seq, holder in self.holder[subscription].items():
            if holder == consumer:
                self.holder[subscription][seq] = None
        self.join(*who)

    @precondition(lambda self: self.keys)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = TopicStore.make(self.folder / "topic.sqlite", "topic")

    @invariant()
    def backlogs_are_right(self) -> None:
        for subscription, held in self.holder.items():
            backlog = self.store.backlog(subscription)
            assert backlog is None or backlog == len(held)

    def teardown(self) -> None:
        for bell in self.bells.values():
            bell.close()
        self.store.close()
        self.patched.undo()
        shutil.rmtree(self.folder)


TopicModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_claims_follow_the_model = TopicModel.TestCase


def test_what_all_subscriptions_have_acknowledged_is_deleted(tmp_path: Path) -> None:
    topic = TopicStore.make(tmp_path / "topic.sqlite", "topic")
    row = NewMessage("id", None, {}, b"x" * 900)
    bells = [topic.doorbell(each) for each in SUBSCRIPTIONS]
    for subscription in SUBSCRIPTIONS:
        topic.add_subscription(subscription, from_start=True)
        topic.join(subscription, subscription)
    sizes = []
    for _ in range(6):
        topic.append([row] * PURGE_EVERY)
        for subscription in SUBSCRIPTIONS:
            claimed = topic.claim(subscription, subscription, PURGE_EVERY, ALL)
            assert claimed is not None
            messages = topic.read(claimed)
            topic.acknowledge(
                subscription, subscription, [each.delivery.handle for each in messages]
            )
        sizes.append((tmp_path / "topic.sqlite").stat().st_size)
    assert sizes[-1] == sizes[2], "the file grows with the past"
    for bell in bells:
        bell.close()
    topic.close()


@pytest.fixture
def photographs(tmp_path: Path) -> Iterator[TopicStore]:
    """A topic of large messages, and somebody who reads them."""
    topic = TopicStore.make(tmp_path / "topic.sqlite", "topic")
    with contextlib.closing(topic), contextlib.closing(topic.doorbell("reader")):
        topic.add_subscription("sub", from_start=True)
        topic.join("sub", "reader")
        yield topic


def of_bodies(bodies: Sequence[bytes]) -> list[NewMessage]:
    return [NewMessage(f"id-{i}", None, {}, body) for i, body in enumerate(bodies)]


def test_large_bodies_come_whole_however_few_are_taken_at_once(photographs: TopicStore) -> None:
    bodies = [bytes([i]) * (3 * log.LARGE_BODY) for i in range(5)]
    bodies[1:1] = [b"", b"small"]
    photographs.append(of_bodies(bodies))
    found: list[bytes] = []
    for room in (1, 3, 100):
        claimed = photographs.claim("sub", "reader", room, ALL)
        assert claimed is not None
        found += [each.data for each in photographs.read(claimed)]
    assert found == bodies


def test_large_bodies_that_are_deleted_before_they_are_read_are_none(
    photographs: TopicStore,
) -> None:
    photographs.append(of_bodies([bytes(3 * log.LARGE_BODY)]))
    claimed = photographs.claim("sub", "reader", 1, ALL)
    assert claimed is not None
    assert claimed.messages is None
    photographs.add_subscription("other", from_start=False)
    photographs.remove_subscription("sub")
    assert photographs.read(claimed) == []


def test_a_run_of_numbers_is_a_range() -> None:
    assert list(runs([5, 1, 2, 3, 9, 8])) == [(1, 3), (5, 5), (8, 9)]
    assert list(runs([])) == []
