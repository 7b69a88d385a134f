"""Entries of the stream as records, and what is no record among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from Queue.queue_interface import QueueBatch, Record
from Queue.records import records_of

BODY = b"body"

# What XREAD and XRANGE give of each: its id, and its fields and values in turn; None once removed.
Entry = Sequence[Any]


@dataclass(frozen=True)
class CorruptEntry:
    """An entry that somebody else has added, or that is no record any more.

    Attributes:
        raw: its body; without one all of its fields, each on a line.
        reason: what is wrong with it.
        found_at: `stream` and `entry`.
    """

    raw: bytes
    reason: str
    found_at: Mapping[str, str]


@dataclass(frozen=True)
class RedisBatch(QueueBatch):
    """What one `take` handed out of a stream.

    Attributes:
        ids: of all entries, in order.
        ordinal: which batch it is of its consumer, from 1.
        token: of the consumer that took it.
    """

    ids: tuple[bytes, ...] = field(default=(), repr=False)
    ordinal: int = field(default=0, repr=False)
    token: str = field(default="", repr=False)


def read_entries(stream: str, entries: Sequence[Entry]) -> tuple[list[Record], list[CorruptEntry]]:
    """Return the records of entries, and what is none."""
    corrupt: list[CorruptEntry] = []
    bodies: list[bytes] = []
    sources: list[Entry] = []
    for entry in entries:
        fields: Sequence[bytes] = entry[1] or ()
        if len(fields) == 2 and fields[0] == BODY and fields[1].endswith(b"}"):
            bodies.append(fields[1])
            sources.append(entry)
        else:
            corrupt.append(_corrupt(stream, entry))
    records = records_of(bodies)
    while len(records) < len(bodies):  # each round passes one that is none
        at = len(records)
        corrupt.append(_corrupt(stream, sources.pop(at)))
        del bodies[at]
        records += records_of(bodies[at:])
    return records, corrupt


def _corrupt(stream: str, entry: Entry) -> CorruptEntry:
    fields = entry[1] or ()
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    raw = pairs.get(BODY) or b"\n".join(name + b" " + value for name, value in pairs.items())
    reason = "its body is no JSON object" if BODY in pairs else "an entry without a body"
    return CorruptEntry(raw, reason, {"stream": stream, "entry": entry[0].decode()})
