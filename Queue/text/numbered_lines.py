"""A line of the queue's log: a line as in `DurableText.codec`, with its number first.

{"seq":42,"id":"0199…","label":"7","crc":"8d3f01c2"}
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from DurableText.codec import SEQ_PREFIX, SUFFIX_BYTES, frame_all, is_intact
from Queue.queue_interface import Record
from Queue.records import bodies_of, records_of

# Places in a broken line where another line's beginning is looked for.
MAX_SALVAGE_TRIES = 4


def inner_bytes(records: Sequence[Record]) -> list[bytes]:
    """Return the bodies of records without their outer braces: `"id":"0199…","label":"7"`.

    Raises:
        QueueRecordError: one of them cannot stand in a line.
    """
    return [body[1:-1] for body in bodies_of(records)]


def frame_numbered(bodies: list[bytes], first_seq: int) -> list[bytes]:
    """Return the log's lines for `bodies` (of `inner_bytes`), numbered from `first_seq` on."""
    return frame_all(
        [
            b'{"seq":%d,%b' % (seq, body) if body else b'{"seq":%d' % seq
            for seq, body in enumerate(bodies, first_seq)
        ]
    )


def decode_run(lines: Sequence[bytes], seq: int) -> list[Record]:
    """Return the records of lines that are intact and numbered on from `seq`, up to another."""
    bodies: list[bytes] = []
    for line in lines:
        prefix = b'{"seq":%d,' % seq
        if not line.startswith(prefix) or (
            line[-SUFFIX_BYTES:] != b',"crc":"%08x"}' % crc32(line[:-SUFFIX_BYTES])
        ):
            break
        bodies.append(b"{%b}" % line[len(prefix) : -SUFFIX_BYTES])
        seq += 1
    return records_of(bodies)


def decode_numbered(line: bytes) -> tuple[int, Record] | None:
    """Return number and record of a line of the log, or None if it is corrupt."""
    seq = seq_of(line)
    records = decode_run([line], seq) if seq else []
    return (seq, records[0]) if seq and records else None


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
