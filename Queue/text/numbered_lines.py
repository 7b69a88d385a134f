"""A line of the queue's log: a line as in `DurableText.codec`, with its number first.

{"seq":42,"id":"0199…","label":"7","crc":"8d3f01c2"}
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from DurableText.codec import SEQ_PREFIX, decode, is_intact

# Places in a broken line where another line's beginning is looked for.
MAX_SALVAGE_TRIES = 4


def frame_numbered(bodies: list[bytes], first_seq: int) -> list[bytes]:
    """Return the log's lines for `bodies` (of `encode`), numbered from `first_seq` on."""
    lines: list[bytes] = []
    add = lines.append
    for seq, body in enumerate(bodies, first_seq):
        prefix = b'{"seq":%d,%b' % (seq, body) if body else b'{"seq":%d' % seq
        add(b'%b,"crc":"%08x"}\n' % (prefix, crc32(prefix)))
    return lines


def decode_numbered(line: bytes) -> tuple[int, dict[str, Any]] | None:
    """Return number and record of a line of the log, or None if it is corrupt."""
    record = decode(line)
    if record is None:
        return None
    seq = record.pop("seq", None)
    if type(seq) is not int or seq < 1:
        return None
    return seq, record


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
