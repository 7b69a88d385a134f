"""Limits that no broker is needed for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MessageBroker import ConfigurationError, MessageTooLargeError
from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.core.dead_letter import OF_EVERY_LETTER, dead_letter_attributes
from MessageBroker.limits import (
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_MESSAGE_BYTES,
    check_message,
    check_name,
    cut,
)

# What Kafka takes; Pub/Sub takes 255.
KAFKA_NAME_LENGTH = 249


@given(st.text(), st.integers(min_value=3, max_value=2000))
def test_a_cut_text_fits_and_is_a_beginning(text: str, limit: int) -> None:
    shortened = cut(text, limit)

    assert len(shortened.encode()) <= limit
    if len(text.encode()) > limit:
        assert shortened.endswith("…")
        assert text.startswith(shortened[:-1])
    else:
        assert shortened == text


@given(st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010)))
def test_a_cut_text_can_always_be_encoded(text: str) -> None:
    cut(text).encode()


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{2,229}", fullmatch=True))
def test_whatever_follows_from_a_good_name_is_a_good_name(topic: str) -> None:
    if topic.startswith("goog"):
        return
    check_name(topic, "topic")
    letters = dead_letter_topic(topic)
    check_name(letters, "topic")
    for each in (topic, letters):
        check_name(default_subscription(each), "subscription")
        assert len(default_subscription(each)) <= KAFKA_NAME_LENGTH


@given(st.integers(min_value=0, max_value=300), st.text(max_size=20))
def test_an_allowed_name_is_never_too_long_for_a_broker(length: int, middle: str) -> None:
    for name in ("a" * length + middle, "a" * 100 + "-dead-letter-" + "b" * length):
        try:
            check_name(name, "topic")
        except ConfigurationError:
            continue
        assert len(default_subscription(dead_letter_topic(name))) <= KAFKA_NAME_LENGTH + 12


@pytest.mark.parametrize("name", [None, 7, b"topic"])
def test_a_name_that_is_no_string_is_a_type_error(name: object) -> None:
    with pytest.raises(TypeError, match="topic name must be a string"):
        check_name(name, "topic")  # type: ignore[arg-type]


def test_the_size_counts_data_key_and_attributes() -> None:
    check_message(bytes(MAX_MESSAGE_BYTES - 6), "key", {"a": "é"})

    with pytest.raises(MessageTooLargeError, match="7,340,032 are the most"):
        check_message(bytes(MAX_MESSAGE_BYTES - 5), "key", {"a": "é"})


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_the_attributes_of_a_dead_letter_always_fit(reason: str, error: str) -> None:
    attributes = dead_letter_attributes(
        {"label": "7"}, topic="t", message_id="1", attempts=5, reason=reason, error=error
    )

    assert attributes.keys() == {"label", *OF_EVERY_LETTER}
    assert all(len(value.encode()) <= MAX_ATTRIBUTE_VALUE_BYTES for value in attributes.values())


def test_attributes_that_are_no_mapping_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="attributes must be a mapping, not list"):
        check_message(b"body", None, [("a", "b")])  # type: ignore[arg-type]
