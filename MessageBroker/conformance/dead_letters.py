"""Dead letters: what becomes one, and what is in it."""

from __future__ import annotations

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
    receive_one,
)
from MessageBroker.limits import MAX_MESSAGE_BYTES


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
