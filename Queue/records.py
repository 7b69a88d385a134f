"""What a record has to be for every engine, and how a record is made of its body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from DurableText.codec import MAX_LINE_BYTES
from Queue.errors import QueueRecordError
from Queue.queue_interface import Record

# A line of the text file, without what the queue adds. Whoever changes the engine meets no new
# limit.
MAX_BODY_BYTES = MAX_LINE_BYTES - 128

# How a body begins that is read without parsing it, and what its id must not have for that.
_ID_FIRST = b'{"id":"'
_ID_BEGINS = len(_ID_FIRST)
_BACKSLASH = 0x5C

# By its number: looking for a byte takes a tenth of the time that a search for bytes does.
_NEWLINE = 0x0A


def bodies_of(records: Sequence[Record]) -> list[bytes]:
    """Return the bodies of records that any engine takes.

    Only what could damage a file is looked for: see `encode_record` for the rest.

    Raises:
        QueueRecordError: one of them cannot be stored.
    """
    if isinstance(records, (Record, Mapping, str, bytes)):
        raise QueueRecordError("put takes a sequence of records, not a single one")
    found: list[bytes] = []
    add = found.append
    for record in records:
        body = record.body if type(record) is Record else None
        if (
            type(body) is bytes
            and body[-1:] == b"}"
            and (body[:2] == b'{"' or body == b"{}")
            and _NEWLINE not in body
            and len(body) <= MAX_BODY_BYTES
        ):
            add(body)
        else:
            raise QueueRecordError(
                f"record {len(found)} of the put: {_what_is_wrong(record)}; nothing was written"
            )
    return found


def _what_is_wrong(record: object) -> str:
    if not isinstance(record, Record):
        return f"it is no Record, but {type(record).__name__}"
    body = record.body
    if not isinstance(body, bytes):
        return f"its body is bytes, not {type(body).__name__}"
    if len(body) > MAX_BODY_BYTES:
        return f"its body has {len(body)} bytes, a line holds {MAX_BODY_BYTES}"
    if _NEWLINE in body:
        return "its body has a line break"
    return "its body is no JSON object, or has whitespace at its beginning"


def records_of(bodies: Iterable[bytes]) -> list[Record]:
    """Return the records with these bodies, up to the first that is no JSON object.

    The id is cut out where it stands first and has no escapes, as the model server writes it: that
    spares a parser, a microsecond for each result.
    """
    records: list[Record] = []
    for body in bodies:
        if body.startswith(_ID_FIRST):
            text = body[_ID_BEGINS : body.find(b'"', _ID_BEGINS)]
            if text.isascii() and _BACKSLASH not in text:
                records.append(Record(text.decode(), body))
                continue
        record = _parsed(body)
        if record is None:
            break
        records.append(record)
    return records


def _parsed(body: bytes) -> Record | None:
    try:
        result_id = orjson.loads(body).get("id")
    except (ValueError, AttributeError):
        return None
    return Record(result_id if isinstance(result_id, str) else "", body)
