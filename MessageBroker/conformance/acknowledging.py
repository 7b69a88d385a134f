"""Acknowledging."""

from __future__ import annotations

import queue
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from MessageBroker import Message
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    PATIENCE_SECONDS,
    assert_nothing_comes,
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_bodies,
    receive_soon,
    wait_until_ready,
)


def test_what_was_acked_does_not_come_again(under_test: BrokerUnderTest) -> None:
    """Acknowledged messages do not come again, neither here nor after closing."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(100))
    with broker.subscribe(topic) as subscription:
        subscription.ack(receive(subscription, 100))
        assert_nothing_comes(subscription)

    assert_nothing_comes(broker.subscribe(topic), seconds=1.5)


def test_what_was_not_acked_comes_again_after_closing(under_test: BrokerUnderTest) -> None:
    """Closing gives back at once what was not acknowledged."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(30))
    first = broker.subscribe(topic)
    receive(first, 30)
    assert_nothing_comes(first, seconds=0.15)  # and so it waits for more when it closes

    first.close()

    again = receive_soon(under_test.connect().subscribe(topic), 30)
    assert in_order(bodies(again)) == numbers(30)


def test_nothing_is_lost_over_many_closings(under_test: BrokerUnderTest) -> None:
    """A consumer that closes and comes again, over and over, loses nothing."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(60))
    missing = set(numbers(60))

    for _ in range(6):
        with under_test.connect().subscribe(topic) as subscription:
            some = receive(subscription, min(20, len(missing)))
            subscription.ack(some[:10])
            missing.difference_update(bodies(some[:10]))

    receive_bodies([broker.subscribe(topic)], missing)


def test_a_later_ack_never_skips_an_earlier_message(under_test: BrokerUnderTest) -> None:
    """What is not acked comes again, however many later messages were acked."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(60))
    with broker.subscribe(topic) as first:
        arrived = receive(first, 60)
        left_out = [message for i, message in enumerate(arrived) if i in (0, 17, 58)]
        first.ack([message for message in arrived if message not in left_out])

    receive_bodies([broker.subscribe(topic)], bodies(left_out))


def test_acks_come_in_any_order(under_test: BrokerUnderTest) -> None:
    """Acks in any order, one by one and in groups, settle every message for good."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(200))
    with broker.subscribe(topic) as subscription:
        arrived = receive(subscription, 200)
        random.Random(7).shuffle(arrived)
        for message in arrived[:50]:
            subscription.ack([message])
        subscription.ack(arrived[50:])

    assert_nothing_comes(broker.subscribe(topic), seconds=1.5)


def test_acking_twice_is_fine(under_test: BrokerUnderTest) -> None:
    """A second ack of a message does nothing, and is not late."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(10))
    subscription = broker.subscribe(topic)
    arrived = receive(subscription, 10)

    subscription.ack(arrived + arrived)
    subscription.ack(arrived)

    assert subscription.late_acks == 0
    subscription.close()
    assert_nothing_comes(broker.subscribe(topic))


def test_a_late_ack_is_harmless_and_counted(under_test: BrokerUnderTest) -> None:
    """An ack after its consumer was closed settles nothing, raises nothing, and is counted."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(10))
    closed = broker.subscribe(topic)
    arrived = receive(closed, 10)
    closed.close()

    closed.ack(arrived)

    assert closed.late_acks == 10
    assert in_order(bodies(receive(broker.subscribe(topic), 10))) == numbers(10)


def test_messages_of_another_subscription_are_refused(under_test: BrokerUnderTest) -> None:
    """To settle what another subscription received is a ValueError, and changes nothing."""
    broker, topic = under_test.connect_with_topic()
    other = broker.subscribe(topic, under_test.unused_name("other"))
    subscription = broker.subscribe(topic)
    broker.publish_batch(topic, numbered(2))
    [foreign, *_], own = receive(other, 2), receive(subscription, 2)

    for settle in (
        subscription.ack,
        subscription.nack,
        lambda messages: subscription.dead_letter(messages, "a reason"),
    ):
        with pytest.raises(ValueError, match="1 of 3 messages were not received by"):
            settle([*own, foreign])
        with pytest.raises(TypeError, match="messages that were received"):
            settle([*own, b"no message"])  # type: ignore[list-item]
    subscription.close()
    other.close()

    again = broker.subscribe(topic), broker.subscribe(topic, other.subscription_id)
    for each in again:
        assert in_order(bodies(receive(each, 2))) == numbers(2)


def test_any_thread_may_ack(under_test: BrokerUnderTest) -> None:
    """Other threads acknowledge while one thread receives."""
    broker, topic = under_test.connect_with_topic(max_outstanding_messages=20)
    broker.publish_batch(topic, numbered(400))
    subscription = broker.subscribe(topic)
    acking: list[threading.Thread] = []
    arrived: list[Message] = []

    # Only if the acks of the other threads count does more than the first twenty come.
    while len(arrived) < 400:
        messages = receive(subscription, 1) + subscription.receive(9, 0.05)
        arrived += messages
        acking.append(threading.Thread(target=subscription.ack, args=(messages,)))
        acking[-1].start()
    for thread in acking:
        thread.join()

    assert in_order(bodies(arrived)) == numbers(400)


def test_acks_get_through_beside_a_waiting_receive(under_test: BrokerUnderTest) -> None:
    """While one thread does nothing but receive, acks of another get through and count."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(30))
    subscription = broker.subscribe(topic)
    arrived = receive(subscription, 30)
    ending = threading.Event()

    def receive_on() -> None:
        while not ending.is_set():
            assert subscription.receive(10, 1.0) == []

    with ThreadPoolExecutor(2) as threads:
        receiving = threads.submit(receive_on)
        try:
            for message in arrived:
                threads.submit(subscription.ack, [message]).result(15)
        finally:
            ending.set()
        receiving.result(15)

    subscription.close()
    assert_nothing_comes(broker.subscribe(topic))


def test_acks_get_through_while_consumers_come_and_go(under_test: BrokerUnderTest) -> None:
    """Acks by another thread neither hang nor get lost while others join and leave."""
    broker, topic = under_test.connect_with_topic()
    steady = broker.subscribe(topic)
    wait_until_ready(steady)
    missing = set(numbers(400))
    acking: queue.SimpleQueue[list[Message]] = queue.SimpleQueue()

    def ack_all() -> None:
        while messages := acking.get(timeout=60):
            steady.ack(messages)

    def exchange(seconds: float) -> None:
        messages = steady.receive(5, seconds)
        missing.difference_update(bodies(messages))
        if messages:
            acking.put(messages)

    with ThreadPoolExecutor(2) as threads:
        done = threads.submit(ack_all)
        for first in range(0, 400, 100):
            broker.publish_batch(topic, numbered(400)[first : first + 100])
            joining = threads.submit(under_test.connect().subscribe, topic)
            while not joining.done():
                exchange(0.05)
            with joining.result() as guest:
                messages = guest.receive(20, 0.5)
                guest.ack(messages)
                missing.difference_update(bodies(messages))
                exchange(0.05)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while missing:
            assert time.monotonic() < deadline, f"lost: {in_order(missing)[:20]}"
            exchange(0.2)
        acking.put([])
        done.result(15)
