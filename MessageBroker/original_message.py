"""What a dead letter says of itself, and the message that it was."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from MessageBroker.broker_interface import DEAD_LETTER_SUFFIX
from MessageBroker.cloudevents import attribute, known_id, message_uuid
from MessageBroker.core import dead_letter as names
from MessageBroker.core.broker import BrokerCore
from MessageBroker.errors import MessageNotFoundError
from MessageBroker.event_content import attributes_of
from MessageBroker.message import Message


def source_topic(letter: Message) -> str:
    """Name the topic from which a letter came."""
    return letter.attributes.get(names.SOURCE_TOPIC) or letter.topic.removesuffix(
        DEAD_LETTER_SUFFIX
    )


def original_attributes(letter: Message, broker_name: str, prefix: str) -> dict[str, str]:
    """Return a letter's attributes as they were before it became one.

    A message without a CloudEvents id is known by the UUID that `message_uuid` derives from its
    message id. Replayed, it has another message id; so it is given that UUID as its id, and
    whoever counts results by id still sees one message.

    Args:
        letter: the letter.
        broker_name: `kafka`, `pubsub` or `local`.
        prefix: the broker's `cloudevents_prefix`.
    """
    attributes = {name: value for name, value in letter.attributes.items() if name not in names.ALL}
    message_id = letter.attributes.get(names.MESSAGE_ID)
    if message_id and attribute(attributes_of(letter), "id") is None:
        attributes[f"{prefix}id"] = message_uuid(broker_name, source_topic(letter), message_id)
    return attributes


def originals(broker: BrokerCore, letter: Message) -> list[Message]:
    """Return the message that a letter was; those of a batch, where the letter stands for one.

    A letter without its body is read from the place that it names, and compared with what the
    letter says of it.

    Raises:
        MessageNotFoundError: it is not there any more, or another one is.
    """
    prefix = broker.cloudevents_prefix
    if names.has_body(letter.attributes):
        attributes = original_attributes(letter, broker.name, prefix)
        return [replace(letter, attributes=attributes)]
    source, place = source_topic(letter), letter.attributes.get(names.PLACE, "")
    if not place.startswith(f"{source}/"):
        raise MessageNotFoundError(f"the letter {letter.id} names no place in {source!r}")
    found = broker.read_place(place)
    digest = letter.attributes.get(names.SHA256)
    if digest is not None and digest != hashlib.sha256(found[0].data).hexdigest():
        raise MessageNotFoundError(f"what stands at {place!r} now is another message")
    return [_with_id(each, broker.name, prefix, source) for each in found]


def original_body(broker: BrokerCore, letter: Message) -> bytes:
    """Return the bytes of the message that a letter was.

    Raises:
        MessageNotFoundError: they are not there any more, or the letter stands for several
            messages.
    """
    found = originals(broker, letter)
    if len(found) > 1:
        raise MessageNotFoundError(
            f"{letter.id} stands for a batch of {len(found):,} records, not for one body: replay it"
        )
    return found[0].data


def image_id(broker_name: str, letter: Message) -> str:
    """Return the id by which results know the message that a letter was."""
    message_id = letter.attributes.get(names.MESSAGE_ID, "")
    return known_id(attributes_of(letter)) or message_uuid(
        broker_name, source_topic(letter), message_id
    )


def _with_id(message: Message, broker_name: str, prefix: str, source: str) -> Message:
    """Give a message without a CloudEvents id the one by which it is known; it gets another."""
    if attribute(attributes_of(message), "id") is not None:
        return message
    known = message_uuid(broker_name, source, message.id)
    return replace(message, attributes={**message.attributes, f"{prefix}id": known})


def describe(letter: Message) -> dict[str, Any]:
    """Say what a person wants to know of a letter; its body by its size."""
    event = attributes_of(letter)
    return {
        "id": letter.id,
        "topic": letter.topic,
        "reason": letter.attributes.get(names.REASON, ""),
        "error": letter.attributes.get(names.ERROR, ""),
        "attempts": letter.attributes.get(names.ATTEMPTS, ""),
        "time": letter.attributes.get(names.TIME, letter.publish_time.isoformat()),
        "source_topic": source_topic(letter),
        "message_id": letter.attributes.get(names.MESSAGE_ID, ""),
        "event_id": attribute(event, "id") or "",
        "subject": attribute(event, "subject") or "",
        "key": letter.key,
        "bytes": _size_of(letter),
        "place": letter.attributes.get(names.PLACE, ""),
        "attributes": {
            name: value for name, value in letter.attributes.items() if name not in names.ALL
        },
    }


def _size_of(letter: Message) -> int:
    """Return the size of the message that a letter was, as far as it is known."""
    told = letter.attributes.get(names.BYTES, "")
    return int(told) if told.isdecimal() and len(told) < 19 else len(letter.data)
