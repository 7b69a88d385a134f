"""A line of the queue's log: a line as in `DurableText.codec`, with its number first.

{"seq":42,"id":"0199…","label":"7","crc":"8d3f01c2"}
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import orjson

from DurableText.codec import MAX_LINE_BYTES, SEQ_PREFIX, SUFFIX_BYTES, frame_all, is_intact
from Queue.errors import QueueRecordError
from Queue.queue_interface import Record

# Places in a broken line where another line's beginning is looked for.
MAX_SALVAGE_TRIES = 4

# How a body begins that is read without parsing it, and what its id must not have for that.
_ID_FIRST = b'{"id":"'
_ID_BEGINS = len(_ID_FIRST)
_BACKSLASH = 0x5C


# Room that a line keeps for what the queue adds.
MAX_BODY_BYTES = MAX_LINE_BYTES - 128

# By its number: looking for a byte takes a tenth of the time that a search for bytes does.
_NEWLINE = 0x0A


def inner_bytes(records: Sequence[Record]) -> list[bytes]:
    """Return the bodies of records without their outer braces: `"id":"0199…","label":"7"`.

    Only what could damage the file is looked for: see `encode_record` for the rest.

    Raises:
        QueueRecordError: one of them cannot stand in a line.
    """
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
            add(body[1:-1])
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


def frame_numbered(bodies: list[bytes], first_seq: int) -> list[bytes]:
    """Return the log's lines for `bodies` (of `inner_bytes`), numbered from `first_seq` on."""
    return frame_all(
        [
            b'{"seq":%d,%b' % (seq, body) if body else b'{"seq":%d' % seq
            for seq, body in enumerate(bodies, first_seq)
        ]
    )


def decode_run(lines: Sequence[bytes], seq: int) -> list[Record]:
    """Return the records of lines that are intact and numbered from `seq` on, up to the first else.

    The id is cut out where it stands first and has no escapes, as the model server writes it: that
    spares a parser, a microsecond for each result.
    """
    records: list[Record] = []
    for line in lines:
        prefix = b'{"seq":%d,' % seq
        if not line.startswith(prefix) or (
            line[-SUFFIX_BYTES:] != b',"crc":"%08x"}' % crc32(line[:-SUFFIX_BYTES])
        ):
            break
        body = b"{%b}" % line[len(prefix) : -SUFFIX_BYTES]
        if body.startswith(_ID_FIRST):
            text = body[_ID_BEGINS : body.find(b'"', _ID_BEGINS)]
            if text.isascii() and _BACKSLASH not in text:
                records.append(Record(text.decode(), body))
                seq += 1
                continue
        record = _parsed(body)
        if record is None:
            break
        records.append(record)
        seq += 1
    return records


def decode_numbered(line: bytes) -> tuple[int, Record] | None:
    """Return number and record of a line of the log, or None if it is corrupt."""
    seq = seq_of(line)
    records = decode_run([line], seq) if seq else []
    return (seq, records[0]) if seq and records else None


def _parsed(body: bytes) -> Record | None:
    try:
        result_id = orjson.loads(body).get("id")
    except (ValueError, AttributeError):
        return None
    return Record(result_id if isinstance(result_id, str) else "", body)


def seq_of(line: bytes) -> int | None:
    """Return the number of the record in a line of the log, None if there is none.

    A record that is glued to a torn one counts: readers hand it out, so its number is taken.
    """
    if not is_intact(line):
        line = line[salvage(line) or len(line) :]
    if not line.startswith(SEQ_PREFIX):
        return None
    digits = line[len(SEQ_PREFIX) : line.find(b",")]  # there is one before `"crc"` at the latest
    return int(digits) if digits.isdigit() else None


def salvage(line: bytes) -> int:
    """Return where in a broken line an intact one begins, 0 if nowhere.

    A write that was torn without a newline is glued to what came after it. The next writer puts a
    newline first, but a lost page (a failed fsync, then a power loss) or a flipped bit can take
    that newline away; the good record behind it must not go with it.
    """
    start = 0
    for _ in range(MAX_SALVAGE_TRIES):
        start = line.find(SEQ_PREFIX, start + 1)
        if start < 0:
            return 0
        if is_intact(line[start:]):
            return start
    return 0
