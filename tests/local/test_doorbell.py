"""A bell is a hint: what keeps somebody from ringing it costs nobody a message, or its life."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from MessageBroker.conformance.stories import bodies, receive
from MessageBroker.local import store
from MessageBroker.local.doorbell import Doorbell, Heard, is_heard, knock, ring
from MessageBroker.local.log import NewMessage
from tests.local.conftest import Connect
from tests.pipeline.runner import Clock


@contextlib.contextmanager
def no_more_open_files() -> Iterator[None]:
    """This process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_bell_rings_once_however_often_it_was_rung(tmp_path: Path) -> None:
    with contextlib.closing(Doorbell(tmp_path, "bell")) as bell:
        assert bell.wait(0) is Heard.NOTHING
        for _ in range(10):
            ring(tmp_path)
        assert bell.wait(0) is Heard.RING
        assert bell.wait(0) is Heard.NOTHING


def test_a_knock_is_told_from_a_ring(tmp_path: Path) -> None:
    with contextlib.closing(Doorbell(tmp_path, "bell")) as bell:
        knock(tmp_path)
        assert bell.wait(0) is Heard.KNOCK
        for sounds in ((knock, ring), (ring, knock)):
            for sound in sounds:
                sound(tmp_path)
            assert bell.wait(0) is Heard.RING


def test_consumers_are_woken_before_what_comes_after_a_pause_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, heard = Clock(), []
    topic = store.TopicStore.make(tmp_path / "topic.sqlite", "topic", clock)
    monkeypatch.setattr(store, "knock", lambda _folder: heard.append((Heard.KNOCK, is_used())))
    monkeypatch.setattr(store, "ring", lambda _folder: heard.append((Heard.RING, is_used())))

    def is_used() -> bool:
        with contextlib.closing(store.TopicStore(tmp_path / "topic.sqlite", "topic")) as another:
            return another.was_used()

    with contextlib.closing(topic):
        topic.append([NewMessage("id", None, {}, b"")])
        assert heard == [(Heard.KNOCK, False), (Heard.RING, True)]
        heard.clear()
        topic.append([NewMessage("id", None, {}, b"")])
        assert heard == [(Heard.RING, True)], "they are awake"
        heard.clear()
        clock.now += 1
        topic.append([NewMessage("id", None, {}, b"")])
        assert heard == [(Heard.KNOCK, True), (Heard.RING, True)]


def test_a_knock_alone_writes_nothing_and_is_waited_on(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    with broker.subscribe("topic") as subscription:
        broker.publish("topic", b"1").result(10)
        subscription.ack(receive(subscription, 1))
        (log,), (bells,) = folder.glob("topic.*-wal"), folder.glob("topic.*.bells")
        before = log.read_bytes()
        knock(bells)
        assert subscription.receive(1, 0.1) == []
        assert log.read_bytes() == before


def test_the_bell_of_a_dead_consumer_is_taken_down(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dead")
    assert not is_heard(tmp_path, "dead")

    ring(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_too_many_open_files_take_nobody_for_dead(tmp_path: Path) -> None:
    with contextlib.closing(Doorbell(tmp_path, "bell")) as bell:
        with no_more_open_files():
            assert is_heard(tmp_path, "bell")
            ring(tmp_path)

        assert is_heard(tmp_path, "bell")
        ring(tmp_path)
        assert bell.wait(0) is Heard.RING


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_bell_that_cannot_be_reached_stays(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> int:
        raise OSError(code, os.strerror(code), str(path))

    with contextlib.closing(Doorbell(tmp_path, "bell")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            ring(tmp_path)
            assert is_heard(tmp_path, "bell")

        assert is_heard(tmp_path, "bell")


def test_a_bell_can_be_hung_up_again_while_somebody_waits_at_it(tmp_path: Path) -> None:
    with contextlib.closing(Doorbell(tmp_path / "bells", "bell")) as bell:
        shutil.rmtree(tmp_path / "bells")

        bell.hang_again()
        ring(tmp_path / "bells")

        assert is_heard(tmp_path / "bells", "bell")
        assert bell.wait(0) is Heard.RING


def test_what_was_committed_is_confirmed_when_no_bell_can_be_rung(connect: Connect) -> None:
    broker = connect()
    broker.create_topic("topic")
    subscription = broker.subscribe("topic")
    broker.publish("topic", b"before").result(30)

    with no_more_open_files():
        broker.publish("topic", b"meanwhile").result(30)
    broker.publish("topic", b"after").result(30)

    assert bodies(receive(subscription, 3)) == ["before", "meanwhile", "after"]


def test_consumers_whose_bells_were_cleaned_away_go_on(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    first, second = broker.subscribe("topic"), broker.subscribe("topic", "other")
    for bells in folder.glob("topic.*.bells"):
        shutil.rmtree(bells)
    connect().subscribe("topic", "third")  # looks for the dead, and finds two without bells

    for number in range(3):
        broker.publish("topic", str(number).encode()).result(30)
        for subscription in (first, second):
            messages = receive(subscription, 1)
            assert bodies(messages) == [str(number)]
            subscription.ack(messages)
    assert (first.late_acks, second.late_acks) == (0, 0)


def test_a_lost_ring_costs_no_message_where_all_was_taken_before(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = connect()
    broker.create_topic("topic")
    with broker.subscribe("topic") as subscription:
        broker.publish("topic", b"1").result(10)
        assert bodies(receive(subscription, 1)) == ["1"]
        monkeypatch.setattr(store, "ring", lambda _folder: None)
        broker.publish("topic", b"2").result(10)
        assert bodies(receive(subscription, 1)) == ["2"]


def test_a_ring_for_nothing_writes_nothing(connect: Connect, folder: Path) -> None:
    """Each publication rings for all consumers, and one of them gets it."""
    broker = connect()
    broker.create_topic("topic")
    with broker.subscribe("topic") as subscription:
        broker.publish("topic", b"1").result(10)
        subscription.ack(receive(subscription, 1))
        stream = subscription._stream
        (log,) = folder.glob("topic.*-wal")
        before = log.read_bytes()
        claimed = stream._claims.claim("topic-sub", stream._consumer, 10, 1000)  # type: ignore[attr-defined]
        assert claimed.ranges == []
        assert log.read_bytes() == before
