"""Nacks: what comes again, and when."""

from __future__ import annotations

import math
import time

import pytest

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
    receive_soon,
)


def test_a_nacked_message_comes_again(under_test: BrokerUnderTest) -> None:
    """A nacked message comes again, unchanged but for its `delivery_attempt`."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body", attributes={"label": "7"}).result()
    subscription = broker.subscribe(topic)
    first = receive_one(subscription)

    subscription.nack([first])

    again = receive_one(subscription)
    assert (first.delivery_attempt, again.delivery_attempt) == (1, 2)
    assert (again.id, again.data, again.attributes, again.publish_time) == (
        first.id,
        first.data,
        first.attributes,
        first.publish_time,
    )


def test_a_nack_replays_no_neighbours(under_test: BrokerUnderTest) -> None:
    """Only what was nacked comes again, not what came before or after it."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(50))
    subscription = broker.subscribe(topic)
    arrived = receive(subscription, 50)

    subscription.nack([arrived[5], arrived[25]])

    again = receive(subscription, 2)
    assert sorted(bodies(again)) == sorted(bodies([arrived[5], arrived[25]]))
    assert_nothing_comes(subscription)


def test_a_nack_after_later_acks_works(under_test: BrokerUnderTest) -> None:
    """A message can be nacked after all its neighbours were acked; only it comes again."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(20))
    subscription = broker.subscribe(topic)
    first, *others = receive(subscription, 20)
    subscription.ack(others)

    subscription.nack([first])

    assert bodies([receive_one(subscription)]) == bodies([first])
    assert_nothing_comes(subscription)


def test_a_nacked_message_holds_nobody_up(under_test: BrokerUnderTest) -> None:
    """While a nacked message waits, everything without its key flows."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, b"-1").result()
    subscription.nack([receive_one(subscription)], delay=600)

    broker.publish_batch(topic, numbered(300))

    receive_bodies([subscription], numbers(300))


def test_a_nack_waits_for_its_delay(under_test: BrokerUnderTest) -> None:
    """A message nacked with a delay comes again after it, not before."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)
    nacked = time.monotonic()
    subscription.nack([message], delay=1.0)

    assert receive_one(subscription).id == message.id

    assert time.monotonic() - nacked >= 1.0


def test_a_delay_is_a_number_of_seconds(under_test: BrokerUnderTest) -> None:
    """A delay that is no number is an error, and the message is as if it was not nacked."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)

    with pytest.raises(ValueError, match="nan"):
        subscription.nack([message], delay=math.nan)
    with pytest.raises(TypeError):
        subscription.nack([message], delay="1")  # type: ignore[arg-type]

    subscription.nack([message], delay=0.0)
    assert receive_one(subscription).delivery_attempt == 2


def test_the_back_off_grows(under_test: BrokerUnderTest) -> None:
    """Without a delay the back-off doubles from `min_backoff`, with jitter."""
    broker, topic = under_test.connect_with_topic(min_backoff=0.2, max_backoff=60)
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    waits = []
    message = receive_one(subscription)
    for _ in range(3):
        nacked = time.monotonic()
        subscription.nack([message])
        message = receive_one(subscription)
        waits.append(time.monotonic() - nacked)

    # The jitter takes off a fifth at most.
    assert all(wait >= 0.8 * 0.2 * 2**nacks for nacks, wait in enumerate(waits))


def test_nacking_twice_counts_once(under_test: BrokerUnderTest) -> None:
    """A message that already waits is not counted again when it is nacked again."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)

    subscription.nack([message, message])
    subscription.nack([message])

    assert receive_one(subscription).delivery_attempt == 2


def test_a_nack_of_what_was_acked_is_ignored(under_test: BrokerUnderTest) -> None:
    """A message that was acked stays acked when it is nacked."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)
    subscription.ack([message])

    subscription.nack([message])

    assert_nothing_comes(subscription)


def test_an_ack_settles_what_was_nacked(under_test: BrokerUnderTest) -> None:
    """A nacked message that is acked before its delay is over does not come again."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    with broker.subscribe(topic) as subscription:
        message = receive_one(subscription)
        subscription.nack([message], delay=0.3)

        subscription.ack([message])

        assert_nothing_comes(subscription)
    assert_nothing_comes(broker.subscribe(topic))


def test_what_was_nacked_comes_again_after_closing(under_test: BrokerUnderTest) -> None:
    """A nacked message whose consumer closes comes to another at once, whatever its delay."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(10))
    with broker.subscribe(topic) as first:
        first.nack(receive(first, 10), delay=600)

    again = receive_soon(under_test.connect().subscribe(topic), 10)

    assert in_order(bodies(again)) == numbers(10)


def test_after_consumers_that_only_nack_a_healthy_one_gets_everything(
    under_test: BrokerUnderTest,
) -> None:
    """Consumers that nack everything and go leave everything for a healthy one."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=1000)
    broker.publish_batch(topic, numbered(50))
    for _ in range(2):
        with broker.subscribe(topic) as sick:
            for _ in range(3):
                sick.nack(receive(sick, 50), delay=0.05)

    receive_bodies([broker.subscribe(topic)], numbers(50))

    assert read_dead_letters(broker, topic, 0) == []
