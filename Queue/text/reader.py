"""Reading the queue in order: from segment to segment, past damage, up to the last newline.

What is behind the last newline is being written, or was torn; a reader never writes, and looks at
it once the next producer has ended it.

Which segment is read next is `Queue.text.segment_walk`'s; what stands in their lines is decided
here: records, findings, and what is neither.
"""

from __future__ import annotations

from pathlib import Path

from DurableText import codec
from DurableText.quarantine import CorruptLine
from DurableText.storage import Storage
from Queue.errors import QueueReplacedError
from Queue.queue_interface import Record
from Queue.text import numbered_lines, place
from Queue.text.cursor import Position
from Queue.text.segment import QueuePaths
from Queue.text.segment_walk import OpenSegment, SegmentWalk

# How much is read at a time: about 800 results.
CHUNK_BYTES = 256 * 1024


class Reader:
    """Reads records from a position on. One thread at a time.

    Attributes:
        first_seq: the number of the first record of the last `read`.
    """

    def __init__(
        self, storage: Storage, paths: QueuePaths, start: Position | None, *, owns: bool = False
    ) -> None:
        """Begin at `start`; nothing is opened yet.

        Args:
            storage: the layer for system calls.
            paths: the queue's files.
            start: where to begin; None for the oldest record there is.
            owns: whether this is the active consumer's: nobody else removes what it has not
                finished, so what is gone from under it is an error, not the end of a segment.
        """
        self.first_seq = 0
        self._owns = owns
        self._storage = storage
        self._paths = paths
        self._walk = SegmentWalk(storage, paths, start)
        self._next_seq = start.next_seq if start else 0
        self._segment: OpenSegment | None = None
        self._offset = 0
        self._lines: list[bytes] = []
        self._index = 0
        self._corrupt_since_record = 0
        self._mark = place.Mark()

    @property
    def position(self) -> Position:
        """Where the next line begins that `read` has not handed out."""
        first = self._segment.first_seq if self._segment else 0
        return Position(self._next_seq, first, self._offset if self._segment else 0)

    @property
    def mark(self) -> place.Mark:
        """Where the last line that was handed out ends, and how."""
        segment = self._segment
        if segment is None or not self._index:
            return self._mark  # in the segment before
        return place.Mark(segment.first_seq, self._offset, self._tail())

    def read(self, max_records: int) -> tuple[list[Record], list[CorruptLine]]:
        """Return the next records in order, and the corrupt lines among them.

        Both are empty if there is nothing yet. Each holds at most `max_records`.

        Raises:
            QueueReplacedError: what was read before no longer stands where it stood.
        """
        records: list[Record] = []
        corrupt: list[CorruptLine] = []
        while len(records) < max_records and len(corrupt) < max_records:
            try:
                if self._index == len(self._lines) and not self._fill():
                    break
            except OSError:
                if records or corrupt:
                    break  # these are read and would be skipped; the error comes again
                raise
            segment = self._segment
            if segment is None:
                break
            self._read_intact(segment, records, max_records)
            if self._index < len(self._lines) and len(records) < max_records:
                self._read_unusual(segment, records, corrupt)
        return records, corrupt

    def take_finished(self) -> list[Path]:
        """Return sealed segments that were read to their end since the last call, oldest first.

        They are for the owner to remove once their records are committed.
        """
        return self._walk.take_finished()

    def go_back(self, start: Position | None) -> None:
        """Read from `start` on again."""
        self.close()
        self._mark = place.Mark()
        self._walk = SegmentWalk(self._storage, self._paths, start)
        self._next_seq = start.next_seq if start else 0
        self._lines, self._index = [], 0
        self._corrupt_since_record = 0

    def close(self) -> None:
        """Close the segment."""
        self._mark = self.mark
        segment, self._segment = self._segment, None
        if segment is not None:
            self._storage.close(segment.fd)

    def _read_intact(self, segment: OpenSegment, records: list[Record], max_records: int) -> None:
        """Take lines that are intact and numbered as expected; stop before any other."""
        if not segment.first_seq:
            return  # the first line tells the segment's number: see _read_unusual
        begin, expected = self._index, self._next_seq
        count = max_records - len(records)
        if segment.void_from is not None:
            count = min(count, max(0, segment.void_from - expected))
        lines = self._lines[begin : begin + count]
        found = numbered_lines.decode_run(lines, expected)
        if not found:
            return
        if not records:
            self.first_seq = expected
        records += found
        segment.has_record = True
        self._corrupt_since_record = 0
        self._index += len(found)
        self._offset += sum(map(len, lines[: len(found)])) + len(found)
        self._next_seq += len(found)

    def _read_unusual(
        self,
        segment: OpenSegment,
        records: list[Record],
        corrupt: list[CorruptLine],
    ) -> None:
        """Take one line: the first of a segment, an old or void one, after a gap, or corrupt."""
        line = self._lines[self._index]
        start = numbered_lines.salvage(line) if not codec.is_intact(line) else 0
        decoded = numbered_lines.decode_numbered(line[start:])
        if decoded is None and line.strip(b" "):
            self._add_finding(segment, corrupt, line, codec.what_is_wrong(line))
        elif decoded is not None:
            if start:
                self._add_finding(
                    segment, corrupt, line[:start], "torn: the next line is glued to it"
                )
            self._take_numbered(segment, records, corrupt, *decoded)
        self._index += 1
        self._offset += len(line) + 1

    def _take_numbered(
        self,
        segment: OpenSegment,
        records: list[Record],
        corrupt: list[CorruptLine],
        seq: int,
        record: Record,
    ) -> None:
        segment.first_seq = segment.first_seq or seq
        segment.has_record = True
        if seq < self._next_seq or (segment.void_from is not None and seq >= segment.void_from):
            return
        missing = seq - self._next_seq if self._next_seq else 0
        if missing > self._corrupt_since_record:
            numbers = f"{self._next_seq} to {seq - 1}" if missing > 1 else f"{seq - 1}"
            reason = f"gap: records {numbers} are missing before this line"
            self._add_finding(segment, corrupt, b"", reason, seq - 1)
        self._corrupt_since_record = 0
        if not records:
            self.first_seq = seq
        records.append(record)
        self._next_seq = seq + 1

    def _add_finding(
        self,
        segment: OpenSegment,
        corrupt: list[CorruptLine],
        raw: bytes,
        reason: str,
        seq: int | None = None,
    ) -> None:
        self._corrupt_since_record += 1
        number = self._next_seq if seq is None else seq
        corrupt.append(
            CorruptLine(raw, segment.path.name, segment.first_seq, self._offset, reason, number)
        )

    def _fill(self) -> bool:
        """Get more whole lines; return False if there are none yet."""
        while True:
            segment = self._segment or self._open_next()
            if segment is None:
                return False
            if self._read_lines(segment):
                return True
            if not segment.sealed:
                if self._walk.is_active(segment):
                    return False
                if not self._walk.note_sealing(segment):
                    self._pass_over(segment)
                continue  # with what came in before the sealing
            if self._read_torn_end(segment):
                return True
            self._leave(segment)

    def _read_lines(self, segment: OpenSegment) -> bool:
        tail = self._tail()  # of the line before: it is read once more, to know the place again
        skip = len(tail) + 1 if tail else 0
        begin, size = self._offset - skip, skip + CHUNK_BYTES
        data = self._storage.read(segment.fd, size, begin)
        if not data.startswith(tail):
            return self._lost_its_place(segment)
        longest = skip + codec.MAX_LINE_BYTES
        while data.find(b"\n", skip) < 0 and len(data) == size and size < longest:
            size = longest
            data = self._storage.read(segment.fd, size, begin)
        end = data.rfind(b"\n", skip)
        if end < 0:
            if len(data) < longest:
                return False
            # No writer makes a line this long: a piece of damage, handed out without a newline.
            self._lines, self._index = [data[skip:]], 0
            self._offset -= 1
            return True
        self._lines, self._index = data[skip:end].split(b"\n"), 0
        return True

    def _tail(self) -> bytes:
        line = self._lines[self._index - 1] if self._index else b""
        return line[-place.TAIL_BYTES :] if len(line) < codec.MAX_LINE_BYTES else b""

    def _lost_its_place(self, segment: OpenSegment) -> bool:
        """Return False: nothing more is to be had from this file, which has changed."""
        if self._owns and (segment.sealed or self._walk.is_active(segment)):
            raise self._replaced(segment)
        return False  # void, or removed while somebody only looked

    def _replaced(self, segment: OpenSegment) -> QueueReplacedError:
        return place.replaced(
            segment.path, f"records up to {self._next_seq - 1} were read, to byte {self._offset}"
        )

    def _read_torn_end(self, segment: OpenSegment) -> bool:
        """Hand out what a sealed segment has behind its last newline: nobody will end it."""
        data = self._storage.read(segment.fd, codec.MAX_LINE_BYTES, self._offset)
        if data:  # else the line before stays known: see `mark`
            self._lines, self._index = [data], 0
        return bool(data)

    def _pass_over(self, segment: OpenSegment) -> None:
        """Go on with what took the place of a file that is no segment any more."""
        if self._owns and not self._walk.is_known(segment):
            raise self._replaced(segment)
        self.close()

    def _leave(self, segment: OpenSegment) -> None:
        self.close()
        self._walk.leave(segment)
        if not segment.has_record and self._next_seq in (0, segment.first_seq):
            # Nothing but damage, and sealed under a number of its own: that is none to wait for.
            self._next_seq = segment.first_seq + 1

    def _open_next(self) -> OpenSegment | None:
        self._offset, self._lines, self._index = 0, [], 0
        segment = self._segment = self._walk.open_next(self._next_seq)
        if segment is not None:
            self._offset = segment.start
        return segment
