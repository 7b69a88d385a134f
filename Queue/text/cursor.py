"""How far the consumers have come: `log.cursor`, two slots that are written in turn.

`next_seq` is the number of the first record that is not committed. `segment` and `offset` are
where its line begins, in the segment whose first record has the number `segment`: a hint that
spares reading from the segment's start, and which is checked before it is believed.

Each slot is one line of JSON, padded with spaces to a sector of its own: a write that is torn by a
power loss leaves the other one whole. The producer that makes the log sets the file's block aside,
the first consumer brings it to its full size, and from then on moving the cursor needs no block.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from DurableText import codec
from DurableText.storage import Storage, head, write_all
from Queue.errors import QueueConfigurationError, QueueReplacedError
from Queue.text.segment import SCAN_BYTES, first_seq, last_seq

# What a change of the queue's files that this program could not read would raise: a slot says it as
# `format`, from the second one on.
FORMAT = 1

SLOT_BYTES = 512
FILE_BYTES = 2 * SLOT_BYTES


@dataclass(frozen=True)
class Position:
    """A place in the queue: everything before it is committed."""

    next_seq: int
    segment: int = 0
    offset: int = 0


def position_holds(storage: Storage, fd: int, position: Position) -> bool:
    """Tell whether the hint of a position is true of the file that is open as `fd`.

    A power loss may have taken lines that the cursor had passed, and others may stand at the offset
    now. So the last intact line before the offset must be one the cursor has passed.

    Without a segment the file had shown nothing but damage so far. Then it holds as long as there
    is no intact line before the offset.
    """
    offset = position.offset
    if storage.read(fd, 1, offset - 1) != b"\n":
        return False
    if not position.segment:
        return last_seq(storage, fd, offset) is None
    before = last_seq(storage, fd, offset, max(0, offset - SCAN_BYTES))
    if before is None or before >= position.next_seq:
        return False
    return first_seq(storage, fd) == position.segment


def _encode(generation: int, position: Position) -> bytes:
    prefix = b'{"generation":%d,"next_seq":%d,"segment":%d,"offset":%d' % (
        generation,
        position.next_seq,
        position.segment,
        position.offset,
    )
    return codec.frame(prefix)[:-1].ljust(SLOT_BYTES - 1) + b"\n"


def _decode(slot: bytes) -> tuple[int, Position] | None:
    record = codec.decode(slot.rstrip(b" \n"))
    if record is None:
        return None
    form = record.get("format", FORMAT)
    if form != FORMAT:
        raise QueueConfigurationError(
            f"the queue's cursor has format {form!r:.20}, this program knows format {FORMAT}: a "
            "newer version has written the queue; use that one, or name another file with --queue"
        )
    try:
        generation = int(record["generation"])
        place = Position(int(record["next_seq"]), int(record["segment"]), int(record["offset"]))
    except (KeyError, TypeError, ValueError):
        return None
    return generation, place


def _newest(data: bytes) -> tuple[int, Position] | None:
    slots = [_decode(data[:SLOT_BYTES]), _decode(data[SLOT_BYTES:FILE_BYTES])]
    intact = [slot for slot in slots if slot is not None]
    return max(intact, key=lambda slot: slot[0], default=None)


def slot_states(data: bytes) -> list[str]:
    """Return for each slot whether it is intact, blank (never written) or damaged."""
    slots = [data[:SLOT_BYTES], data[SLOT_BYTES:FILE_BYTES]]
    return [
        "intact" if _decode(slot) else "damaged" if slot.strip(b" \n\0") else "blank"
        for slot in slots
    ]


def peek(storage: Storage, path: Path) -> Position | None:
    """Return the cursor without opening it for writing; None if there is none to be read."""
    try:
        newest = _newest(head(storage, path, FILE_BYTES))
    except FileNotFoundError:
        return None
    return newest[1] if newest else None


class Cursor:
    """The cursor as its one writer, the active consumer, uses it.

    Attributes:
        position: the last position written; None when both slots were unreadable or never written.
        damaged: whether the file had content, and none of it could be read.
    """

    def __init__(self, path: Path, storage: Storage) -> None:
        """Open the cursor, making it if missing.

        Recovers from a kill between a consumer's write and its sync: what was read here is synced
        before anything is built on it, for instance the removal of a segment.
        """
        self._path = path
        self._storage = storage
        self._fd = storage.open(path, os.O_RDWR | os.O_CREAT)
        try:
            self._recover(path)
        except BaseException:
            self.close()
            raise

    def _recover(self, path: Path) -> None:
        storage = self._storage
        data = storage.read(self._fd, FILE_BYTES, 0)
        newest = _newest(data)
        self._generation = newest[0] if newest else 0
        self.position: Position | None = newest[1] if newest else None
        self.damaged = newest is None and bool(data.strip(b" \n\0"))
        if len(data) < FILE_BYTES:
            blank = b" " * (SLOT_BYTES - 1) + b"\n"
            write_all(storage, self._fd, (data + (blank * 2)[len(data) :]), 0)
        storage.sync(self._fd)
        storage.sync_directory(path.parent)
        status = storage.stat_open(self._fd)
        self._identity = (status.st_ino, status.st_dev)

    def write(self, position: Position, durable: bool) -> None:
        """Move the cursor; return when that is on the disk if `durable`.

        Raises:
            QueueReplacedError: the file's name does not show what was written.
        """
        generation = self._generation + 1
        slot = _encode(generation, position)
        write_all(self._storage, self._fd, slot, generation % 2 * SLOT_BYTES)
        if durable:
            self._storage.sync(self._fd)
        self._generation, self.position = generation, position
        self._check_place()

    def write_both(self, position: Position) -> None:
        """Move both slots durably: not even the loss of one brings an older position back."""
        self.write(position, durable=True)
        self.write(position, durable=True)

    def _check_place(self) -> None:
        try:
            status = self._storage.stat(self._path)
            there = (status.st_ino, status.st_dev) == self._identity
        except FileNotFoundError:
            there = False
        if not there or status.st_size < FILE_BYTES:
            raise QueueReplacedError(
                f"{self._path} was removed, replaced or cut while it was open. Start again: what "
                "it does not show as committed comes once more"
            )

    def close(self) -> None:
        """Close the file; twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._storage.close(fd)
