"""Consuming."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    assert_nothing_comes,
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_bodies,
    receive_one,
    wait_until_ready,
)

# Work in which a consumer renews its leases several times (s).
WORK_SECONDS = 6.0
# After so long without a fetch a consumer has given back what it read ahead (s).
BETWEEN_LOOKS_SECONDS = 6.0


def test_the_first_consumer_misses_nothing(under_test: BrokerUnderTest) -> None:
    """The subscription made with the topic gets what was published before anybody consumed."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(50))

    arrived = receive(under_test.connect().subscribe(topic), 50)

    assert in_order(bodies(arrived)) == numbers(50)


def test_a_new_subscription_begins_now(under_test: BrokerUnderTest) -> None:
    """A new subscription gets all that is published after `subscribe` returned, nothing older."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(20))

    late = broker.subscribe(topic, under_test.unused_name("late"))
    broker.publish_batch(topic, numbered(40)[20:])

    assert in_order(bodies(receive(late, 20))) == numbers(40)[20:]
    assert_nothing_comes(late)


def test_two_that_create_a_subscription_at_once_miss_nothing(under_test: BrokerUnderTest) -> None:
    """When two consumers create a subscription at once, what follows the first return arrives."""
    broker, topic = under_test.connect_with_topic()
    subscription_id = under_test.unused_name("contested")
    with ThreadPoolExecutor(2) as threads:
        creating = [
            threads.submit(each.subscribe, topic, subscription_id)
            for each in (broker, under_test.connect())
        ]
        next(as_completed(creating, timeout=60)).result()
        broker.publish_batch(topic, numbered(60))
        subscriptions = [each.result(60) for each in creating]

    receive_bodies(subscriptions, numbers(60))


def test_a_subscription_outlives_its_consumer(under_test: BrokerUnderTest) -> None:
    """A subscription gets what was published while nobody consumed it."""
    broker, topic = under_test.connect_with_topic()
    subscription_id = under_test.unused_name("lasting")
    broker.subscribe(topic, subscription_id).close()

    broker.publish_batch(topic, numbered(20))

    again = under_test.connect().subscribe(topic, subscription_id)
    assert in_order(bodies(receive(again, 20))) == numbers(20)


def test_each_subscription_gets_everything(under_test: BrokerUnderTest) -> None:
    """Two subscriptions of a topic get every message each."""
    broker, topic = under_test.connect_with_topic()
    one = broker.subscribe(topic)
    other = broker.subscribe(topic, under_test.unused_name("other"))

    broker.publish_batch(topic, numbered(100))

    assert in_order(bodies(receive(one, 100))) == numbers(100)
    assert in_order(bodies(receive(other, 100))) == numbers(100)


def test_consumers_share_a_subscription(under_test: BrokerUnderTest) -> None:
    """Consumers of one subscription share its messages: each message goes to one of them."""
    broker, topic = under_test.connect_with_topic()
    one, other = broker.subscribe(topic), under_test.connect().subscribe(topic)
    wait_until_ready(one, other)

    broker.publish_batch(topic, numbered(200))

    arrived = receive_bodies([one, other], numbers(200))
    assert all(len(messages) == 1 for messages in arrived.values())
    assert_nothing_comes(one, other)


def test_many_consumers_receive_everything(under_test: BrokerUnderTest) -> None:
    """Six consumers of one subscription, in threads, receive everything between them."""
    broker, topic = under_test.connect_with_topic()
    missing, lock, done = set(numbers(1000)), threading.Lock(), threading.Event()

    def consume() -> None:
        with broker.subscribe(topic) as subscription:
            while not done.is_set():
                messages = subscription.receive(50, 0.2)
                with lock:
                    missing.difference_update(bodies(messages))
                    if not missing:
                        done.set()
                subscription.ack(messages)

    threads = [threading.Thread(target=consume) for _ in range(6)]
    for thread in threads:
        thread.start()
    broker.publish_batch(topic, numbered(1000))
    done.wait(60)
    done.set()
    for thread in threads:
        thread.join()

    assert not missing


def test_a_receive_after_long_work_brings_all_that_came(under_test: BrokerUnderTest) -> None:
    """After long work one `receive` brings all that came meanwhile, not a part of it."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish_batch(topic, numbered(1))
    subscription.ack([receive_one(subscription)])
    broker.publish_batch(topic, numbered(12))

    time.sleep(WORK_SECONDS)

    assert in_order(bodies(subscription.receive(500, 5.0))) == numbers(12)


def test_one_stops_and_the_other_goes_on(under_test: BrokerUnderTest) -> None:
    """When one of two consumers closes, the other gets all that is published from then on."""
    broker, topic = under_test.connect_with_topic()
    one, other = broker.subscribe(topic), under_test.connect().subscribe(topic)
    wait_until_ready(one, other)

    one.close()
    broker.publish_batch(topic, numbered(50))

    receive_bodies([other], numbers(50))


def test_receive_returns_as_soon_as_there_is_anything(under_test: BrokerUnderTest) -> None:
    """A waiting `receive` returns when a message comes, long before its timeout."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    began = time.monotonic()
    publisher = threading.Timer(0.3, broker.publish, (topic, b"news"))
    publisher.start()

    arrived = subscription.receive(1000, 60.0)

    assert bodies(arrived) == ["news"]
    assert time.monotonic() - began < 30
    publisher.join()


def test_receive_ends_at_its_timeout(under_test: BrokerUnderTest) -> None:
    """`receive` returns [] after its timeout when nothing came."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)
    began = time.monotonic()

    assert subscription.receive(10, 0.4) == []

    assert 0.39 <= time.monotonic() - began < 5


def test_whoever_looks_in_now_and_then_finds_what_is_there(under_test: BrokerUnderTest) -> None:
    """A consumer that looks in now and then, without waiting, gets what is there."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish_batch(topic, numbered(3))

    found: list[str] = []
    for _ in range(3):
        messages = subscription.receive(10, 0.0)
        subscription.ack(messages)
        found += bodies(messages)
        if len(found) < 3:
            time.sleep(BETWEEN_LOOKS_SECONDS)

    assert in_order(found) == numbers(3)


def test_receive_returns_no_more_than_asked(under_test: BrokerUnderTest) -> None:
    """`receive` never returns more than `max_messages`."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(100))
    subscription = broker.subscribe(topic)

    sizes = [len(subscription.receive(7, 5.0)) for _ in range(10)]

    assert 0 < max(sizes) <= 7


def test_receive_of_nothing_is_a_mistake(under_test: BrokerUnderTest) -> None:
    """`receive` of less than one message is a ValueError."""
    broker, topic = under_test.connect_with_topic()

    with pytest.raises(ValueError, match="max_messages must be at least 1"):
        broker.subscribe(topic).receive(0, 0.1)


def test_two_handlers_are_isolated(under_test: BrokerUnderTest) -> None:
    """Closing one handler does not disturb another of the same process."""
    broker, topic = under_test.connect_with_topic()
    other = under_test.connect()
    subscription = other.subscribe(topic)

    broker.close()
    other.publish(topic, b"still here").result()

    assert bodies([receive_one(subscription)]) == ["still here"]
