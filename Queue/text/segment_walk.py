"""The way through a queue's files: which one is read next, and what became of the one before.

When nothing is left to read and `log.txt` is no longer the file that is open here, that file was
sealed. It is read once more to its end, for lines that came in before the sealing; then the sealed
segment with the next higher `first_seq` follows, and after the last of them `log.txt`. Names
decide, never inode numbers alone: those are used again. A file that is among the sealed ones no
more is void as a whole, and what took its place is read instead.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from DurableText.storage import Storage
from Queue.text import place
from Queue.text.cursor import Position, position_holds
from Queue.text.segment import (
    QueuePaths,
    SealedSegment,
    find_void_from,
    list_sealed,
)


@dataclass
class OpenSegment:
    """The segment being read.

    Attributes:
        fd: open to be read.
        path: its name; that of the log until it is known to be sealed.
        first_seq: 0 until an intact line has told it.
        sealed: whether nobody writes to it any more.
        start: the byte at which reading it begins.
        void_from: the number from which on later segments replace it.
        has_record: whether a record was found in it.
    """

    fd: int
    path: Path
    first_seq: int
    sealed: bool
    start: int = 0
    void_from: int | None = None
    has_record: bool = False


class SegmentWalk:
    """Opens one segment after the other. Whoever reads closes them."""

    def __init__(self, storage: Storage, paths: QueuePaths, start: Position | None) -> None:
        """Begin at `start`; nothing is opened yet.

        Args:
            storage: the layer for system calls.
            paths: the queue's files.
            start: where to begin; None for the oldest segment there is.
        """
        self._storage = storage
        self._paths = paths
        self._hint = start
        self._after = -1  # first_seq of the segment left last
        self._finished: list[Path] = []

    def open_next(self, next_seq: int) -> OpenSegment | None:
        """Open the segment after the one left last, or the one that holds the start.

        Args:
            next_seq: the number of the next record: at the start, what lies wholly before it is
                finished.

        Returns:
            None if there is none yet.
        """
        hint, self._hint = self._hint, None
        if hint is not None and hint.offset:
            segment = self._open_at_hint(hint)
            if segment is not None:
                return segment
        gone: set[int] = set()  # a consumer has just removed it; or it is a link to nowhere
        for sealed in self._later_segments(next_seq):
            void_from = find_void_from(self._storage, self._paths, sealed.first_seq)
            try:
                fd = self._storage.open(sealed.path, os.O_RDONLY)
            except FileNotFoundError:
                gone.add(sealed.first_seq)
                continue
            return OpenSegment(fd, sealed.path, sealed.first_seq, True, void_from=void_from)
        return self._open_active(next_seq, gone)

    def leave(self, segment: OpenSegment) -> None:
        """Note that a sealed segment was read to its end."""
        assert self._after < segment.first_seq, "segments are read in their order"
        self._after = segment.first_seq
        self._finished.append(segment.path)

    def take_finished(self) -> list[Path]:
        """Return sealed segments that were read to their end since the last call, oldest first."""
        finished, self._finished = self._finished, []
        return finished

    def is_active(self, segment: OpenSegment) -> bool:
        """Tell whether it is the log still: then more may come."""
        return self._storage.is_at(self._paths.log, segment.fd)

    def note_sealing(self, segment: OpenSegment) -> bool:
        """Find under which name the segment that was active stands now, and note it there.

        Returns:
            False if it is void as a whole (or, for one who only looks, removed by now): what is
            left of it is not read, and the file in its place begins with the same number.
        """
        ours = self._storage.stat_open(segment.fd)
        for sealed in reversed(list_sealed(self._storage, self._paths)):
            try:
                status = self._storage.stat(sealed.path)
            except FileNotFoundError:
                continue
            if (status.st_ino, status.st_dev) == (ours.st_ino, ours.st_dev):
                segment.void_from = find_void_from(self._storage, self._paths, sealed.first_seq)
                segment.path, segment.first_seq = sealed.path, sealed.first_seq
                segment.sealed = True
                return True
        return False

    def is_known(self, segment: OpenSegment) -> bool:
        """Tell whether the queue itself took the log's name from it; see `place.is_known`."""
        return place.is_known(self._storage, self._paths, segment.fd)

    def _later_segments(self, next_seq: int) -> list[SealedSegment]:
        later = [s for s in list_sealed(self._storage, self._paths) if s.first_seq > self._after]
        if self._after < 0:  # the start: what lies wholly before it is finished
            before = [s for s in later if s.first_seq <= next_seq][:-1]
            self._finish(before)
            return later[len(before) :]
        return later

    def _finish(self, segments: list[SealedSegment]) -> None:
        self._finished += [s.path for s in segments if s.path not in self._finished]

    def _open_active(self, next_seq: int, gone: Container[int]) -> OpenSegment | None:
        try:
            fd = self._storage.open(self._paths.log, os.O_RDONLY)
        except FileNotFoundError:
            return None
        # Between the listing and the opening the log may have been sealed and begun anew; the
        # sealed one comes first then. Sealing renames before it creates, so this look finds it.
        with self._closed_on_errors(fd):
            later = [s for s in self._later_segments(next_seq) if s.first_seq not in gone]
        if later:
            self._storage.close(fd)
            return self.open_next(next_seq)
        return OpenSegment(fd, self._paths.log, 0, sealed=False)

    def _open_at_hint(self, hint: Position) -> OpenSegment | None:
        """Open the segment that the cursor names, at the offset it names, if both still hold.

        A hint without a segment is for the first file.
        """
        sealed = list_sealed(self._storage, self._paths)
        number = hint.segment or (sealed[0].first_seq if sealed else 0)
        path = self._paths.sealed(number)
        is_sealed = any(s.path == path for s in sealed)
        if not is_sealed:
            path = self._paths.log
        void_from = find_void_from(self._storage, self._paths, number) if is_sealed else None
        try:
            fd = self._storage.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with self._closed_on_errors(fd):
            holds = position_holds(self._storage, fd, hint) and (
                # As in _open_active: the log may have been sealed and begun anew meanwhile.
                is_sealed or list_sealed(self._storage, self._paths) == sealed
            )
        if not holds:
            self._storage.close(fd)
            return None
        self._finish([s for s in sealed if s.first_seq < number])
        return OpenSegment(
            fd, path, number, is_sealed, hint.offset, void_from, has_record=hint.segment > 0
        )

    @contextlib.contextmanager
    def _closed_on_errors(self, fd: int) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._storage.close(fd)
            raise
