"""Every field that another program reads or writes: its name, type and meaning, once.

From these tables come `schemas/`, `docs/asyncapi.yaml` and `docs/events.md`; tests hold them
against what the code writes. A change that a reader could notice is a new version of the event
(`…v2`); a new field that may be absent is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from MessageBroker.core import dead_letter as letter
from Pipeline.events import (
    IMAGE_TYPE,
    INFERENCE_TYPE,
    JSON_TYPE,
    SHADOW_TYPE,
    SPEC_VERSION,
    TRACE_PARENT,
)

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
CRC: Schema = {"type": "string", "pattern": "^[0-9a-f]{8}$"}
WHOLE: Schema = {"type": "string", "pattern": "^[0-9]+$"}


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: as it is written.
        schema: its JSON Schema.
        meaning: for people; one sentence.
        always: it is never absent.
    """

    name: str
    schema: Schema
    meaning: str
    always: bool = False


def constant(value: str) -> Schema:
    """Return the schema of a text that is always the same."""
    return {"type": "string", "const": value}


# ---------------------------------------------------------------------- results

RESULT = (
    Field("id", {**TEXT, "minLength": 1}, "The image's id in all that follows.", always=True),
    Field("label", TEXT, "The most probable class. A predictor of your own may have none."),
    Field("class_index", {"type": "integer", "minimum": 0}, "Its number among the outputs."),
    Field("confidence", SHARE, "Its probability, to five digits."),
    Field(
        "top",
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"label": TEXT, "probability": SHARE},
                "required": ["label", "probability"],
            },
        },
        "The most probable classes, best first, where the server was asked for them (`--top`).",
    ),
    Field(
        "unsure",
        {"type": "boolean"},
        "True where the confidence is below the server's `--min-confidence`.",
    ),
    Field("model", TEXT, "Name of the checkpoint, `@`, the first 12 hex digits of its SHA-256."),
    Field("source", TEXT, "The image event's `subject`: a file name, say."),
    Field("expected_label", TEXT, "The truth, where the image's event told it."),
    Field("published_at", MOMENT, "The image event's `time`, else when the broker took it."),
    Field("received_at", MOMENT, "When the model server had the image."),
    Field("predicted_at", MOMENT, "When the model had answered."),
    Field(TRACE_PARENT, TEXT, "W3C trace context, as the image's event had it."),
)

_SEQ = Field("seq", {"type": "integer", "minimum": 1}, "Number of the record, by one.", always=True)
_CRC = Field(
    "crc", CRC, 'CRC-32 of the line\'s bytes before `,"crc":`, in 8 hex digits.', always=True
)
QUEUE_RECORD = (_SEQ, *RESULT, _CRC)
DB_ROW = (
    *RESULT,
    Field("stored_at", MOMENT, "When it was durable in the DB.", always=True),
    _CRC,
)
DB_CONFLICT = (
    *RESULT,
    Field("stored_label", {}, "What the DB has for this id."),
    Field("refused_at", MOMENT, "When this other answer came.", always=True),
    _CRC,
)

# ---------------------------------------------------------------------- attributes of events

# CloudEvents' own, without the prefix of a broker's binding.
_COMMON = (
    Field("specversion", constant(SPEC_VERSION), "CloudEvents' version.", always=True),
    Field("id", {**TEXT, "minLength": 1}, "Unique within its source.", always=True),
    Field("source", {**TEXT, "minLength": 1}, "Who published it, a URI reference.", always=True),
)
IMAGE_ATTRIBUTES = (
    *_COMMON,
    Field("type", constant(IMAGE_TYPE), "What kind of event it is.", always=True),
    Field("time", MOMENT, "When it was published; it becomes `published_at`."),
    Field("subject", TEXT, "What the image is; it becomes the result's `source`."),
    Field("expectedlabel", TEXT, "The truth, where it is known; it travels to the result."),
    Field("white", TEXT, "What white is in an array, where its numbers do not show it."),
)
RESULT_ATTRIBUTES = (
    *_COMMON,
    Field("type", constant(INFERENCE_TYPE), "What kind of event it is.", always=True),
    Field("time", MOMENT, "When it was published."),
)
# What a shadow answers: it is kept beside the DB, never in it.
SHADOW_ATTRIBUTES = (
    *(each for each in _COMMON if each.name != "id"),
    Field("id", {**TEXT, "minLength": 1}, "The image's id, `@`, the shadow's model.", always=True),
    Field("type", constant(SHADOW_TYPE), "What kind of event it is.", always=True),
    Field("time", MOMENT, "When it was published."),
)
# Without any prefix.
IMAGE_HEADERS = (
    Field("content-type", TEXT, "The image's media type; its bytes decide, whatever this says."),
    Field(TRACE_PARENT, TEXT, "W3C trace context."),
)
RESULT_HEADERS = (
    Field("content-type", constant(JSON_TYPE), "JSON."),
    Field(TRACE_PARENT, TEXT, "W3C trace context, as the image's event had it."),
)
LETTER_HEADERS = (
    Field(letter.REASON, TEXT, "Why it is here: the same text for the same cause.", always=True),
    Field(letter.ERROR, TEXT, "What it was this time.", always=True),
    Field(letter.ATTEMPTS, WHOLE, "How often it was nacked.", always=True),
    Field(letter.SOURCE_TOPIC, TEXT, "From which topic it came.", always=True),
    Field(letter.MESSAGE_ID, TEXT, "The broker's id of the message there.", always=True),
    Field(letter.TIME, MOMENT, "When it was moved here.", always=True),
    Field(letter.BODY, constant(letter.ABSENT), "The body stayed where it was."),
    Field(letter.BYTES, WHOLE, "How many bytes the body has, if it was read."),
    Field(letter.SHA256, {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "Of these bytes."),
    Field(letter.PLACE, TEXT, "Where the original stands, if the letter is without its body."),
)
