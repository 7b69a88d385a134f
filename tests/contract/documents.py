"""The documents that are made of the contract's tables, as they ought to stand here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from Pipeline.contract import fields
from Pipeline.contract.asyncapi import document
from Pipeline.contract.schemas import schemas, side_file_fields

ROOT = Path(__file__).resolve().parents[2]

_HEAD = """\
# The fields

Made by `python -m tests.contract` of the tables that the code has of them
([`Pipeline/contract/fields.py`](../Pipeline/contract/fields.py)), as are
[asyncapi.yaml](asyncapi.yaml), which is for tools, and the JSON Schemas in
[`schemas/`](../schemas). How to publish and read without this project's code:
[clients.md](clients.md).

**What may change.** Within a version a field keeps its name, type and meaning, one that is always
there stays, and fields may be added: a reader passes over what it does not know. Any other change
is a new type of event, `…image.v2` or `…inference.v2`, and both are read for at least one minor
version. A predictor of your own adds fields of its own, whose names must not be among these nor
end in `_at`.

**On the wire** attributes of CloudEvents carry the prefix `ce_` on Kafka and the embedded broker,
`ce-` on Pub/Sub; either is understood everywhere. Structured mode
(`application/cloudevents+json`, with `data` or `data_base64`) is read as well; batched mode is
refused. An image needs no attribute at all.
"""
_TABLES = (
    ("An image: attributes of CloudEvents", fields.IMAGE_ATTRIBUTES),
    ("An image: other attributes", fields.IMAGE_HEADERS),
    ("A result: attributes of CloudEvents", fields.RESULT_ATTRIBUTES),
    ("A shadow's answer: attributes of CloudEvents", fields.SHADOW_ATTRIBUTES),
    ("A result, and a shadow's answer: other attributes", fields.RESULT_HEADERS),
    ("A result: the body, a JSON object", fields.RESULT),
    ("A dead letter: beside the original's attributes", fields.LETTER_HEADERS),
    ("A line of the queue's text file", fields.QUEUE_RECORD),
    ("A row of the DB", fields.DB_ROW),
    ("A conflict in `db_for_app_2.conflicts.txt`", fields.DB_CONFLICT),
)


def documents() -> dict[Path, str]:
    """Return the text of each document, by its place."""
    made = {
        ROOT / "schemas" / f"{name}.json": f"{json.dumps(schema, indent=2)}\n"
        for name, schema in schemas().items()
    }
    head = "# Made by `python -m tests.contract` of Pipeline/contract/.\n"
    made[ROOT / "docs" / "asyncapi.yaml"] = head + yaml.dump(
        document(), Dumper=_Yaml, sort_keys=False, allow_unicode=True, width=100
    )
    tables = [*_TABLES, ("The side file of a checkpoint", side_file_fields())]
    pages = "\n".join("\n".join(_page(title, table)) for title, table in tables)
    made[ROOT / "docs" / "events.md"] = f"{_HEAD}\n{pages}"
    return made


class _Yaml(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Yaml.add_representer(str, _text)


def _page(title: str, table: Iterable[fields.Field]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| field | type | always | meaning |\n| --- | --- | --- | --- |"
    for each in table:
        kind = _kind(each.schema).replace("|", "\\|")
        yield f"| `{each.name}` | {kind} | {'yes' if each.always else ''} | {each.meaning} |"
    yield ""


def _kind(schema: fields.Schema) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("format") == "date-time":
        return "RFC 3339"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "any"))
