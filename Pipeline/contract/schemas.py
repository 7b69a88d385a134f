"""The JSON Schemas of all that is written as JSON: results, lines, rows, side files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields

from Modelling.images.resizing import WAYS
from Modelling.network.side_file import LAYOUTS, MAX_TEMPERATURE, SideFile
from Pipeline.contract.fields import (
    DB_CONFLICT,
    DB_ROW,
    QUEUE_RECORD,
    RESULT,
    TEXT,
    Field,
    Schema,
)

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_NUMBER: Schema = {"type": "number"}
_BY_CHANNEL: Schema = {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1}]}
_PAIR: Schema = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_SIDE_FILE: dict[str, Schema] = {
    "sha256": _SHA256,
    "labels": {"type": "array", "items": TEXT, "minItems": 1},
    "input_shape": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1},
        "minItems": 3,
        "maxItems": 3,
    },
    "preprocessing": {"enum": ["digits", "resize"]},
    "resize": {"enum": sorted(WAYS)},
    "input_range": {"anyOf": [_PAIR, {"type": "array", "items": _PAIR, "minItems": 1}]},
    "mean": _BY_CHANNEL,
    "std": _BY_CHANNEL,
    "scale": _BY_CHANNEL,
    "offset": _BY_CHANNEL,
    "layout": {"enum": list(LAYOUTS)},
    "output": TEXT,
    "signature": TEXT,
    "file": TEXT,
    "previous": {"type": "object"},
    "white": {"type": "number", "exclusiveMinimum": 0},
    "temperature": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TEMPERATURE},
    "engines": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {"file": TEXT, "sha256": _SHA256, "test_accuracy": _NUMBER},
            "required": ["file", "sha256"],
        },
    },
    "training": {"type": "object"},
}


def object_of(table: Iterable[Field]) -> Schema:
    """Return the schema of an object with these fields; it may hold others as well."""
    table = list(table)
    return {
        "type": "object",
        "properties": {each.name: {"description": each.meaning, **each.schema} for each in table},
        "required": [each.name for each in table if each.always],
    }


def side_file_fields() -> list[Field]:
    """Return what a side file may hold, in the words of the class that reads it."""
    text = inspect.getdoc(SideFile) or ""
    attributes = re.findall(r"^ {4}(\w+): ((?:.+\n?)(?: {8}.+\n?)*)", text, re.MULTILINE)
    meanings = {name: " ".join(meaning.split()) for name, meaning in attributes}
    required = ("sha256", "labels", "input_shape")
    return [
        Field(each.name, _SIDE_FILE[each.name], meanings[each.name], each.name in required)
        for each in fields(SideFile)
    ]


def schemas() -> dict[str, Schema]:
    """Return every schema, by the name of its file without `.json`."""
    documents = {
        "inference.v1": ("Result: the body of an event on the results' topic", RESULT),
        "queue-record.v1": ("A line of the queue's text file", QUEUE_RECORD),
        "db-row.v1": ("A row of the DB", DB_ROW),
        "db-conflict.v1": ("A result that the DB has with another answer", DB_CONFLICT),
        "side-file.v1": ("The side file of a checkpoint", side_file_fields()),
    }
    made = {
        name: {"$schema": DRAFT, "$id": f"{name}.json", "title": title, **object_of(table)}
        for name, (title, table) in documents.items()
    }
    # A misspelt key of a side file would mislabel every result, so the reader refuses it as well.
    made["side-file.v1"]["additionalProperties"] = False
    return made
