"""The system's clock is set back or forward by hours, while the embedded broker is in use."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from MessageBroker.conformance.stories import bodies, receive
from MessageBroker.local import store
from tests.local.conftest import Connect

HOURS = 3 * 3600


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set what the broker takes for the time of day."""
    now = time.time_ns
    clock = SimpleNamespace(
        monotonic=time.monotonic, time_ns=lambda: now() + int(seconds * 1_000_000_000)
    )
    monkeypatch.setattr(store, "time", clock)


@pytest.mark.parametrize("seconds", [-HOURS, HOURS], ids=["back", "forward"])
def test_leases_and_back_off_do_not_go_by_the_time_of_day(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    broker = connect()
    broker.create_topic("topic")
    subscription = broker.subscribe("topic")
    broker.publish("topic", b"before").result(10)
    (held,) = receive(subscription, 1)

    set_clock(monkeypatch, seconds)

    broker.publish("topic", b"after").result(10)
    subscription.nack([held])
    assert sorted(bodies(receive(subscription, 2))) == ["after", "before"]
    subscription.ack([held])
    assert subscription.late_acks == 0


@pytest.mark.parametrize("seconds", [-HOURS, HOURS], ids=["back", "forward"])
def test_what_was_there_before_is_told_from_what_comes_whatever_the_clock_says(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Replay and purge leave what comes meanwhile, and nothing else."""
    broker = connect()
    broker.create_topic("topic")
    set_clock(monkeypatch, -seconds)
    broker.publish("topic", b"before").result(10)
    monkeypatch.undo()
    is_new = broker.published_since_now("topic")
    set_clock(monkeypatch, seconds)
    broker.publish("topic", b"after").result(10)

    came = receive(broker.subscribe("topic"), 2)

    assert [bodies([each]) for each in came if is_new(each)] == [["after"]]
