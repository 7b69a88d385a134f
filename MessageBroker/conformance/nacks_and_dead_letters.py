"""Nacks, attempts and dead letters."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta

import pytest

from MessageBroker import (
    ConfigurationError,
    MessageTooLargeError,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.broker_interface import dead_letter_topic
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
from MessageBroker.limits import MAX_MESSAGE_BYTES


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


def test_a_message_nacked_too_often_becomes_a_dead_letter(under_test: BrokerUnderTest) -> None:
    """After `max_delivery_attempts` nacks a message is in the dead-letter topic, unchanged."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=3)
    body, attributes = bytes(range(256)), {"ce_id": "1", "label": "7"}
    message_id = broker.publish(topic, body, key="k", attributes=attributes).result()
    subscription = broker.subscribe(topic)
    attempts = []
    for _ in range(3):
        message = receive_one(subscription)
        attempts.append(message.delivery_attempt)
        subscription.nack([message])

    (letter,) = read_dead_letters(broker, topic, 1)
    assert attempts == [1, 2, 3]
    assert (letter.data, letter.key) == (body, "k")
    assert {name: letter.attributes[name] for name in attributes} == attributes
    assert letter.attributes["dead_letter_reason"] == "max_delivery_attempts"
    assert letter.attributes["dead_letter_attempts"] == "3"
    assert letter.attributes["dead_letter_message_id"] == message_id
    assert_nothing_comes(subscription)


def test_only_nacks_count_as_attempts(under_test: BrokerUnderTest) -> None:
    """Deliveries do not count: a message given back ten times un-acked is at its first attempt."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=2)
    broker.publish(topic, b"good").result()
    for _ in range(5):
        with broker.subscribe(topic) as subscription:
            assert receive_one(subscription).delivery_attempt == 1

    assert read_dead_letters(broker, topic, 0) == []


def test_a_dead_letter_keeps_bytes_and_attributes(under_test: BrokerUnderTest) -> None:
    """`dead_letter` moves a message with its bytes, key and attributes, and says why."""
    broker, topic = under_test.connect_with_topic()
    body, attributes = b"\x00\xff" * 450_000, {"label": "7", "empty": ""}
    message_id = broker.publish(topic, body, key="k", attributes=attributes).result()
    subscription = broker.subscribe(topic)

    moved = subscription.dead_letter([receive_one(subscription)], "no image", ValueError("bad"))

    (letter,) = read_dead_letters(broker, topic, 1)
    added = {name: letter.attributes[name] for name in letter.attributes.keys() - attributes}
    dead_letter_time = datetime.fromisoformat(added.pop("dead_letter_time"))
    assert moved == 1
    assert (letter.data, letter.key, letter.topic) == (body, "k", dead_letter_topic(topic))
    assert letter.attributes.items() >= attributes.items()
    assert added == {
        "dead_letter_reason": "no image",
        "dead_letter_error": "ValueError: bad",
        "dead_letter_attempts": "1",
        "dead_letter_source_topic": topic,
        "dead_letter_message_id": message_id,
    }
    assert dead_letter_time.utcoffset() == timedelta(0)


def test_each_dead_letter_may_have_an_error_of_its_own(under_test: BrokerUnderTest) -> None:
    """`dead_letter` of many messages takes one error for all, or one for each of them."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(3))
    subscription = broker.subscribe(topic)
    first, second, third = receive(subscription, 3)

    with pytest.raises(ValueError, match="3 messages and 2 errors"):
        subscription.dead_letter([first, second, third], "no image", ["one", "two"])
    moved = subscription.dead_letter(
        [first, second, third], "no image", ["one", ValueError("two"), "three"]
    )

    letters = read_dead_letters(broker, topic, 3)
    assert moved == 3
    assert {each.data: each.attributes["dead_letter_error"] for each in letters} == {
        first.data: "one",
        second.data: "ValueError: two",
        third.data: "three",
    }


def test_a_dead_letter_is_acked(under_test: BrokerUnderTest) -> None:
    """What was dead-lettered does not come again."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(10))
    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter(receive(subscription, 10), "no image") == 10
        assert_nothing_comes(subscription)

    assert_nothing_comes(broker.subscribe(topic))
    assert len(read_dead_letters(broker, topic, 10)) == 10


def test_a_message_becomes_one_dead_letter_only(under_test: BrokerUnderTest) -> None:
    """A message named twice, or already settled, becomes one dead letter."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=1)
    broker.publish_batch(topic, numbered(3))
    subscription = broker.subscribe(topic)
    moved, exhausted, acked = receive(subscription, 3)
    subscription.ack([acked])

    assert subscription.dead_letter([moved, moved, acked], "no image") == 1
    assert subscription.dead_letter([moved], "no image") == 0
    subscription.nack([exhausted, exhausted])
    subscription.nack([exhausted])

    assert sorted(bodies(read_dead_letters(broker, topic, 2))) == sorted(bodies([moved, exhausted]))


def test_long_reasons_are_cut(under_test: BrokerUnderTest) -> None:
    """A reason or error longer than an attribute may be is cut at a character, and marked."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)

    subscription.dead_letter([receive_one(subscription)], "é" * 2000, "数" * 2000 + "\udcff")

    (letter,) = read_dead_letters(broker, topic, 1)
    reason, error = (letter.attributes[f"dead_letter_{each}"] for each in ("reason", "error"))
    assert reason.strip("é") == error.strip("数") == "…"
    assert all(1000 < len(text.encode()) <= 1024 for text in (reason, error))


class UnprintableError(Exception):
    """An error that cannot be written down."""

    def __str__(self) -> str:
        raise ValueError("no words for it")


def test_a_reason_that_is_no_text_moves_nothing(under_test: BrokerUnderTest) -> None:
    """A reason or error of a wrong type is an error, and the message stays as it was."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)

    with pytest.raises(TypeError, match="a reason must be a string"):
        subscription.dead_letter([message], ValueError("bad"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an error must be a string or an exception"):
        subscription.dead_letter([message], "no image", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no words for it"):
        subscription.dead_letter([message], "no image", UnprintableError())

    subscription.nack([message], delay=0.0)
    assert receive_one(subscription).delivery_attempt == 2
    assert read_dead_letters(broker, topic, 0) == []


def test_what_cannot_become_a_message_can_be_dead_lettered(under_test: BrokerUnderTest) -> None:
    """`publish_dead_letter` publishes bytes beside a topic, within the limits of a message."""
    broker, topic = under_test.connect_with_topic()
    too_much: list[dict[str, str]] = [{"n": "v" * 1025}, {f"n{i}": "v" for i in range(91)}]

    for data in ("text", bytearray(b"bytes"), None):
        with pytest.raises(TypeError, match="must be bytes"):
            broker.publish_dead_letter(topic, data, reason="bad")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a reason must be a string"):
        broker.publish_dead_letter(topic, b"body", reason=None)  # type: ignore[arg-type]
    with pytest.raises(PublishError):
        broker.publish_dead_letter(topic, b"body", reason="bad", attributes={"n": "\udcff"})
    for attributes in too_much:
        with pytest.raises(MessageTooLargeError):
            broker.publish_dead_letter(topic, b"body", reason="bad", attributes=attributes)
    with pytest.raises(MessageTooLargeError):
        broker.publish_dead_letter(topic, bytes(MAX_MESSAGE_BYTES + 1), reason="bad")

    broker.publish_dead_letter(topic, b"body", reason="bad", attributes={"file": "log"}).result(30)
    (letter,) = read_dead_letters(broker, topic, 1)
    assert (letter.data, letter.attributes["file"]) == (b"body", "log")
    assert letter.attributes["dead_letter_reason"] == "bad"


def test_the_largest_message_can_become_a_dead_letter(under_test: BrokerUnderTest) -> None:
    """A message at every limit (7 MiB, 90 attributes) still fits into the dead-letter topic."""
    broker, topic = under_test.connect_with_topic()
    attributes = {f"name-{number:02}": "v" * 1024 for number in range(90)}
    size = 7 * 1024 * 1024 - sum(len(name) + 1024 for name in attributes)
    broker.publish(topic, b"\x01" * size, attributes=attributes).result()
    subscription = broker.subscribe(topic)

    assert subscription.dead_letter([receive_one(subscription)], "r" * 5000, "e" * 5000) == 1

    (letter,) = read_dead_letters(broker, topic, 1)
    assert len(letter.data) == size
    assert letter.attributes.items() >= attributes.items()


def test_a_dead_letter_topic_that_is_gone_is_an_error_and_nothing_is_lost(
    under_test: BrokerUnderTest,
) -> None:
    """Where the dead-letter topic was deleted that is told, and the message comes again."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"bad").result()
    subscription = broker.subscribe(topic)
    message = receive_one(subscription)
    broker.delete_topic(dead_letter_topic(topic))

    with pytest.raises(TopicNotFoundError, match=dead_letter_topic(topic)):
        subscription.dead_letter([message], "no image")
        receive(subscription, 2)  # on a busy machine it may be told by the next call

    again = receive_one(subscription)
    assert again.data == b"bad"
    broker.create_topic(topic)
    assert subscription.dead_letter([again], "no image") == 1


def test_dead_letters_wait_for_their_first_reader(under_test: BrokerUnderTest) -> None:
    """Dead letters of a time when nobody read them are all there for the first who does."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(20))
    with broker.subscribe(topic) as subscription:
        subscription.dead_letter(receive(subscription, 20), "no image")
    broker.close()

    letters = read_dead_letters(under_test.connect(), topic, 20)

    assert in_order(bodies(letters)) == numbers(20)


def test_a_nacked_dead_letter_stays(under_test: BrokerUnderTest) -> None:
    """Nacking never moves a dead letter away, and it cannot be dead-lettered again."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=2)
    broker.publish(topic, b"body").result()
    with broker.subscribe(topic) as subscription:
        subscription.dead_letter([receive_one(subscription)], "no image")
    letters = broker.subscribe(dead_letter_topic(topic))

    for _ in range(4):
        letters.nack([receive_one(letters)])

    letter = receive_one(letters)
    assert (letter.data, letter.delivery_attempt) == (b"body", 5)
    with pytest.raises(ConfigurationError, match="holds dead letters itself"):
        letters.dead_letter([letter], "again")
