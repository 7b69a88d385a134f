"""A text of rows with ids, and where each id stands in it: see `text_file` and `index`.

The index is a hint. A row is believed after it was read, its checksum and its whole id compared; so
an index that is ahead of the text, or of another text, cannot make a lost row look stored. An index
that proves wrong is made anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from DB.errors import DatabaseReplacedError
from DB.text.index import FINGERPRINT_BYTES, Index, IndexDamagedError, remove
from DB.text.text_file import TextFile
from DurableText import codec
from DurableText.storage import Storage, lacks_room

logger = logging.getLogger(__name__)

# Reading more than this into the index takes several seconds, which is said.
SLOW_INDEX_BYTES = 256 << 20


def id_of(row: dict[str, Any]) -> str:
    """Return what a row is known by, where nothing else is said."""
    return str(row["id"])


class IndexedText:
    """The rows as their one writer uses them. One thread at a time."""

    def __init__(
        self,
        path: Path,
        index_path: Path,
        storage: Storage,
        check_format: Callable[[bytes], None] | None = None,
        identity: Callable[[dict[str, Any]], str] = id_of,
        secret: bytes | None = None,
    ) -> None:
        """Open text and index, and take in what the index does not know yet.

        Args:
            path: the text.
            index_path: the index; may be missing or of another text.
            storage: the layer for system calls.
            check_format: is given the first bytes of the text, and raises if they are not of ours.
            identity: what a row is known by; its key is always its id's.
            secret: what keys are made with, if the index is made; None for a new one.

        Raises:
            OSError: the text cannot be used.
            IndexDamagedError: no index can be made.
        """
        self._path = path
        self._index_path = index_path
        self._identity = identity
        self._secret = secret
        with contextlib.ExitStack() as opened:
            self._text = TextFile(path, storage)
            opened.callback(self._text.close)
            if check_format is not None:
                check_format(self._text.read(codec.HEAD_BYTES, 0))
            self.index = self._open_index()
            opened.callback(lambda: self.index.abandon())
            self.recover()
            opened.pop_all()

    @property
    def end(self) -> int:
        """Everything before it is on the disk, in whole lines."""
        return self._text.end

    def first_row(self) -> dict[str, Any] | None:
        """Return the first row, of those at the beginning; None where there is none."""
        lines = self._text.read(codec.HEAD_BYTES, 0).split(b"\n")
        return next((row for line in lines if (row := codec.decode(line)) is not None), None)

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes of the text."""
        return self._text.read(size, offset)

    def sync(self) -> None:
        """Sync the text, which shows whether the disk can be written at all."""
        self._text.sync()

    def require_place(self) -> None:
        """Make sure that what was written is what the name shows: the file's name is the DB.

        Raises:
            DatabaseReplacedError: it was taken away.
        """
        if not self._text.is_in_place():
            raise DatabaseReplacedError(
                f"{self._path} was removed, replaced or cut while it was open; nothing of this "
                "insert may be taken as stored. Start again: what comes again is stored there"
            )

    def keys_of(self, ids: Sequence[str]) -> list[int]:
        """Return the keys of results' ids in the index, as long as this is open."""
        return [self.index.key_of(result_id) for result_id in ids]

    def find(self, ids: Sequence[str], keys: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yield the rows known by one of these, whose ids' keys (`keys_of`) are given as well."""
        try:
            found = self._look_up(ids, keys)
        except IndexDamagedError as error:
            self._rebuild_index(str(error))
            found = self._look_up(ids, keys)
        yield from found

    def append(self, lines: list[bytes], keys: list[int]) -> None:
        """Append whole lines durably.

        Raises:
            OSError: they may be there in part; `recover` has to be called before anything else.
        """
        assert self.index.covered == self._text.end, "the index knows all rows before the next"
        offset = self._text.append(b"".join(lines))
        rows = []
        for line, key in zip(lines, keys, strict=True):
            rows.append((key, offset))
            offset += len(line)
        self.index.add(rows, offset, lines[-1][-FINGERPRINT_BYTES:])

    def scan(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield all lines there are now, in groups, with the offset of each group's first one."""
        return self._text.scan(0, self._text.end)

    def recover(self) -> None:
        """Take in what the text has behind the end that the index knows."""
        start = self.index.covered
        self._text.recover(start)
        self._index_rows(start)
        assert self.index.covered == self._text.end, "the index knows all rows"

    def close(self) -> None:
        """Write the index and close the files."""
        try:
            self.index.close()
        finally:
            self._text.close()

    def abandon(self) -> None:
        """Close the files as they are, after an error."""
        self.index.abandon()
        self._text.close()

    def _look_up(self, ids: Sequence[str], keys: Sequence[int]) -> list[dict[str, Any]]:
        found = self.index.find(keys)
        rows: list[dict[str, Any]] = []
        if not found:
            return rows
        wanted = set(ids)
        for key, offsets in found.items():
            for offset in offsets:
                row = self._row_at(offset, key)
                if row is not None and self._identity(row) in wanted:
                    rows.append(row)
        return rows

    def _row_at(self, offset: int, key: int) -> dict[str, Any] | None:
        line = self._text.line_at(offset)
        row = None if line is None else codec.decode(line)
        if line is None or (row is not None and not self._has_key(row, key)):
            raise IndexDamagedError(f"it names byte {offset}, where its row does not stand")
        if row is None:
            logger.warning(
                "%s: the row at byte %d is corrupt; it counts as lost", self._path, offset
            )
        return row

    def _open_index(self) -> Index:
        path = self._index_path
        try:
            index = Index(path, self._secret)
        except IndexDamagedError as error:
            if lacks_room(error):
                raise
            logger.warning("%s: %s; making it anew", path, error)
            remove(path)
            return Index(path)
        try:
            start = max(0, index.covered - FINGERPRINT_BYTES)
            last = self._text.read(index.covered - start, start)
        except BaseException:
            index.abandon()
            raise
        if last[-len(index.fingerprint) :] != index.fingerprint:
            logger.warning("%s: it is of another text, or ahead of it; making it anew", path)
            index.discard()
            return Index(path)
        return index

    def _rebuild_index(self, reason: str) -> None:
        logger.warning(
            "%s: the index is not to be trusted (%s); making it anew", self._path, reason
        )
        self.index.discard()
        self.index = Index(self._index_path, self.index.secret)  # keys that are in use stay right
        self._index_rows(0)

    def _index_rows(self, start: int) -> None:
        """Read the text from `start` to its end into the index."""
        size, corrupt, rows = self._text.end - start, 0, 0
        if size > SLOW_INDEX_BYTES:
            logger.warning("%s: reading %d MB into the index", self._path, size // 1_000_000)
        for begin, lines in self._text.scan(start, self._text.end):
            offset, found = begin, []
            for line in lines:
                row = codec.decode(line)
                if row is not None and isinstance(row.get("id"), str):
                    found.append((self.index.key_of(row["id"]), offset))
                elif line.strip():
                    corrupt += 1
                offset += len(line) + 1
            rows += len(found)
            self.index.add(
                found,
                offset,
                self._text.read(FINGERPRINT_BYTES, max(0, offset - FINGERPRINT_BYTES)),
            )
        if corrupt:
            logger.warning("%s: %d corrupt lines passed over; see `verify`", self._path, corrupt)
        if rows:
            logger.info("%s: %d rows read into the index", self._path, rows)

    def _has_key(self, row: dict[str, Any], key: int) -> bool:
        result_id = row.get("id")
        return isinstance(result_id, str) and self.index.key_of(result_id) == key
