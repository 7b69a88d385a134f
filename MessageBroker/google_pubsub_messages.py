"""Messages as Pub/Sub carries them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from google.pubsub_v1.types import PubsubMessage

from MessageBroker.message import Delivery, Message

# Pub/Sub refuses a message that has neither data nor attributes: it gets this one on its way.
EMPTY_ATTRIBUTE = "messagebroker-empty"

# The protocol buffer itself: the wrapper around it costs several times what the message does.
_Message = PubsubMessage.pb()


def encode(data: bytes, key: str | None, attributes: Mapping[str, str]) -> Any:
    """Make the protocol buffer of a message."""
    if not data and not attributes:
        attributes = {EMPTY_ATTRIBUTE: ""}
    return _Message(data=data, attributes=attributes, ordering_key=key or "")


def decode(encoded: Any, topic: str, handle: Any) -> Message:
    """Make a message from its protocol buffer; `handle` is what acknowledges it."""
    data: bytes = encoded.data
    attributes = dict(encoded.attributes)
    if not data and attributes == {EMPTY_ATTRIBUTE: ""}:
        attributes = {}
    published = encoded.publish_time
    return Message(
        id=encoded.message_id,
        data=data,
        attributes=attributes,
        key=encoded.ordering_key or None,
        topic=topic,
        publish_time=datetime.fromtimestamp(
            published.seconds + published.nanos / 1e9, tz=timezone.utc
        ),
        _delivery=Delivery(handle, len(data)),
    )
