"""The id by which an event is known: MessageBroker/cloudevents.py."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MessageBroker import Message
from MessageBroker.cloudevents import MAX_ID_BYTES, attribute, known_id, qualified_id
from MessageBroker.dead_letters import Selection

# Few characters, so that examples differ in where the `#` stands.
TEXTS = st.text("#1a", max_size=6)


@pytest.mark.parametrize(
    ("source", "event_id", "known"),
    [
        ("/scanner/3", "42", "/scanner/3#42"),
        ("", "42", "#42"),
        ("/a#b", "c", "#4#/a#b#c"),
        ("/a", "b#c", "#2#/a#b#c"),
        ("ü#", "c", "#2#ü##c"),  # characters, not bytes
        ("", "#", "#0###"),
    ],
)
def test_an_id_that_is_no_uuid_is_known_with_its_source(
    source: str, event_id: str, known: str
) -> None:
    assert qualified_id(source, event_id) == known
    assert known_id({"ce_id": event_id, "ce_source": source}) == known
    assert known_id({"ce-id": event_id, "ce-source": source}) == known


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_two_events_are_one_only_if_source_and_id_are(
    source: str, event_id: str, other_source: str, other_id: str
) -> None:
    same = (source, event_id) == (other_source, other_id)
    assert (qualified_id(source, event_id) == qualified_id(other_source, other_id)) == same


@pytest.mark.parametrize(("source", "overhead"), [("s", 2), ("s#", 6)])  # "s#"; "#2#s##"
def test_beyond_the_longest_attribute_it_is_a_uuid_of_the_url(source: str, overhead: int) -> None:
    longest = "i" * (MAX_ID_BYTES - overhead)
    assert len(qualified_id(source, longest)) == MAX_ID_BYTES
    written_out = qualified_id(source, longest) + "i"
    assert qualified_id(source, longest + "i") == str(uuid.uuid5(uuid.NAMESPACE_URL, written_out))


def test_a_uuid_is_known_by_itself_in_small_letters() -> None:
    event_id = uuid.uuid4()
    assert known_id({"ce_id": str(event_id).upper(), "ce_source": "/a"}) == str(event_id)


def test_an_empty_attribute_is_a_missing_one() -> None:
    assert attribute({"ce_id": "", "ce-id": "b"}, "id") == "b"
    assert known_id({"ce_id": "", "ce_source": "/a"}) is None


@pytest.mark.parametrize(
    ("event_id", "asked_for"),
    [("b", "/a#b"), ("x#b", "#2#/a#x#b"), ("b", "b"), ("b", "the letter"), ("b", "the message")],
)
def test_a_letter_is_found_by_every_id_that_it_had(event_id: str, asked_for: str) -> None:
    attributes = {
        "ce_id": event_id,
        "ce_source": "/a",
        "dead_letter_message_id": "the message",
    }
    letter = Message("the letter", b"", attributes, None, "topic", datetime.now(UTC))
    assert Selection({asked_for}).takes(letter)
    assert not Selection({""}).takes(letter)
