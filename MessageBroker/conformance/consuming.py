"""Consuming and acknowledging."""

from __future__ import annotations

import queue
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from MessageBroker import Message, SubscriptionNotFoundError, TopicNotFoundError
from MessageBroker.broker_interface import default_subscription
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
    receive_one,
    receive_soon,
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


def test_two_handlers_are_isolated(under_test: BrokerUnderTest) -> None:
    """Closing one handler does not disturb another of the same process."""
    broker, topic = under_test.connect_with_topic()
    other = under_test.connect()
    subscription = other.subscribe(topic)

    broker.close()
    other.publish(topic, b"still here").result()

    assert bodies([receive_one(subscription)]) == ["still here"]


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
