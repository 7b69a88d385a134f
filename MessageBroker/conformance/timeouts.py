"""Whoever gives a time gets an answer within it, also of a broker that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from MessageBroker import BrokerUnavailableError
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.outages import LinesOfTheLog
from MessageBroker.conformance.stories import (
    numbered,
    receive,
    wait_until,
    wait_until_ready,
)
from MessageBroker.core.subscription import CLOSE_SECONDS

TIMEOUT_SECONDS = 0.5
# What a call may take beyond its time, on a busy machine; what waits for the broker takes longer.
SLACK_SECONDS = 4.0
# What an ack may take: it has no time of its own, and what is not settled by then is so later.
ACK_SECONDS = 3.0
# By then whoever asks the broker on the side has been asked, too.
HANGS_SECONDS = 10.0


def lasts(call: Callable[[], object]) -> float:
    """Return how long a call takes (s)."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_receive_keeps_its_time_while_the_broker_hangs(under_test: BrokerUnderTest) -> None:
    """`receive` is back at its timeout, whatever else is asked of a broker that hangs; it is told.

    There are messages to be had, some are un-acked, and another thread acknowledges.
    """
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    broker.publish_batch(topic, numbered(10))
    before = receive(subscription, 5)
    acking = threading.Thread(target=subscription.ack, args=(before,))

    with LinesOfTheLog() as log, under_test.silence():
        acking.start()
        end = time.monotonic() + HANGS_SECONDS
        slow: list[float] = []
        while time.monotonic() < end or not log.lines:
            took = lasts(lambda: subscription.receive(1, TIMEOUT_SECONDS))
            slow += [took] if took > TIMEOUT_SECONDS + SLACK_SECONDS else []
            assert time.monotonic() < end + HANGS_SECONDS, "nobody was told"

    acking.join()
    assert not slow


def test_an_ack_does_not_wait_for_a_broker_that_hangs(under_test: BrokerUnderTest) -> None:
    """`ack` is back soon while the broker hangs, and settles when it goes on."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(5))
    subscription = broker.subscribe(topic)
    messages = receive(subscription, 5)

    with under_test.silence():
        end = time.monotonic() + HANGS_SECONDS  # leases are renewed beside it meanwhile
        slow: list[float] = []
        while messages and time.monotonic() < end:
            took = lasts(lambda: subscription.ack([messages.pop()]))
            slow += [took] if took > ACK_SECONDS + SLACK_SECONDS else []

    assert not slow
    subscription.ack(messages)
    if under_test.counts_backlog:
        wait_until(lambda: broker.backlog(topic) == 0, "all is acknowledged")


def test_flush_and_ping_keep_their_time_while_the_broker_hangs(
    under_test: BrokerUnderTest,
) -> None:
    """`flush` and `ping` say within their time that a broker that hangs does not answer."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"before").result()

    def fails(call: Callable[[float], object]) -> None:
        with pytest.raises(BrokerUnavailableError):
            call(TIMEOUT_SECONDS)

    with under_test.silence():
        broker.publish(topic, b"during")
        for call in (broker.flush, broker.ping):
            assert lasts(lambda call=call: fails(call)) < TIMEOUT_SECONDS + SLACK_SECONDS  # type: ignore[misc]
    broker.flush(60)


def test_closing_ends_while_the_broker_hangs(under_test: BrokerUnderTest) -> None:
    """`close` with messages un-acked ends soon after its time, and that the broker hung is told."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(5))
    subscription = broker.subscribe(topic)
    receive(subscription, 5)

    with LinesOfTheLog() as log, under_test.silence():
        broker.publish(topic, b"during")
        assert lasts(lambda: broker.close(TIMEOUT_SECONDS)) < (
            TIMEOUT_SECONDS + 2 * CLOSE_SECONDS + SLACK_SECONDS
        )
    assert log.lines, "nobody was told"
