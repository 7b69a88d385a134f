r"""The line format that the queue's log, its quarantine and the DB share.

One record is one line of JSON, ended by a newline:

    {"seq":42,"id":"0199…","label":"7","crc":"8d3f01c2"}

`crc` stands last. It is the CRC-32 (zlib, IEEE 802.3), as 8 lower-case hex digits, of the line's
bytes before `,"crc":`. The suffix therefore always has 18 bytes before the newline, and a line can
be checked without parsing it. JSON writes a newline inside a text as `\n`, so the byte 0x0A ends
a line and stands nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from zlib import crc32

import orjson

# Length of `,"crc":"xxxxxxxx"}`.
SUFFIX_BYTES = 18

# No line is longer (1 MiB, with the newline): readers need no more memory than that for one.
MAX_LINE_BYTES = 1 << 20

# How much `scan` reads at a time.
CHUNK_BYTES = 1 << 20

# How every line of a queue's log begins; no line of a DB does.
SEQ_PREFIX = b'{"seq":'


# So much of a file shows what it is.
HEAD_BYTES = 64 * 1024

# What a power loss leaves in the place of sectors, and what takes a torn line's place.
_NOTHING = b"\0 \n"


def begins_otherwise(head: bytes) -> bool:
    """Tell whether what is in a file begins otherwise than lines of ours: a picture, notes.

    The head of a text of ours may look so, too, once a disk has changed its bytes: ask this only of
    a file that was never opened as one, which its lock tells.

    Args:
        head: its first `HEAD_BYTES`, or all there are.
    """
    return b'"crc":"' not in head and head.lstrip(_NOTHING)[:1] not in (b"", b"{")


class RecordError(ValueError):
    """Raised when something is not a record that one line can hold."""


def encode(record: Mapping[str, Any], reserved: tuple[str, str]) -> bytes:
    """Return `record` as JSON without its outer braces: `"id":"0199…","label":"7"`.

    Args:
        record: what to store; keys are texts, values are what `orjson` can write. NaN and
            infinities become null, as JSON has no word for them.
        reserved: names that the format itself adds.

    Raises:
        RecordError: it is no mapping, uses a reserved name, cannot be written as JSON, or is too
            long for one line.
    """
    if not isinstance(record, dict):
        if not isinstance(record, Mapping):
            raise RecordError(f"a record is a JSON object, not {type(record).__name__}")
        record = dict(record)
    if reserved[0] in record or reserved[1] in record:
        raise RecordError(f"the names {reserved[0]!r} and {reserved[1]!r} are reserved")
    try:
        body = orjson.dumps(record)
    except TypeError as error:  # orjson.JSONEncodeError is one
        raise RecordError(f"the record cannot be written as JSON: {error}") from error
    if len(body) > MAX_LINE_BYTES - 128:
        raise RecordError(f"the record has {len(body)} bytes, a line holds {MAX_LINE_BYTES - 128}")
    return body[1:-1]


def frame(prefix: bytes) -> bytes:
    """Return a whole line, newline included, of a JSON object that still lacks its end."""
    return frame_all((prefix,))[0]


def frame_all(prefixes: Iterable[bytes]) -> list[bytes]:
    """Return a line, as `frame` does, of each of many objects."""
    return [b'%b,"crc":"%08x"}\n' % (prefix, crc32(prefix)) for prefix in prefixes]


def is_intact(line: bytes) -> bool:
    """Return whether `line` (without its newline) ends in the right checksum of its bytes."""
    return line[-SUFFIX_BYTES:] == b',"crc":"%08x"}' % crc32(line[:-SUFFIX_BYTES])


def decode(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line (given without its newline), or None if it is corrupt."""
    if line[-SUFFIX_BYTES:] != b',"crc":"%08x"}' % crc32(line[:-SUFFIX_BYTES]):
        return None
    try:
        record = orjson.loads(line)
        del record["crc"]
    except (ValueError, TypeError, KeyError):
        return None
    return record  # type: ignore[no-any-return]


def what_is_wrong(line: bytes) -> str:
    """Return in words why a line is not intact."""
    if not line.strip(b"\0"):
        return "torn write: only NUL bytes"
    if b"\0" in line:
        return "torn write: NUL bytes in the line"
    if line[-SUFFIX_BYTES:-10] != b',"crc":"':
        return "torn or overwritten: the line does not end in a checksum"
    if not is_intact(line):
        return "the checksum does not match the line"
    return "the checksum matches, but the line is no record"


def scan(
    read: Callable[[int, int], bytes], start: int, end: int, longest: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield whole lines between two offsets, in groups: the first one's offset, and the lines.

    What stands behind the last newline is not yielded, except for damage: a piece longer than any
    line comes in parts.

    Args:
        read: is given a size and an offset, and returns so many bytes of the file, fewer at its
            end.
        start: where a line begins.
        end: where to stop.
        longest: no line of the file has more bytes.
    """
    offset, rest = start, b""
    while offset < end:
        data = read(min(CHUNK_BYTES, end - offset), offset)
        if not data:
            return
        begin = offset - len(rest)
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield begin, lines
        elif len(rest) > longest:
            yield begin, [rest]
            rest = b""
