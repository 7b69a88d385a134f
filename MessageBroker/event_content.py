"""What an event says and carries, in whichever content mode of CloudEvents it was published.

In binary mode the attributes are the message's and the data are its body, as they stand. In
structured mode the body is a JSON object that holds both. Many events in one message (batched mode)
have one acknowledgement and one dead letter between them, so they are refused.

Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md, and
`spec.md` there on what the types of attributes are as texts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from MessageBroker.cloudevents import KAFKA_PREFIX
from MessageBroker.message import Message

CONTENT_TYPE = "content-type"
# Written without a prefix in binary mode, as every tracing library looks for them.
UNPREFIXED = frozenset(("traceparent", "tracestate"))

STRUCTURED = "application/cloudevents"
JSON_FORMAT = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch"

_REQUIRED = ("specversion", "id", "source", "type")
_NAME = re.compile("[a-z0-9]{1,64}")
# A JSON document, however its media type is written: https://www.rfc-editor.org/rfc/rfc6839
_JSON_TYPE = re.compile(r"[^;]*[/+]json\s*(;.*)?", re.IGNORECASE)


class EventContentError(ValueError):
    """Raised when a message says that it is an event and cannot be read as one."""


class EventContent(NamedTuple):
    """The attributes of an event, as in binary mode, and its data."""

    attributes: Mapping[str, str]
    data: bytes


def content_of(message: Message) -> EventContent:
    """Read a message as an event; one without any attribute of CloudEvents is its own content.

    Raises:
        EventContentError: it is in batched mode, in a format that is not JSON, or malformed.
    """
    media_type = _structured_type(message.attributes)
    if media_type is None:
        return EventContent(message.attributes, message.data)
    format_name = media_type.partition(";")[0].strip().lower()
    if format_name.startswith(BATCHED):
        raise EventContentError(
            f"CloudEvents in batched mode ({format_name}): publish one event a message"
        )
    if format_name != JSON_FORMAT:
        raise EventContentError(f"CloudEvents in the format {format_name}: {JSON_FORMAT} is read")
    return _structured(message.data)


def attributes_of(message: Message) -> Mapping[str, str]:
    """Return the attributes of an event; the message's own where it cannot be read as one."""
    if _structured_type(message.attributes) is None:
        return message.attributes
    try:
        return content_of(message).attributes
    except EventContentError:
        return message.attributes


def _structured_type(attributes: Mapping[str, str]) -> str | None:
    """Return the media type of a body that holds an event, attributes and all; None for others."""
    media_type = attributes.get(CONTENT_TYPE) or attributes.get("Content-Type") or ""
    if len(media_type) < len(STRUCTURED):  # nearly all: this is asked of every message, twice
        return None
    return media_type if media_type[: len(STRUCTURED)].lower() == STRUCTURED else None


def _structured(body: bytes) -> EventContent:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EventContentError(f"{JSON_FORMAT}, but the body is no JSON: {error}") from None
    if not isinstance(event, dict):
        raise EventContentError(f"{JSON_FORMAT}, but the body is no JSON object")
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise EventContentError(f"{JSON_FORMAT}, but {name!r} is missing or not a text")
    if not event["specversion"].startswith("1."):
        raise EventContentError(f"CloudEvents {event['specversion'][:20]!r}: version 1 is read")
    data = _data_of(event)
    attributes: dict[str, str] = {}
    for name, value in event.items():
        text = _as_text(name, value)
        if text is not None:
            attributes[_binary_name(name)] = text
    return EventContent(attributes, data)


def _data_of(event: dict[str, Any]) -> bytes:
    """Take the data out of an event: bytes in base64, a JSON value, or a text."""
    encoded, data = event.pop("data_base64", None), event.pop("data", None)
    if encoded is not None and data is not None:
        raise EventContentError("both data and data_base64: one of them is the event's")
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise EventContentError(f"data_base64 is none: {error}") from None
    if data is None:
        return b""
    if isinstance(data, str) and not _JSON_TYPE.fullmatch(
        str(event.get("datacontenttype") or "application/json")
    ):
        return data.encode()
    try:
        return orjson.dumps(data)
    except TypeError:  # it reads more levels than it writes
        raise EventContentError("data are nested too deeply") from None


def _as_text(name: str, value: Any) -> str | None:
    """Write an attribute as binary mode does; None for one that is absent."""
    if not _NAME.fullmatch(name):
        raise EventContentError(f"{name[:64]!r} is no name of an attribute")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if value is None:
        return None
    raise EventContentError(f"the attribute {name!r} is a JSON {type(value).__name__}")


def _binary_name(name: str) -> str:
    if name == "datacontenttype":
        return CONTENT_TYPE
    return name if name in UNPREFIXED else KAFKA_PREFIX + name
