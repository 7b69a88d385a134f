"""Events as strangers write and read them, and the id that an image keeps."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import orjson
import pytest

from MessageBroker import Message
from Pipeline.events import (
    EventError,
    image_event,
    image_origin,
    inference_events,
    inference_record,
    parse_inference,
    timestamp,
)

PUBLISHED = datetime(2026, 1, 1, 12, 0, 0, 123456, timezone.utc)


def received(attributes: dict[str, str], data: bytes = b"", message_id: str = "1-2-3") -> Message:
    return Message(message_id, data, attributes, None, "images", PUBLISHED)


@pytest.mark.parametrize("prefix", ["ce_", "ce-"])
def test_an_image_event_is_a_cloud_event_in_either_binding(prefix: str) -> None:
    event_id, message = image_event(
        b"...",
        prefix=prefix,
        subject="7.png",
        content_type="image/png",
        time=timestamp(),
        expected_label="7",
    )
    attributes = dict(message.attributes or {})
    assert uuid.UUID(event_id).version == 7
    assert attributes[f"{prefix}specversion"] == "1.0"
    assert attributes[f"{prefix}source"] == "/event-driven-model-serving/app_1"
    assert attributes[f"{prefix}type"] == "event-driven-model-serving.image.v1"
    assert attributes["content-type"] == "image/png"
    origin = image_origin(received(attributes), "local")
    assert (origin.id, origin.source, origin.expected_label) == (event_id, "7.png", "7")
    assert origin.published_at == attributes[f"{prefix}time"]


def test_an_id_that_is_no_uuid_is_unique_only_together_with_its_source() -> None:
    origin = image_origin(received({"ce-id": "42", "ce-source": "/scanner/3"}), "pubsub")
    assert origin.id == "/scanner/3#42"


def test_a_uuid_is_the_same_image_however_it_is_written() -> None:
    upper = image_origin(received({"ce_id": "0199AAAA-0000-7000-8000-00000000000F"}), "local")
    assert upper.id == "0199aaaa-0000-7000-8000-00000000000f"


def test_an_image_without_an_id_gets_one_from_where_it_stands() -> None:
    first, again = (image_origin(received({}), "kafka").id for _ in range(2))
    other = image_origin(received({}, message_id="1-3-3"), "kafka").id
    elsewhere = image_origin(received({}), "local").id
    assert uuid.UUID(first).version == 5
    assert first == again
    assert len({first, other, elsewhere}) == 3


@pytest.mark.parametrize("time", [None, "", "yesterday", "2026-01-01", "2026-01-01T12:00:00"])
def test_without_a_valid_time_the_brokers_counts(time: str | None) -> None:
    attributes = {} if time is None else {"ce_time": time}
    origin = image_origin(received(attributes), "local")
    assert origin.published_at == "2026-01-01T12:00:00.123Z"


def test_the_result_has_the_images_id_and_leaves_out_what_is_unknown() -> None:
    origin = image_origin(received({"ce_id": "5", "traceparent": "00-a-b-01"}), "local")
    record = inference_record(
        origin,
        label="7",
        class_index=7,
        confidence=0.998714,
        model="m@1",
        received_at=timestamp(PUBLISHED),
        predicted_at=timestamp(PUBLISHED),
    )
    assert "source" not in record
    assert "expected_label" not in record
    [message] = inference_events([record], prefix="ce_")
    attributes: dict[str, Any] = dict(message.attributes or {})
    assert attributes["ce_id"] == origin.id
    assert attributes["ce_type"] == "event-driven-model-serving.inference.v1"
    assert attributes["content-type"] == "application/json"
    assert attributes["traceparent"] == "00-a-b-01"
    assert parse_inference(received(attributes, message.data)) == orjson.loads(message.data)
    assert orjson.loads(message.data)["confidence"] == 0.99871


@pytest.mark.parametrize("body", [b"", b"null", b'"x"', b'{"id":1,"label":"7"}', b'{"id":"a"}'])
def test_what_is_no_inference_event_says_why(body: bytes) -> None:
    with pytest.raises(EventError):
        parse_inference(received({}, body))
