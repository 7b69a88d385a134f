"""Messages as Pub/Sub carries them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.pubsub_v1.types import PubsubMessage

from MessageBroker.core import dead_letter as letters
from MessageBroker.limits import MAX_ATTRIBUTE_VALUE_BYTES
from MessageBroker.message import Delivery, Message

logger = logging.getLogger(__name__)

# Pub/Sub refuses a message that has neither data nor attributes: it gets this one on its way.
EMPTY_ATTRIBUTE = "messagebroker-empty"

# Pub/Sub refuses more attributes. The core keeps to fewer, but somebody else's message may have as
# many, and six more as a dead letter: the smallest travel in this one then, as a JSON object.
MAX_ATTRIBUTES = 100
PACKED_ATTRIBUTE = "messagebroker-more"

# The protocol buffer itself: the wrapper around it costs several times what the message does.
_Message = PubsubMessage.pb()


def encode(data: bytes, key: str | None, attributes: Mapping[str, str]) -> Any:
    """Make the protocol buffer of a message."""
    if not data and not attributes:
        attributes = {EMPTY_ATTRIBUTE: ""}
    elif len(attributes) > MAX_ATTRIBUTES:
        attributes = _pack(attributes)
    return _Message(data=data, attributes=attributes, ordering_key=key or "")


def decode(encoded: Any, topic: str, handle: Any) -> Message:
    """Make a message from its protocol buffer; `handle` is what acknowledges it."""
    data: bytes = encoded.data
    attributes = dict(encoded.attributes)
    if not data and attributes == {EMPTY_ATTRIBUTE: ""}:
        attributes = {}
    elif PACKED_ATTRIBUTE in attributes:
        attributes = _unpack(attributes)
    published = encoded.publish_time
    return Message(
        id=encoded.message_id,
        data=data,
        attributes=attributes,
        key=encoded.ordering_key or None,
        topic=topic,
        publish_time=datetime.fromtimestamp(published.seconds + published.nanos / 1e9, tz=UTC),
        delivery=Delivery(handle, len(data)),
    )


def _pack(attributes: Mapping[str, str]) -> dict[str, str]:
    """Put the smallest attributes into one, as many as are too many; what a letter says stays."""
    by_size = sorted(
        (name for name in attributes if name not in letters.ALL),
        key=lambda name: len(name.encode()) + len(attributes[name].encode()),
    )
    chosen = by_size[: len(attributes) - MAX_ATTRIBUTES + 1]
    kept = {name: value for name, value in attributes.items() if name not in chosen}
    packed: dict[str, str] = {}
    left_out: list[str] = []
    for name in chosen:
        if len(_json({**packed, name: attributes[name]}).encode()) <= MAX_ATTRIBUTE_VALUE_BYTES:
            packed[name] = attributes[name]
        else:
            left_out.append(name)
    if left_out:
        logger.error(
            "Pub/Sub takes %d attributes: a message with %d lost %s on its way",
            MAX_ATTRIBUTES,
            len(attributes),
            ", ".join(left_out),
        )
    return {**kept, PACKED_ATTRIBUTE: _json(packed)}


def _json(attributes: Mapping[str, str]) -> str:
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))


def _unpack(attributes: dict[str, str]) -> dict[str, str]:
    try:
        packed = json.loads(attributes[PACKED_ATTRIBUTE])
    except (ValueError, RecursionError):  # a thousand brackets are JSON, too
        return attributes  # somebody else's
    if not isinstance(packed, dict) or not all(isinstance(each, str) for each in packed.values()):
        return attributes
    return {name: value for name, value in attributes.items() if name != PACKED_ATTRIBUTE} | packed
