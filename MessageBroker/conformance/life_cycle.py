"""Life cycle: ready, closed, forked."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from MessageBroker import (
    BrokerError,
    BrokerInterface,
    ClosedError,
    ConfigurationError,
    Subscription,
)
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    PATIENCE_SECONDS,
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_bodies,
    receive_one,
    receive_soon,
    wait_until_ready,
)


def test_ping_finds_a_healthy_broker(under_test: BrokerUnderTest) -> None:
    """`ping` returns when the broker answers."""
    under_test.connect().ping(10)


def test_whoever_waits_may_wait_for_ever(under_test: BrokerUnderTest) -> None:
    """`flush`, `ping` and `close` take infinity for a time, too."""
    broker, topic = under_test.connect_with_topic()
    futures = [broker.publish(topic, each.data) for each in numbered(300)]
    broker.flush(math.inf)
    broker.ping(math.inf)
    futures += [broker.publish(topic, each.data) for each in numbered(300)]

    broker.close(math.inf)

    assert all(future.done() and future.result() for future in futures)


def test_a_consumer_becomes_ready(under_test: BrokerUnderTest) -> None:
    """A lone consumer becomes `ready`, and is not any more once it is closed."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)

    wait_until_ready(subscription)

    subscription.close()
    assert not subscription.ready


def test_a_closed_broker_says_so(under_test: BrokerUnderTest) -> None:
    """Every call after `close` raises ClosedError; closing twice is fine."""
    broker, topic = under_test.connect_with_topic()
    broker.close()
    broker.close()

    calls: list[Callable[[], object]] = [
        lambda: broker.publish(topic, b"body"),
        lambda: broker.publish_batch(topic, numbered(1)),
        lambda: broker.flush(1),
        lambda: broker.subscribe(topic),
        lambda: broker.create_topic(topic),
        lambda: broker.delete_topic(topic),
        lambda: broker.list_topics(),
        lambda: broker.backlog(topic),
        lambda: broker.delete_subscription(topic, f"{topic}-other"),
        lambda: broker.ping(1),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()


def test_a_closed_subscription_says_so(under_test: BrokerUnderTest) -> None:
    """`receive` and `dead_letter` of a closed subscription raise ClosedError; the rest is late."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)
    subscription.close()
    subscription.close()

    with pytest.raises(ClosedError):
        subscription.receive(1, 0.1)
    with pytest.raises(ClosedError):
        subscription.dead_letter([message], "no image")
    subscription.nack([message])
    subscription.ack([message])
    assert subscription.late_acks == 1


def test_closing_a_broker_closes_its_subscriptions(under_test: BrokerUnderTest) -> None:
    """`close` of a broker gives back what its subscriptions held, at once."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(20))
    subscription = broker.subscribe(topic)
    receive(subscription, 20)

    broker.close()

    with pytest.raises(ClosedError):
        subscription.receive(1, 0.1)
    again = receive_soon(under_test.connect().subscribe(topic), 20)
    assert in_order(bodies(again)) == numbers(20)


def test_leaving_the_context_closes(under_test: BrokerUnderTest) -> None:
    """Brokers and subscriptions are context managers: leaving them closes them."""
    topic = under_test.unused_name()
    with under_test.connect() as broker:
        broker.create_topic(topic)
        with broker.subscribe(topic) as subscription:
            pass
        with pytest.raises(ClosedError):
            subscription.receive(1, 0.1)
    with pytest.raises(ClosedError):
        broker.ping(1)


def test_close_publishes_what_is_under_way(under_test: BrokerUnderTest) -> None:
    """`close` waits for what was published: nothing is dropped."""
    broker, topic = under_test.connect_with_topic()
    futures = [broker.publish(topic, each.data) for each in numbered(2000)]

    broker.close()

    assert all(future.done() and future.result() for future in futures)
    arrived = receive_bodies([under_test.connect().subscribe(topic)], numbers(2000))
    assert len(arrived) == 2000


def test_close_wakes_a_waiting_receive(under_test: BrokerUnderTest) -> None:
    """A `receive` that waits in another thread ends with ClosedError when its end is closed."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    outcome: Future[None] = Future()

    def wait_for_ever() -> None:
        try:
            subscription.receive(1, 600)
        except BrokerError as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=wait_for_ever)
    thread.start()
    subscription.close()

    with pytest.raises(ClosedError):
        outcome.result(15)
    thread.join()


def in_a_child(work: Callable[[], None]) -> str:
    """Do something in a child made by fork; return what it raised there, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writing, b"nothing was raised")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answered = bool(select.select([pipe], [], [], PATIENCE_SECONDS)[0])
        if not answered:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert answered, "it hangs in the child"
        return pipe.read().decode()


def test_a_child_made_by_fork_opens_its_own(under_test: BrokerUnderTest) -> None:
    """What was opened before a fork is a ConfigurationError in the child, and works in the parent.

    A child has none of the threads that publish, and would share the parent's connections.
    """
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish_batch(topic, numbered(2))
    first, second = receive(subscription, 2)
    calls: list[Callable[[], object]] = [
        lambda: broker.publish(topic, b"body"),
        lambda: broker.publish_batch(topic, numbered(1)),
        lambda: broker.flush(1),
        lambda: broker.subscribe(topic),
        lambda: broker.list_topics(),
        lambda: broker.ping(1),
        lambda: subscription.receive(1, 1),
        lambda: subscription.ack([first]),
        lambda: subscription.nack([first]),
        lambda: subscription.dead_letter([first], "no image"),
    ]

    def use_what_the_parent_opened() -> None:
        for call in calls:
            with pytest.raises(ConfigurationError, match="open one of your own in the child"):
                call()
        subscription.close()
        broker.close()

    assert in_a_child(use_what_the_parent_opened) == "nothing was raised"

    subscription.ack([first])
    subscription.close()
    assert bodies(receive(broker.subscribe(topic), 1)) == bodies([second])


def publish_until_closed(broker: BrokerInterface, topic: str, busy: threading.Barrier) -> set[str]:
    """Publish numbers until the broker is closed; return those that it confirmed."""
    futures: list[tuple[str, Future[str]]] = []
    with contextlib.suppress(ClosedError):
        for number in range(1_000_000):
            futures.append((str(number), broker.publish(topic, str(number).encode())))
            if number == 300:
                busy.wait()
    return {text for text, future in futures if future.exception(30) is None}


def consume_until_closed(subscription: Subscription, busy: threading.Barrier) -> set[str]:
    """Receive and acknowledge until the subscription is closed; return what was acked in time."""
    acked: set[str] = set()
    with contextlib.suppress(ClosedError):
        while True:
            messages = subscription.receive(50, 1.0)
            if messages and not acked:
                busy.wait()
            subscription.ack(messages)
            if not subscription.late_acks:
                acked.update(bodies(messages))
    return acked


def test_closing_in_mid_stream_loses_nothing(under_test: BrokerUnderTest) -> None:
    """Publishers, consumers and acks in other threads while all is closed: nothing is lost."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    busy = threading.Barrier(3, timeout=30)
    with ThreadPoolExecutor(2) as threads:
        publishing = threads.submit(publish_until_closed, broker, topic, busy)
        consuming = threads.submit(consume_until_closed, subscription, busy)
        busy.wait()

        broker.close()
        confirmed, acked = publishing.result(60), consuming.result(60)

    assert confirmed
    receive_bodies([under_test.connect().subscribe(topic)], confirmed - acked)
