"""A broker that goes away in mid-run."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

import pytest

from MessageBroker import BrokerInterface, BrokerUnavailableError, Message, Subscription
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    assert_nothing_comes,
    bodies,
    in_order,
    numbered,
    numbers,
    read_dead_letters,
    receive,
    receive_bodies,
    receive_one,
    wait_until,
    wait_until_ready,
)

OUTAGE_SECONDS = 2.0
# A broker that was frozen may stand still again while it catches up, on a host that is busy: then
# it was away twice, and what is told of that says nothing. So often it is tried.
TRIES = 3


def test_publications_wait_out_an_outage(under_test: BrokerUnderTest) -> None:
    """What is published while the broker is away is confirmed when it is back, and arrives."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"-1").result()

    with under_test.outage():
        futures = [broker.publish(topic, each.data) for each in numbered(100)]
        with pytest.raises(BrokerUnavailableError, match="still being tried"):
            broker.flush(OUTAGE_SECONDS)

    assert all(future.result(60) for future in futures)
    receive_bodies([broker.subscribe(topic)], numbers(100))


def test_a_consumer_waits_out_an_outage(under_test: BrokerUnderTest) -> None:
    """A consumer whose broker goes away raises nothing, loses nothing, and goes on."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    broker.publish_batch(topic, numbered(20))
    before = receive(subscription, 20)

    with under_test.outage():
        for _ in range(4):
            assert subscription.receive(10, OUTAGE_SECONDS / 4) == []

    broker.publish_batch(topic, numbered(60)[20:])
    after = receive(subscription, 40)
    subscription.ack(before + after)
    assert in_order(bodies(after)) == numbers(60)[20:]
    assert_nothing_comes(subscription)


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(
    under_test: BrokerUnderTest,
) -> None:
    """An outage is logged once when it begins and once when it ends, whoever waits for it."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    broker.publish(topic, b"before").result(60)
    subscription.ack([receive_one(subscription)])

    for _ in range(TRIES):
        lines = _lines_of_an_outage(under_test, broker, topic, subscription)
        # Never twice the same, however often the broker went.
        assert [level for level, _ in lines] == ["WARNING", "INFO"] * (len(lines) // 2), lines
        assert "is back" in lines[-1][1]
        if len(lines) == 2:
            break
    else:
        pytest.fail(f"each time more than one outage was told: {lines}")


def _lines_of_an_outage(
    under_test: BrokerUnderTest, broker: BrokerInterface, topic: str, subscription: Subscription
) -> list[tuple[str, str]]:
    with LinesOfTheLog() as log:
        with under_test.outage():
            future = broker.publish(topic, b"during")
            wait_until(lambda: subscription.receive(1, 0.1) == [] and bool(log.lines), "it is told")
            for _ in range(4):
                assert subscription.receive(1, OUTAGE_SECONDS / 4) == []
        assert future.result(60)
        subscription.ack([receive_one(subscription)])
        wait_until(lambda: subscription.receive(1, 0.1) == [] and _is_over(log), "its end is")
    return log.lines


def _is_over(log: LinesOfTheLog) -> bool:
    return len(log.lines) > 1 and log.lines[-1][0] == "INFO"


class LinesOfTheLog(logging.Handler):
    """What the package says of which a person may act on: level and text of each line."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))

    def __enter__(self) -> LinesOfTheLog:
        logger = logging.getLogger("MessageBroker")
        self._level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("MessageBroker")
        logger.removeHandler(self)
        logger.setLevel(self._level)


def test_an_outage_is_told_while_the_application_works(under_test: BrokerUnderTest) -> None:
    """An application that works on messages, and receives none, is told of an outage too."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)

    with LinesOfTheLog() as log:
        with under_test.outage():
            wait_until(lambda: not subscription.ready and bool(log.lines), "it is told")
            assert [level for level, _ in log.lines] == ["WARNING"]
        wait_until(
            lambda: subscription.ready and "is back" in log.lines[-1][1], "it is ready, and told"
        )
    subscription.ack([message])


def test_acks_wait_out_an_outage(under_test: BrokerUnderTest) -> None:
    """Acks while the broker is away are kept, and count when it is back."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(20))
    subscription = broker.subscribe(topic)
    arrived = receive(subscription, 20)

    with under_test.outage():
        subscription.ack(arrived)
        subscription.receive(1, OUTAGE_SECONDS)

    # New messages show that the broker is back for this consumer; then the acks are through.
    broker.publish(topic, b"after").result(60)
    subscription.ack([receive_one(subscription)])
    subscription.close()
    assert subscription.late_acks == 0
    assert_nothing_comes(broker.subscribe(topic), seconds=1.5)


def test_a_dead_letter_waits_out_an_outage(under_test: BrokerUnderTest) -> None:
    """`dead_letter` while the broker is away moves the message when it is back."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)
    moved: list[int] = []

    def move(letter: Message) -> None:
        moved.append(subscription.dead_letter([letter], "no image"))

    mover = threading.Thread(target=move, args=(message,))
    with under_test.outage():
        mover.start()
        mover.join(OUTAGE_SECONDS)
        assert not moved
    mover.join(60)

    assert moved == [1]
    assert bodies(read_dead_letters(broker, topic, 1)) == ["body"]


def test_a_restart_in_mid_stream_loses_nothing(under_test: BrokerUnderTest) -> None:
    """The broker restarts while messages are published and consumed: nothing is lost or fails."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    futures: list[Future[str]] = []
    arrived: set[str] = set()

    def exchange(seconds: float) -> None:
        futures.append(broker.publish(topic, str(len(futures)).encode()))
        messages = subscription.receive(10, seconds)
        subscription.ack(messages)
        arrived.update(bodies(messages))

    restarting = threading.Thread(target=under_test.restart)
    while not arrived:
        exchange(0.5)
    restarting.start()
    while restarting.is_alive():
        exchange(0.02)
    restarting.join()

    assert all(future.result(60) for future in futures)
    receive_bodies([subscription], set(numbers(len(futures))) - arrived)


def test_an_absent_broker_is_an_error_at_the_start(under_test: BrokerUnderTest) -> None:
    """`ping` of a broker that does not answer is a BrokerUnavailableError, within its timeout."""
    broker = under_test.connect()

    with under_test.outage(), pytest.raises(BrokerUnavailableError):
        broker.ping(2.0)

    broker.ping(30.0)
