"""Events in every content mode of CloudEvents, also as the official SDK writes and reads them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent

from DurableText.moments import timestamp
from MessageBroker import Message
from MessageBroker.event_content import EventContentError, attributes_of, content_of
from Pipeline.events import (
    IMAGE_TYPE,
    INFERENCE_TYPE,
    EventError,
    image_event,
    image_origin,
    inference_events,
    inference_record,
    parse_inference,
    read_item,
)
from Queue import encode_record

PUBLISHED = datetime(2026, 1, 1, 12, 0, 0, 0, UTC)
STRUCTURED = "application/cloudevents+json"
IMAGE = b"\x89PNG\r\n\x1a\n not UTF-8: \xff"
EVENT = {"specversion": "1.0", "id": "42", "source": "/scanner/3", "type": IMAGE_TYPE}


def received(attributes: Mapping[str, str], data: bytes) -> Message:
    return Message("1-2-3", data, dict(attributes), None, "images", PUBLISHED)


def structured(event: Any, content_type: str = STRUCTURED) -> Message:
    return received({"content-type": content_type}, orjson.dumps(event))


def nested(levels: int) -> Message:
    body = orjson.dumps({**EVENT, "data": "?"})
    return received(
        {"content-type": STRUCTURED}, body.replace(b'"?"', b"[" * levels + b"]" * levels)
    )


def from_sdk(message: kafka.KafkaMessage) -> Message:
    attributes = {name: value.decode() for name, value in message.headers.items()}
    return received(attributes, message.value)


@pytest.mark.parametrize("write", [kafka.to_binary_event, kafka.to_structured_event])
def test_an_image_that_the_official_sdk_writes_is_read(write: Any) -> None:
    attributes = {
        **EVENT, "subject": "scan 7.png", "time": datetime(2026, 1, 1, tzinfo=UTC),
        "datacontenttype": "image/png", "expectedlabel": "7", "white": "255",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }  # fmt: skip
    message = from_sdk(write(CloudEvent(attributes, IMAGE)))
    item = read_item(message)
    assert (item.data, item.attributes["white"]) == (IMAGE, "255")
    origin = image_origin(message, "kafka")
    assert (origin.id, origin.source, origin.expected_label) == (
        "/scanner/3#42", "scan 7.png", "7",
    )  # fmt: skip
    assert origin.published_at.startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize("write", [kafka.to_binary_event, kafka.to_structured_event])
def test_a_result_that_the_official_sdk_writes_is_read(write: Any) -> None:
    result = {"id": "1", "label": "7"}
    event = CloudEvent(
        {**EVENT, "type": INFERENCE_TYPE, "datacontenttype": "application/json"}, result
    )
    assert parse_inference(from_sdk(write(event))) == result


def test_the_official_sdk_reads_what_is_written_here() -> None:
    event_id, image = image_event(
        IMAGE, prefix="ce_", subject="a/é.png", content_type="image/png", time=timestamp()
    )
    read = kafka.from_kafka_event(as_kafka(image))
    assert (read.get_id(), read.get_type(), read.get_data()) == (event_id, IMAGE_TYPE, IMAGE)
    origin = image_origin(received(image.attributes or {}, image.data), "kafka")
    record = inference_record(
        origin, answer={"label": "7", "class_index": 7, "confidence": 0.5}, model="m@1",
        received_at=timestamp(), predicted_at=timestamp(),
    )  # fmt: skip
    [result] = inference_events([encode_record(record)], prefix="ce_")
    read = kafka.from_kafka_event(as_kafka(result))
    assert (read.get_id(), read.get_type()) == (event_id, INFERENCE_TYPE)
    assert read.get_data() == record


def as_kafka(message: Any) -> kafka.KafkaMessage:
    headers = {name: value.encode() for name, value in message.attributes.items()}
    return kafka.KafkaMessage(headers, None, message.data)


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"data_base64": base64.b64encode(IMAGE).decode()}, IMAGE),
        ({"data": {"a": 1}}, b'{"a":1}'),
        ({"data": "text", "datacontenttype": "text/plain"}, b"text"),
        ({"data": "text"}, b'"text"'),
        ({"data": "text", "datacontenttype": "application/problem+json"}, b'"text"'),
        ({"data": None, "subject": None}, b""),
        ({}, b""),
    ],
)
def test_the_data_of_a_structured_event_are_what_binary_mode_would_carry(
    fields: dict[str, Any], data: bytes
) -> None:
    content = content_of(structured({**EVENT, **fields}, f"{STRUCTURED}; charset=UTF-8"))
    assert content.data == data
    assert content.attributes["ce_id"] == "42"
    assert "ce_subject" not in content.attributes


def test_attributes_of_a_structured_event_are_texts() -> None:
    attributes = content_of(
        structured({**EVENT, "number": 7, "flag": True, "datacontenttype": "image/png"})
    ).attributes
    assert (attributes["ce_number"], attributes["ce_flag"]) == ("7", "true")
    assert attributes["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (structured([EVENT], "application/cloudevents-batch+json"), "batched mode"),
        (structured([EVENT], "Application/CloudEvents-Batch+JSON"), "batched mode"),
        (structured(EVENT, "application/cloudevents+avro"), "the format"),
        (structured([EVENT]), "no JSON object"),
        (received({"content-type": STRUCTURED}, b"\xff"), "no JSON"),
        (structured({**EVENT, "id": ""}), "'id' is missing"),
        (structured({**EVENT, "specversion": "0.3"}), "'0.3'"),
        (structured({**EVENT, "data": 1, "data_base64": "AA=="}), "both data"),
        (structured({**EVENT, "data_base64": "no base64!"}), "data_base64"),
        (nested(300), "too deeply"),
        (structured({**EVENT, "UPPER": "x"}), "'UPPER'"),
        (structured({**EVENT, "nested": {}}), "'nested'"),
    ],
)
def test_what_is_no_event_is_refused_by_name(message: Message, said: str) -> None:
    with pytest.raises(EventContentError, match=said):
        content_of(message)
    for read in (read_item, parse_inference):
        with pytest.raises(EventError, match=said):
            read(message)
    assert attributes_of(message) == message.attributes
