"""Events as strangers write and read them, and the id that an image keeps."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from DurableText.moments import timestamp
from MessageBroker import Message
from MessageBroker.limits import check_message
from Pipeline.events import (
    EventError,
    image_event,
    image_origin,
    inference_events,
    inference_record,
    parse_inference,
)
from Queue import encode_record

PUBLISHED = datetime(2026, 1, 1, 12, 0, 0, 123456, UTC)


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


def test_an_id_too_long_for_an_attribute_becomes_a_uuid_the_same_each_time() -> None:
    attributes = {"ce_id": "i" * 1000, "ce_source": "s" * 1000}
    first, again = (image_origin(received(attributes), "local").id for _ in range(2))
    other = image_origin(received({**attributes, "ce_source": "t" * 1000}), "local").id
    assert uuid.UUID(first).version == 5
    assert first == again != other
    longest = image_origin(received({"ce_id": "ü" * 511, "ce_source": "s"}), "local").id
    assert longest == "s#" + "ü" * 511


def test_what_a_foreign_program_wrote_at_length_still_fits_into_the_result() -> None:
    long = "x" * 2_000_000  # a Kafka header may have it
    names = ("ce_id", "ce_source", "ce_subject", "ce_expectedlabel", "ce_time", "traceparent")
    origin = image_origin(received(dict.fromkeys(names, long)), "kafka")
    record = inference_record(
        origin,
        answer={"label": "7"},
        model="m@1",
        received_at="",
        predicted_at="",
    )
    [event] = inference_events([encode_record(record)], prefix="ce_")
    check_message(event.data, None, dict(event.attributes or {}))
    assert len(event.data) < 10_000
    digits = "2026-01-01T12:00:00." + "0" * 1000 + "Z"
    assert len(image_origin(received({"ce_time": digits}), "kafka").published_at) < 64


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
        answer={"label": "7", "class_index": 7, "confidence": 0.99871},
        model="m@1",
        received_at=timestamp(PUBLISHED),
        predicted_at=timestamp(PUBLISHED),
    )
    assert "source" not in record
    assert "expected_label" not in record
    [message] = inference_events([encode_record(record)], prefix="ce_")
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
