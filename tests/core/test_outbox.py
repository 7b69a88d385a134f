"""The outbox over a broker that is a list: order, room, outages, and the close."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from MessageBroker import OutgoingMessage
from MessageBroker.conformance.stories import wait_until
from MessageBroker.core.driver import AwaitedBatch, Batch, Publication
from MessageBroker.core.outage import Outage
from MessageBroker.core.outbox import LaneName, Limits, Outbox
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    PublishError,
)
from MessageBroker.limits import size_of

PATIENCE_SECONDS = 20.0
LIMITS = Limits(
    senders=3, group_messages=10, group_bytes=10_000, pending_messages=50, pending_bytes=50_000
)


class ListBroker:
    """Takes what it is given while it is open; `error` says what else it does with a group."""

    def __init__(self) -> None:
        self.taken: list[Publication] = []
        self.groups: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self._lock = threading.Lock()

    def error(self, group: Sequence[Publication]) -> BaseException | None:
        return None

    def write(self, group: Sequence[Publication]) -> list[str]:
        self.asked.set()
        self.open.wait(PATIENCE_SECONDS)
        with self._lock:
            if (error := self.error(group)) is not None:
                raise error
            self.groups.append(len(group))
            self.taken += group
            return [f"id of {each.data.decode()}" for each in group]

    def bodies(self, key: str | None = None) -> list[str]:
        return [each.data.decode() for each in self.taken if each.key == key]


def lane_of(publication: Publication) -> LaneName:
    return publication.topic, publication.key


@pytest.fixture
def broker() -> ListBroker:
    return ListBroker()


@pytest.fixture
def outbox(broker: ListBroker) -> Iterator[Outbox]:
    box = Outbox("outbox", broker.write, lane_of=lane_of, limits=LIMITS, outage=Outage())
    yield box
    broker.open.set()
    box.close(PATIENCE_SECONDS)


def batch_of(*bodies: str, key: str | None = None) -> AwaitedBatch:
    messages = [OutgoingMessage(body.encode(), key) for body in bodies]
    return AwaitedBatch("topic", messages, [size_of(each) for each in messages])


def put(outbox: Outbox, *bodies: str, key: str | None = None) -> AwaitedBatch:
    batch = batch_of(*bodies, key=key)
    outbox.put(batch.publications())
    return batch


def texts(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_each_lane_keeps_its_order_through_errors(broker: ListBroker, outbox: Outbox) -> None:
    chances = random.Random(7)
    refused = {"17", "170", "230"}

    def error(group: Sequence[Publication]) -> BaseException | None:
        if chances.random() < 0.2:
            return BrokerUnavailableError("away")
        if refused & {each.data.decode() for each in group}:
            return ConfigurationError("one of them is refused")
        return None

    broker.error = error  # type: ignore[method-assign]
    keys = ["a", "b", "c", None]
    batches = {number: put(outbox, str(number), key=keys[number % 4]) for number in range(300)}

    for number, batch in batches.items():
        assert batch.settled.wait(PATIENCE_SECONDS)
        assert batch.ids == ([""] if str(number) in refused else [f"id of {number}"])
    for key in ("a", "b", "c"):
        came = broker.bodies(key)
        assert came == sorted(came, key=int)
    assert len(broker.taken) == 300 - len(refused)


def test_what_gathers_meanwhile_goes_together_within_the_limits(
    broker: ListBroker, outbox: Outbox
) -> None:
    broker.open.clear()
    first = put(outbox, "first", key="k")
    assert broker.asked.wait(PATIENCE_SECONDS)
    many = put(outbox, *texts(25), key="k")
    large = put(outbox, "x" * 9_900, "y" * 9_900, key="k")
    broker.open.set()

    for batch in (first, many, large):
        assert batch.settled.wait(PATIENCE_SECONDS)
    assert broker.groups == [1, 10, 10, 5, 1, 1]


@pytest.mark.parametrize("body", ["", "x" * 4_000], ids=["messages", "bytes"])
def test_a_full_outbox_blocks_until_there_is_room(
    broker: ListBroker, outbox: Outbox, body: str
) -> None:
    broker.open.clear()
    counter = itertools.count()
    handed_over = [0]

    def put_all() -> None:
        for _ in range(100):
            put(outbox, f"{next(counter)}{body}")
            handed_over[0] += 1

    publisher = threading.Thread(target=put_all)
    publisher.start()
    size = put_size(body)
    most = min(LIMITS.pending_messages, LIMITS.pending_bytes // size)
    wait_until(lambda: handed_over[0] >= most - 1, "it is full, or nearly")
    publisher.join(0.2)

    assert handed_over[0] <= most
    broker.open.set()
    publisher.join(PATIENCE_SECONDS)
    assert handed_over[0] == 100


def put_size(body: str) -> int:
    message = OutgoingMessage(f"0{body}".encode())
    return next(Batch("topic", [message], [size_of(message)], print).publications()).size


def test_room_is_given_back_before_callbacks_run(broker: ListBroker, outbox: Outbox) -> None:
    """All senders are in callbacks that wait until somebody else could publish."""
    broker.open.clear()
    filled = threading.Event()
    callbacks = threading.Semaphore(0)

    def wait_for_others() -> None:
        assert filled.wait(PATIENCE_SECONDS)
        callbacks.release()

    for number in range(LIMITS.senders):
        batch = Batch("topic", [OutgoingMessage(b"x", str(number))], [2], wait_for_others)
        outbox.put(batch.publications())
    wait_until(lambda: len(broker.groups) == 0 and broker.asked.is_set(), "they are being sent")
    put(outbox, *texts(LIMITS.pending_messages - LIMITS.senders))
    broker.open.set()

    put(outbox, *texts(LIMITS.senders))  # would block for ever: no sender is free to make room
    filled.set()

    for _ in range(LIMITS.senders):
        assert callbacks.acquire(timeout=PATIENCE_SECONDS)


def test_a_senders_own_thread_never_blocks(broker: ListBroker) -> None:
    limits = replace(LIMITS, senders=1)
    outbox = Outbox("outbox", broker.write, lane_of=lane_of, limits=limits, outage=Outage())
    done = threading.Event()
    others: list[AwaitedBatch] = []

    def publish_much() -> None:
        others.extend(put(outbox, str(number)) for number in range(3 * LIMITS.pending_messages))
        done.set()

    outbox.put(Batch("topic", [OutgoingMessage(b"first")], [5], publish_much).publications())

    assert done.wait(PATIENCE_SECONDS)
    assert all(batch.settled.wait(PATIENCE_SECONDS) for batch in others)
    outbox.close(PATIENCE_SECONDS)


def in_a_thread(action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_who_waits_for_the_answer_sends_by_itself_where_nothing_is_under_way(
    broker: ListBroker, outbox: Outbox
) -> None:
    batches = [batch_of("0", "1"), batch_of("2")]
    settled: list[bool] = []

    def publish() -> None:
        for batch in batches:
            outbox.put(batch.publications(), waits=True)
            settled.append(batch.settled.is_set())

    in_a_thread(publish)

    assert settled == [True, True]
    assert outbox._senders == []
    assert [batch.ids for batch in batches] == [["id of 0", "id of 1"], ["id of 2"]]


def test_who_waits_behind_others_gathers_with_them_in_order(
    broker: ListBroker, outbox: Outbox
) -> None:
    broker.open.clear()
    first = put(outbox, "0", key="a")
    assert broker.asked.wait(PATIENCE_SECONDS)
    waiting = batch_of("1", "2", key="a")
    in_a_thread(lambda: outbox.put(waiting.publications(), waits=True))
    last = put(outbox, "3", key="a")
    broker.open.set()

    assert all(each.settled.wait(PATIENCE_SECONDS) for each in (first, waiting, last))
    assert broker.bodies("a") == ["0", "1", "2", "3"]
    assert broker.groups == [1, 3]


def test_what_is_more_than_a_group_goes_on_in_order_in_the_senders(
    broker: ListBroker, outbox: Outbox
) -> None:
    batch = batch_of(*texts(3 * LIMITS.group_messages))

    in_a_thread(lambda: outbox.put(batch.publications(), waits=True))

    assert batch.settled.wait(PATIENCE_SECONDS)
    assert broker.bodies() == texts(3 * LIMITS.group_messages)


@pytest.mark.parametrize("waits", [False, True])
def test_the_end_comes_once_and_when_nothing_is_written_any_more(
    broker: ListBroker, waits: bool
) -> None:
    ended: list[bool] = []
    outbox = Outbox(
        "outbox",
        broker.write,
        lane_of=lane_of,
        limits=LIMITS,
        outage=Outage(),
        at_end=lambda: ended.append(broker.open.is_set()),
    )
    broker.open.clear()
    batch = batch_of("0")
    threading.Thread(target=lambda: outbox.put(batch.publications(), waits=waits)).start()
    assert broker.asked.wait(PATIENCE_SECONDS)

    outbox.stop()
    assert ended == []
    broker.open.set()

    assert batch.settled.wait(PATIENCE_SECONDS)
    wait_until(lambda: bool(ended), "the outbox has ended")
    outbox.close(PATIENCE_SECONDS)
    assert ended == [True]


@pytest.mark.parametrize("error", [AuthenticationError("no right"), RuntimeError("a defect")])
def test_an_error_that_no_try_can_cure_fails_its_group_and_no_other(
    broker: ListBroker, outbox: Outbox, error: Exception
) -> None:
    broker.error = lambda group: error if group[0].key == "bad" else None  # type: ignore[method-assign]
    bad, good = put(outbox, "0", "1", key="bad"), put(outbox, "2", key="good")

    assert bad.settled.wait(PATIENCE_SECONDS)
    assert good.settled.wait(PATIENCE_SECONDS)
    expected = type(error) if isinstance(error, BrokerError) else PublishError
    assert [type(each) for each in bad.errors.values()] == [expected] * 2
    assert good.ids == ["id of 2"]
    assert put(outbox, "3", key="bad").settled.wait(PATIENCE_SECONDS)  # the lane goes on


def test_an_outage_is_two_lines(
    broker: ListBroker, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    back = threading.Event()
    tries = threading.Semaphore(0)

    def error(_group: Sequence[Publication]) -> BaseException | None:
        tries.release()
        return None if back.is_set() else BrokerUnavailableError("nowhere: start it")

    broker.error = error  # type: ignore[method-assign]
    batches = [put(outbox, str(number), key=str(number)) for number in range(5)]
    for _ in range(10):
        assert tries.acquire(timeout=PATIENCE_SECONDS)
    back.set()

    assert all(batch.settled.wait(PATIENCE_SECONDS) for batch in batches)
    assert [each.getMessage() for each in caplog.records] == [
        "nowhere: start it; waiting for it",
        "the broker is back; all goes on where it was",
    ]


def test_the_close_waits_no_longer_than_it_may(broker: ListBroker, outbox: Outbox) -> None:
    broker.open.clear()
    writing = put(outbox, "writing", key="k")
    assert broker.asked.wait(PATIENCE_SECONDS)
    waiting = put(outbox, "waiting", key="k")

    outbox.close(0.1)

    late = put(outbox, "late")
    broker.open.set()
    assert writing.settled.wait(PATIENCE_SECONDS)  # what the broker has is confirmed all the same
    outbox.close(PATIENCE_SECONDS)
    assert not waiting.settled.is_set()
    assert not late.settled.is_set()
    assert broker.bodies("k") == ["writing"]


def test_a_callback_may_close_the_outbox(outbox: Outbox) -> None:
    closed = threading.Event()

    def close() -> None:
        outbox.close(PATIENCE_SECONDS)
        closed.set()

    outbox.put(Batch("topic", [OutgoingMessage(b"x")], [1], close).publications())

    assert closed.wait(PATIENCE_SECONDS / 2)
