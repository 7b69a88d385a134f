"""Order."""

from __future__ import annotations

import threading
from collections import defaultdict

from MessageBroker import Message, OutgoingMessage
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


def interleaved(keys: str, count: int) -> list[OutgoingMessage]:
    """Return "a 0", "b 0", "a 1", ... with the letters as keys."""
    return [
        OutgoingMessage(f"{key} {number}".encode(), key) for number in range(count) for key in keys
    ]


def by_key(messages: list[Message]) -> dict[str, list[str]]:
    """Group bodies by key, in order of arrival."""
    groups: dict[str, list[str]] = defaultdict(list)
    for message in messages:
        groups[message.key or ""].append(message.data.decode())
    return groups


def test_messages_of_a_key_arrive_in_order(under_test: BrokerUnderTest) -> None:
    """Messages of the same key arrive in the order in which they were published."""
    broker, topic = under_test.connect_with_topic()
    batch = interleaved("abcde", 60)
    broker.publish_batch(topic, batch[:100])
    for each in batch[100:]:
        broker.publish(topic, each.data, key=each.key)
    subscription = broker.subscribe(topic)

    arrived: list[Message] = []
    while len(arrived) < len(batch):
        messages = receive(subscription, 1) + subscription.receive(16, 0.1)
        subscription.ack(messages)
        arrived += messages

    expected = {key: [f"{key} {number}" for number in range(60)] for key in "abcde"}
    assert by_key(arrived) == expected


def test_a_key_is_with_one_consumer_at_a_time(under_test: BrokerUnderTest) -> None:
    """Two consumers of a subscription never handle messages of one key at the same time."""
    broker, topic = under_test.connect_with_topic()
    subscriptions = [broker.subscribe(topic), under_test.connect().subscribe(topic)]
    wait_until_ready(*subscriptions)
    keys, count = "abcdefgh", 12
    lock, done = threading.Lock(), threading.Event()
    handled: dict[str, list[int]] = defaultdict(list)

    def consume(mine: int) -> None:
        while not done.is_set():
            messages = subscriptions[mine].receive(3, 0.2)
            with lock:
                # Written down in the order of handling, over both consumers.
                for message in messages:
                    number = int(message.data.split()[1])
                    handled[message.key or ""].append(number)
                    if all(len(handled[key]) >= count for key in keys):
                        done.set()
            subscriptions[mine].ack(messages)

    threads = [threading.Thread(target=consume, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    broker.publish_batch(topic, interleaved(keys, count))
    done.wait(40)
    done.set()
    for thread in threads:
        thread.join()

    assert handled == {key: list(range(count)) for key in keys}


def test_a_held_key_does_not_go_to_another_consumer(under_test: BrokerUnderTest) -> None:
    """While one consumer holds a message of a key, no other gets later ones of that key."""
    broker, topic = under_test.connect_with_topic()
    one, other = broker.subscribe(topic), under_test.connect().subscribe(topic)
    wait_until_ready(one, other)
    broker.publish(topic, b"0", key="k").result()
    holder, rival = one, other
    first = holder.receive(1, 1.0)
    while not first:
        holder, rival = rival, holder
        first = holder.receive(1, 1.0)

    broker.publish(topic, b"1", key="k").result()

    assert_nothing_comes(rival)
    holder.ack(first)


def test_a_nacked_message_holds_its_key(under_test: BrokerUnderTest) -> None:
    """Messages of a nacked message's key wait for it; those of other keys pass."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, b"a 0", key="a").result()
    subscription.nack([receive_one(subscription)], delay=1.5)

    broker.publish_batch(topic, interleaved("ab", 5)[1:])

    arrived = []
    for _ in range(10):
        arrived.append(receive_one(subscription))
        subscription.ack(arrived[-1:])
    assert bodies(arrived) == [f"{key} {number}" for key in "ba" for number in range(5)]


def test_order_holds_through_nacks(under_test: BrokerUnderTest) -> None:
    """Nacked again and again, messages of a key are still acknowledged in order."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, interleaved("abc", 20))
    subscription = broker.subscribe(topic)
    acked: dict[str, list[str]] = defaultdict(list)

    while sum(map(len, acked.values())) < 60:
        sick: set[str | None] = set()
        for message in receive(subscription, 1) + subscription.receive(6, 0.0):
            number = int(message.data.split()[1])
            if message.key in sick or (number % 4 == 3 and message.delivery_attempt == 1):
                # What follows a failed message in the same batch is nacked with it.
                sick.add(message.key)
                subscription.nack([message], delay=0.01)
            else:
                acked[message.key or ""].append(message.data.decode())
                subscription.ack([message])

    assert acked == {key: [f"{key} {number}" for number in range(20)] for key in "abc"}


def test_a_dead_letter_lets_its_key_go_on(under_test: BrokerUnderTest) -> None:
    """When a message of a key becomes a dead letter, those that waited for it come."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=2)
    broker.publish_batch(topic, numbered(5, key="k"))
    subscription = broker.subscribe(topic)
    for _ in range(2):
        first, *others = receive(subscription, 1)
        assert first.data == b"0"
        subscription.nack([first, *others])

    rest = []
    for _ in range(4):
        rest.append(receive_one(subscription))
        subscription.ack(rest[-1:])

    assert bodies(rest) == ["1", "2", "3", "4"]


def test_order_holds_over_a_closing(under_test: BrokerUnderTest) -> None:
    """What a closed consumer had not acked comes again in order, and so does what follows."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(30, key="k"))
    with broker.subscribe(topic) as first:
        arrived = receive(first, 20)
        assert bodies(arrived) == numbers(20)
        first.ack(arrived[:10])

    rest = bodies(receive(under_test.connect().subscribe(topic), 20))

    # The Pub/Sub emulator hands out what is new before what comes again; the service does not.
    assert [body for body in rest if int(body) < 20] == numbers(20)[10:]
    assert [body for body in rest if int(body) >= 20] == numbers(30)[20:]


def test_messages_without_a_key_flow_past_a_held_key(under_test: BrokerUnderTest) -> None:
    """A key that waits holds up nothing that has no key."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, b"-1", key="k").result()
    subscription.nack([receive_one(subscription)], delay=600)

    broker.publish_batch(topic, numbered(100))

    receive_bodies([subscription], numbers(100))
