"""The two topics and their dead-letter topics as an AsyncAPI 3.0 document.

Sources: https://www.asyncapi.com/docs/reference/specification/v3.0.0, and the bindings for `kafka`
0.5.0 and `googlepubsub` 0.2.0 in https://github.com/asyncapi/bindings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from DurableText.installation import __version__
from MessageBroker.broker_interface import DEAD_LETTER_SUFFIX, dead_letter_topic
from MessageBroker.cloudevents import KAFKA_PREFIX, PUBSUB_PREFIX
from MessageBroker.configuration import TopicNames
from MessageBroker.event_content import BATCHED, JSON_FORMAT
from MessageBroker.google_pubsub.admin import DEAD_LETTER_RETENTION, RETENTION
from MessageBroker.kafka.settings import KAFKA_MAX_LETTER_BYTES, KAFKA_MAX_MESSAGE_BYTES
from Pipeline.contract.fields import (
    IMAGE_ATTRIBUTES,
    IMAGE_HEADERS,
    LETTER_HEADERS,
    RESULT,
    RESULT_ATTRIBUTES,
    RESULT_HEADERS,
    SHADOW_ATTRIBUTES,
    Field,
)
from Pipeline.contract.schemas import object_of
from Pipeline.events import IMAGE_TYPE, INFERENCE_TYPE, SHADOW_TYPE

_PREFIXES = {"kafka": KAFKA_PREFIX, "pubsub": PUBSUB_PREFIX}
_TOPICS = TopicNames()

_DESCRIPTION = f"""\
Images are published on one topic, what a model sees on them on the other; what cannot be worked on
goes to a dead-letter topic beside each. Events are CloudEvents 1.0 in binary mode: attributes carry
the prefix `{KAFKA_PREFIX}` on Kafka and on the embedded broker and `{PUBSUB_PREFIX}` on Pub/Sub,
and either is understood everywhere. Structured mode ({JSON_FORMAT}) is read as well; batched mode
({BATCHED}+json) is refused. Of an image no attribute is required."""


def document() -> dict[str, Any]:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Event-driven model serving",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {"host": "localhost:9092", "protocol": "kafka"},
            "pubsub": {"host": "pubsub.googleapis.com", "protocol": "googlepubsub"},
        },
        "channels": {
            "images": _channel(_TOPICS.images, "Images to be classified.", "image"),
            "inferences": _channel(
                _TOPICS.inferences, "What the models see.", "inference", "shadowInference"
            ),
            "imageLetters": _channel(
                dead_letter_topic(_TOPICS.images), "What is no image.", "imageLetter"
            ),
            "inferenceLetters": _channel(
                dead_letter_topic(_TOPICS.inferences), "What is no result.", "inferenceLetter"
            ),
        },
        "operations": {
            "receiveImages": _operation("receive", "images", "image"),
            "sendInferences": _operation("send", "inferences", "inference"),
            "sendShadowInferences": _operation("send", "inferences", "shadowInference"),
            "sendImageLetters": _operation("send", "imageLetters", "imageLetter"),
            "sendInferenceLetters": _operation("send", "inferenceLetters", "inferenceLetter"),
        },
        "components": {"messages": _messages(), "schemas": {"result": object_of(RESULT)}},
    }


def _channel(topic: str, description: str, *messages: str) -> dict[str, Any]:
    kafka, retention = {"max.message.bytes": KAFKA_MAX_MESSAGE_BYTES}, RETENTION
    if topic.endswith(DEAD_LETTER_SUFFIX):
        kafka = {"max.message.bytes": KAFKA_MAX_LETTER_BYTES, "retention.ms": -1}
        retention = DEAD_LETTER_RETENTION
    return {
        "address": topic,
        "description": description,
        "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in messages},
        "bindings": {
            "kafka": {
                "topic": topic,
                "topicConfiguration": kafka,
                "bindingVersion": "0.5.0",
            },
        },
        # The binding of a Pub/Sub channel demands a schema resource, and there is none here.
        "x-googlepubsub-retention": f"{retention.total_seconds():.0f}s",
    }


def _operation(action: str, channel: str, message: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _messages() -> dict[str, Any]:
    image: dict[str, Any] = {"type": "string", "format": "binary"}
    result: dict[str, Any] = {"$ref": "#/components/schemas/result"}
    letters = "with why it is here; the body is the original's, byte for byte"
    return {
        "image": _message(
            IMAGE_TYPE, "An image", image, IMAGE_ATTRIBUTES, IMAGE_HEADERS, required=False
        ),
        "inference": _message(
            INFERENCE_TYPE, "A result", result, RESULT_ATTRIBUTES, RESULT_HEADERS
        ),
        "shadowInference": _message(
            SHADOW_TYPE, "What a shadow answers", result, SHADOW_ATTRIBUTES, RESULT_HEADERS
        ),
        "imageLetter": _message(
            IMAGE_TYPE, f"An image, {letters}", image, IMAGE_ATTRIBUTES,
            (*IMAGE_HEADERS, *LETTER_HEADERS), required=False,
        ),
        "inferenceLetter": _message(
            INFERENCE_TYPE, f"A message, {letters}", image, RESULT_ATTRIBUTES,
            (*IMAGE_HEADERS, *LETTER_HEADERS), required=False,
        ),
    }  # fmt: skip


def _message(
    name: str,
    title: str,
    payload: dict[str, Any],
    attributes: Iterable[Field],
    plain: tuple[Field, ...],
    *,
    required: bool = True,
) -> dict[str, Any]:
    """Describe a message; its headers in either binding.

    Args:
        name: of the message.
        title: for people.
        payload: the schema of the body.
        attributes: those of CloudEvents, without a prefix.
        plain: those without any prefix.
        required: whether CloudEvents' own attributes have to be there.
    """
    attributes = tuple(attributes)
    bindings = []
    for broker, prefix in _PREFIXES.items():
        named = [
            Field(prefix + each.name, each.schema, each.meaning, each.always and required)
            for each in attributes
        ]
        bindings.append({"title": broker, **object_of((*named, *plain))})
    return {
        "name": name,
        "title": title,
        "contentType": "application/json" if "$ref" in payload else "application/octet-stream",
        "headers": {"type": "object", "anyOf": bindings},
        "payload": payload,
        "bindings": {
            "kafka": {"bindingVersion": "0.5.0"},
            "googlepubsub": {
                "attributes": {f"{PUBSUB_PREFIX}type": name},
                "bindingVersion": "0.2.0",
            },
        },
    }
