"""The events on the two topics: CloudEvents 1.0, written in binary mode and read in both.

Programs that never heard of this project can publish images and read results; how the attributes
are written stands in `MessageBroker.cloudevents`.

Source: https://www.w3.org/TR/trace-context/ for `traceparent`.
"""

from __future__ import annotations

import functools
from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import orjson
import uuid_utils

from DurableText.moments import timestamp, valid_time
from MessageBroker import Message, OutgoingMessage
from MessageBroker.cloudevents import attribute, known_id, message_uuid, plain_name
from MessageBroker.event_content import (
    CONTENT_TYPE,
    EventContent,
    EventContentError,
    attributes_of,
    content_of,
)
from MessageBroker.limits import cut
from Modelling.predictor import Answer, Item, is_reserved
from Queue import Record

IMAGE_TYPE = "event-driven-model-serving.image.v1"
INFERENCE_TYPE = "event-driven-model-serving.inference.v1"
SHADOW_TYPE = "event-driven-model-serving.shadow-inference.v1"
IMAGE_SOURCE = "/event-driven-model-serving/app_1"
PAGE_SOURCE = "/event-driven-model-serving/page"
INFERENCE_SOURCE = "/event-driven-model-serving/model_server_pub"
SHADOW_SOURCE = "/event-driven-model-serving/model_server_sub"
SPEC_VERSION = "1.0"
TRACE_PARENT = "traceparent"
JSON_TYPE = "application/json"

# How a trace context stands in the body of a result: only then is it parsed before it is published.
_TRACED = b'"traceparent":'


class _Names(NamedTuple):
    """CloudEvents attributes as one binding writes them."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    expectedlabel: str


@functools.cache
def _names(prefix: str) -> _Names:
    return _Names(*(prefix + name for name in _Names._fields))


class EventError(ValueError):
    """Raised when a message is not the event that was expected on its topic."""


# ---------------------------------------------------------------------- image events


def image_event(
    data: bytes,
    *,
    prefix: str,
    subject: str,
    content_type: str,
    time: str,
    expected_label: str | None = None,
    source: str = IMAGE_SOURCE,
) -> tuple[str, OutgoingMessage]:
    """Make the event that publishes an image.

    Args:
        data: the image in any format that the model server reads.
        prefix: the broker's `cloudevents_prefix`.
        subject: what the image is: a file name, or `mnist-test/123`.
        content_type: the media type of `data`.
        time: when the image was meant to be sent, RFC 3339: see `timestamp`.
        expected_label: the truth, where it is known; it travels to the result.
        source: which program publishes it.

    Returns:
        The event's id, a UUIDv7, and the message to publish.
    """
    event_id = str(uuid_utils.uuid7())
    names = _names(prefix)
    attributes = {
        names.specversion: SPEC_VERSION,
        names.id: event_id,
        names.source: source,
        names.type: IMAGE_TYPE,
        names.time: time,
        names.subject: subject,
        CONTENT_TYPE: content_type,
    }
    if expected_label is not None:
        attributes[names.expectedlabel] = expected_label
    return event_id, OutgoingMessage(data, attributes=attributes)


class ImageOrigin(NamedTuple):
    """What a received image says of itself, in the words of an inference event.

    Attributes:
        id: the image's id in everything that follows.
        source: what the image is, if it says so.
        expected_label: the truth, if it is known.
        published_at: RFC 3339.
        traceparent: the W3C trace context, if there is one.
    """

    id: str
    source: str | None
    expected_label: str | None
    published_at: str
    traceparent: str | None


def image_origin(message: Message, broker_name: str) -> ImageOrigin:
    """Read the attributes of a received image; all of them may be missing.

    Foreign producers on Kafka know no limits of ours: what is too long for an attribute is cut, so
    that the result can be put into the queue and published.
    """
    attributes = attributes_of(message)
    return ImageOrigin(  # by their places, which is quicker: there is one for each image
        known_id(attributes) or message_uuid(broker_name, message.topic, message.id),
        _cut(attribute(attributes, "subject")),
        _cut(attribute(attributes, "expectedlabel")),
        valid_time(attribute(attributes, "time")) or timestamp(message.publish_time),
        _cut(attributes.get(TRACE_PARENT)),
    )


class _PlainAttributes(Mapping[str, str]):
    """Attributes by CloudEvents' own names, looked up when they are asked for: few are."""

    __slots__ = ("_attributes",)

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes

    def __getitem__(self, name: str) -> str:
        value = attribute(self._attributes, name)
        return self._attributes[name] if value is None else value

    def get(self, name: str, default: Any = None) -> Any:  # its own would raise and catch
        value = attribute(self._attributes, name)
        return self._attributes.get(name, default) if value is None else value

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(map(plain_name, self._attributes)))

    def __len__(self) -> int:
        return len(set(map(plain_name, self._attributes)))


def read_item(message: Message) -> Item:
    """Read what a message brings for a predictor.

    Raises:
        EventError: the message cannot be read as an event.
    """
    attributes, data = _content(message)
    return Item(data, _PlainAttributes(attributes))


def _content(message: Message) -> EventContent:
    try:
        return content_of(message)
    except EventContentError as error:
        raise EventError(str(error)) from None


def _cut(text: str | None) -> str | None:
    return None if text is None else cut(text)


# ---------------------------------------------------------------------- inference events


def inference_record(
    origin: ImageOrigin,
    *,
    answer: Answer,
    model: str,
    received_at: str,
    predicted_at: str,
    min_confidence: float = 0.0,
) -> dict[str, Any]:
    """Make the body of an inference event. Fields without a value are left out.

    Args:
        origin: what the image says of itself.
        answer: what the predictor says.
        model: which one answered.
        received_at: when the model server had the image, RFC 3339.
        predicted_at: when it had the answer.
        min_confidence: an answer that is less confident is marked as unsure.
    """
    image_id, source, expected_label, published_at, traceparent = origin
    said = {name: value for name, value in answer.items() if value is not None}
    record: dict[str, Any] = {"id": image_id, **said}
    if answer.get("confidence", 1.0) < min_confidence:
        record["unsure"] = True
    record["model"] = model
    if source is not None:
        record["source"] = source
    if expected_label is not None:
        record["expected_label"] = expected_label
    record["published_at"] = published_at
    record["received_at"] = received_at
    record["predicted_at"] = predicted_at
    if traceparent is not None:
        record[TRACE_PARENT] = traceparent
    return record


def inference_events(records: Sequence[Record], *, prefix: str) -> list[OutgoingMessage]:
    """Make the events that publish a batch of results; their ids are the images'."""
    names = _names(prefix)
    common = _common(names, INFERENCE_SOURCE, INFERENCE_TYPE)
    events = []
    for record in records:
        attributes = {**common, names.id: record.id}
        if _TRACED in record.body:  # or a text has these words
            trace_parent = orjson.loads(record.body).get(TRACE_PARENT)
            if isinstance(trace_parent, str):
                attributes[TRACE_PARENT] = trace_parent
        events.append(OutgoingMessage(record.body, attributes=attributes))
    return events


def shadow_events(records: Sequence[Record], model: str, *, prefix: str) -> list[OutgoingMessage]:
    """Make the events of a shadow's answers; their ids are the images' with the model's."""
    names = _names(prefix)
    common = _common(names, SHADOW_SOURCE, SHADOW_TYPE)
    return [
        OutgoingMessage(record.body, attributes={**common, names.id: cut(f"{record.id}@{model}")})
        for record in records
    ]


def _common(names: _Names, source: str, event_type: str) -> dict[str, str]:
    """Make the attributes that all events of a batch share."""
    return {
        names.specversion: SPEC_VERSION,
        names.source: source,
        names.type: event_type,
        names.time: timestamp(),
        CONTENT_TYPE: JSON_TYPE,
    }


def trace_carriers(
    records: Sequence[Record], events: Sequence[OutgoingMessage]
) -> list[MutableMapping[str, Any]]:
    """Return what carries the trace contexts of results: their span goes into the attributes."""
    carriers: list[MutableMapping[str, Any]] = []
    for record, event in zip(records, events, strict=True):
        attributes = event.attributes
        if isinstance(attributes, dict) and TRACE_PARENT in attributes:
            carriers.append(ChainMap(attributes, orjson.loads(record.body)))
    return carriers


def parse_inference(message: Message) -> dict[str, Any]:
    """Read an inference event.

    Raises:
        EventError: the message is none.
    """
    record, is_of_shadow = parse_result(message)
    if is_of_shadow:
        raise _wrong_type(SHADOW_TYPE)
    return record


def _wrong_type(event_type: str) -> EventError:
    return EventError(f"the event is of type {event_type!r}, not {INFERENCE_TYPE!r}")


def parse_result(message: Message) -> tuple[dict[str, Any], bool]:
    """Read an inference event, or what a shadow says.

    Returns:
        The body, and whether it is what a shadow says.

    Raises:
        EventError: the message is neither.
    """
    attributes, data = _content(message)
    event_type = attribute(attributes, "type")
    is_of_shadow = event_type == SHADOW_TYPE
    if not is_of_shadow and event_type is not None and event_type != INFERENCE_TYPE:
        raise _wrong_type(event_type)
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EventError(f"the body is no JSON: {error}") from None
    if not isinstance(record, dict):
        raise EventError(f"the body is a JSON {type(record).__name__}, not an object")
    if not isinstance(record.get("id"), str) or not record["id"]:
        raise EventError("the field 'id' is missing or not a text")
    # A predictor of one's own may say something else than a label; nobody says nothing.
    label = record.get("label")
    if not (isinstance(label, str) and label) and (
        "label" in record or all(map(is_reserved, record))
    ):
        raise EventError("the field 'label' is missing or not a text")
    if TRACE_PARENT in record and (published := attributes.get(TRACE_PARENT)):
        record[TRACE_PARENT] = cut(published)  # that of the span of publishing, if there was one
    return record, is_of_shadow
