"""What a consumer holds: back-pressure, leases, backlog."""

from __future__ import annotations

import pytest

from MessageBroker import Message, SubscriptionNotFoundError, TopicNotFoundError
from MessageBroker.broker_interface import default_subscription
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    assert_nothing_comes,
    bodies,
    numbered,
    numbers,
    receive,
    receive_bodies,
    receive_one,
    wait_until_ready,
)


def test_back_pressure_holds_at_the_limit_of_messages(under_test: BrokerUnderTest) -> None:
    """At `max_outstanding_messages` un-acked, `receive` returns []; after an ack it goes on."""
    broker, topic = under_test.connect_with_topic(max_outstanding_messages=10)
    broker.publish_batch(topic, numbered(25))
    subscription = broker.subscribe(topic)
    held = receive(subscription, 10)
    assert_nothing_comes(subscription)

    subscription.ack(held[:4])

    assert len(receive(subscription, 4)) == 4
    assert_nothing_comes(subscription)


def test_back_pressure_holds_at_the_limit_of_bytes(under_test: BrokerUnderTest) -> None:
    """At `max_outstanding_bytes` un-acked, `receive` returns []; after an ack it goes on."""
    broker, topic = under_test.connect_with_topic(max_outstanding_bytes=100_000)
    for number in range(30):
        broker.publish(topic, b"%d".ljust(20_000) % number)
    broker.flush(30)
    subscription = broker.subscribe(topic)
    held: list[Message] = []
    while messages := subscription.receive(1, 2.0):
        held += messages
    assert 5 <= len(held) < 30

    while len(held) < 30:
        subscription.ack(held)
        held += receive(subscription, 1)


def test_nacked_messages_count_as_outstanding(under_test: BrokerUnderTest) -> None:
    """Nacked messages that wait fill `max_outstanding_messages`; acked, they make room."""
    broker, topic = under_test.connect_with_topic(max_outstanding_messages=10)
    broker.publish_batch(topic, numbered(25))
    subscription = broker.subscribe(topic)
    held = receive(subscription, 10)
    subscription.nack(held, delay=600)
    assert_nothing_comes(subscription)

    subscription.ack(held)

    receive_bodies([subscription], set(numbers(25)) - set(bodies(held)))


def test_time_alone_redelivers_nothing(under_test: BrokerUnderTest) -> None:
    """A busy consumer keeps its messages: no lease, poll interval or rival takes them away."""
    broker, topic = under_test.connect_with_topic()
    busy, rival = broker.subscribe(topic), under_test.connect().subscribe(topic)
    wait_until_ready(busy, rival)
    broker.publish_batch(topic, numbered(40))
    kept: list[tuple[Message, ...]] = []
    missing = set(numbers(40))
    while missing:
        kept += [tuple(busy.receive(40, 0.2)), tuple(rival.receive(40, 0.2))]
        missing -= {body for batch in kept for body in bodies(batch)}
    nacked = kept[0][:3]
    busy.nack(nacked, delay=600)

    # `busy` does not even receive: its thread works on what it has.
    assert_nothing_comes(rival, seconds=under_test.inattention_seconds + 2)

    for mine, others in zip(kept[::2], kept[1::2], strict=True):
        busy.ack(mine)
        rival.ack(others)
    assert (busy.late_acks, rival.late_acks) == (0, 0)


def test_max_lease_seconds_ends_a_lease(under_test: BrokerUnderTest) -> None:
    """What a live consumer keeps longer than `max_lease_seconds` comes again; its ack is late."""
    broker, topic = under_test.connect_with_topic(max_lease_seconds=1.0)
    broker.publish(topic, b"forgotten")
    subscription = broker.subscribe(topic)
    forgotten = receive_one(subscription)

    again = receive_one(subscription)
    subscription.ack([forgotten])

    assert (again.id, again.delivery_attempt) == (forgotten.id, 1)
    assert subscription.late_acks == 1


def test_backlog_counts_what_is_not_acked(under_test: BrokerUnderTest) -> None:
    """`backlog` counts what is not acknowledged, or is None on a broker that cannot tell."""
    broker, topic = under_test.connect_with_topic()

    def expected(count: int) -> int | None:
        return count if under_test.counts_backlog else None

    assert broker.backlog(topic) == expected(0)
    broker.publish_batch(topic, numbered(30))
    assert broker.backlog(topic) == expected(30)
    with broker.subscribe(topic) as subscription:
        arrived = receive(subscription, 30)
        assert broker.backlog(topic) == expected(30)
        subscription.ack(arrived)
    assert broker.backlog(topic) == expected(0)


def test_backlog_of_an_unknown_subscription_is_an_error(under_test: BrokerUnderTest) -> None:
    """`backlog` of a subscription that does not exist is a SubscriptionNotFoundError."""
    broker, topic = under_test.connect_with_topic()

    with pytest.raises(SubscriptionNotFoundError):
        broker.backlog(topic, under_test.unused_name("nobody"))


def test_backlog_is_of_one_topics_subscription(under_test: BrokerUnderTest) -> None:
    """`backlog` finds no subscription of another topic, and no topic that others deleted."""
    broker, topic = under_test.connect_with_topic()
    other = under_test.unused_name()
    broker.create_topic(other)

    with pytest.raises(SubscriptionNotFoundError):
        broker.backlog(topic, default_subscription(other))
    under_test.connect().delete_topic(topic)
    with pytest.raises(TopicNotFoundError):
        broker.backlog(topic)
    with pytest.raises(TopicNotFoundError):
        broker.backlog(topic, default_subscription(other))
