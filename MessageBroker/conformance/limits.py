"""Limits, the same on every broker."""

from __future__ import annotations

import pytest

from MessageBroker import (
    ConfigurationError,
    MessageTooLargeError,
    OutgoingMessage,
    PublishError,
)
from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import assert_nothing_comes, numbered, receive, receive_one
from MessageBroker.limits import MAX_MESSAGE_BYTES

BAD_NAMES = (
    "",
    "ab",
    "1st",
    "_internal",
    "has space",
    "slash/es",
    "naïve",
    "trailing\n",
    "googol",
    "a" * 231,
    "abc~",
    "abc%25",
)


def test_names_that_one_broker_would_refuse_are_refused_by_all(under_test: BrokerUnderTest) -> None:
    """A topic or subscription name that not every broker takes is a ConfigurationError."""
    broker, topic = under_test.connect_with_topic()

    for name in BAD_NAMES:
        with pytest.raises(ConfigurationError):
            broker.create_topic(name)
        with pytest.raises(ConfigurationError):
            broker.publish(name, b"body")
        with pytest.raises(ConfigurationError):
            broker.subscribe(name)
        if name:
            with pytest.raises(ConfigurationError):
                broker.subscribe(topic, name)


def test_the_longest_name_works(under_test: BrokerUnderTest) -> None:
    """A topic of 230 characters works, with its subscription, dead-letter topic and its own."""
    broker = under_test.connect()
    topic = under_test.unused_name("Longest.name_").ljust(230, "x")
    broker.create_topic(topic)
    broker.publish(topic, b"body").result()

    with broker.subscribe(topic) as subscription:
        assert subscription.dead_letter([receive_one(subscription)], "no image") == 1

    with broker.subscribe(dead_letter_topic(topic)) as letters:
        assert receive_one(letters).data == b"body"
    broker.delete_topic(topic)
    broker.delete_topic(dead_letter_topic(topic))


def test_users_do_not_publish_dead_letters(under_test: BrokerUnderTest) -> None:
    """Publishing to a dead-letter topic is a ConfigurationError."""
    broker, topic = under_test.connect_with_topic()

    with pytest.raises(ConfigurationError, match="is a dead-letter topic"):
        broker.publish(dead_letter_topic(topic), b"body")
    with pytest.raises(ConfigurationError, match="is a dead-letter topic"):
        broker.publish_batch(dead_letter_topic(topic), numbered(1))


def test_a_message_at_the_limit_passes(under_test: BrokerUnderTest) -> None:
    """A message of exactly 7 MiB passes."""
    broker, topic = under_test.connect_with_topic()
    body = b"\x07" * MAX_MESSAGE_BYTES

    broker.publish(topic, body).result(60)

    assert receive_one(broker.subscribe(topic)).data == body


def test_many_large_messages_pass_at_once(under_test: BrokerUnderTest) -> None:
    """A batch of messages just below a megabyte passes: the limit is a message's, not a batch's."""
    broker, topic = under_test.connect_with_topic()
    sizes = [1_000_000 - 114 + number for number in range(12)]

    broker.publish_batch(topic, [OutgoingMessage(bytes(size)) for size in sizes])

    arrived = receive(broker.subscribe(topic), 12)
    assert sorted(len(message.data) for message in arrived) == sizes


def test_a_message_over_a_limit_is_refused(under_test: BrokerUnderTest) -> None:
    """A body, key, attribute or number of attributes over its limit is a MessageTooLargeError."""
    broker, topic = under_test.connect_with_topic()
    too_large: list[OutgoingMessage] = [
        OutgoingMessage(b"\x07" * (MAX_MESSAGE_BYTES + 1)),
        OutgoingMessage(b"\x07" * MAX_MESSAGE_BYTES, attributes={"one": "more"}),
        OutgoingMessage(b"\x07" * MAX_MESSAGE_BYTES, key="k"),
        OutgoingMessage(b"", key="é" * 513),
        OutgoingMessage(b"", attributes={"n" * 257: "v"}),
        OutgoingMessage(b"", attributes={"n": "é" * 513}),
        OutgoingMessage(b"", attributes={f"n{number}": "v" for number in range(91)}),
    ]
    for each in too_large:
        with pytest.raises(MessageTooLargeError):
            broker.publish(topic, each.data, key=each.key, attributes=each.attributes)


def test_a_bad_message_keeps_its_batch_from_being_sent(under_test: BrokerUnderTest) -> None:
    """If one message of a batch is over a limit, nothing of the batch is sent."""
    broker, topic = under_test.connect_with_topic()

    with pytest.raises(MessageTooLargeError):
        broker.publish_batch(topic, [*numbered(5), OutgoingMessage(b"", key="k" * 1025)])

    assert_nothing_comes(broker.subscribe(topic))


def test_attributes_at_the_limits_pass(under_test: BrokerUnderTest) -> None:
    """90 attributes, with names of 256 and values of 1,024 bytes, and a key of 1,024 pass."""
    broker, topic = under_test.connect_with_topic()
    attributes = {f"{number:02}".ljust(256, "n"): "é" * 512 for number in range(90)}

    broker.publish(topic, b"", key="k" * 1024, attributes=attributes).result()

    message = receive_one(broker.subscribe(topic))
    assert (message.attributes, message.key) == (attributes, "k" * 1024)


def test_attributes_that_cannot_be_sent_are_refused(under_test: BrokerUnderTest) -> None:
    """Attribute names that are empty, reserved or hold NUL, and bad UTF-8, are a PublishError."""
    broker, topic = under_test.connect_with_topic()

    for attributes in (
        {"": "v"},
        {"google": "v"},
        {"messagebroker-empty": ""},
        {"messagebroker-more": '{"a": "b"}'},
        {"a\x00b": "v"},
        {"n": "\udcff"},
        {"\ud800": ""},
    ):
        with pytest.raises(PublishError):
            broker.publish(topic, b"body", attributes=attributes)
    with pytest.raises(PublishError):
        broker.publish(topic, b"body", key="\udcff")


def test_only_bytes_and_strings_are_published(under_test: BrokerUnderTest) -> None:
    """A body that is not bytes, or an attribute or key that is not a string, is a TypeError."""
    broker, topic = under_test.connect_with_topic()

    with pytest.raises(TypeError, match="must be bytes"):
        broker.publish(topic, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a string"):
        broker.publish(topic, b"", attributes={"number": 7})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="must be a string"):
        broker.publish(topic, b"", key=b"bytes")  # type: ignore[arg-type]
