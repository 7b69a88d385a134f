"""The parts of a text DB that is rotated: `db_for_app_2.part-000001.txt`, the oldest first.

A part is the text as it was, under another name: nothing is copied, so a kill at any moment leaves
each row in exactly one file. First the index is renamed, which is only a hint; then the text; then
a new text begins. Whoever opens the DB after a kill between two of these finds a text without an
index, which is made anew, or no text, which begins.

Ids are known across all parts that are kept. A part that is dropped takes its ids with it: an image
that comes again after so long is stored again.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from DB.errors import DatabaseConfigurationError
from DB.text.index import remove
from DB.text.indexed_text import IndexedText
from DurableText.storage import Storage

logger = logging.getLogger(__name__)

_PART = re.compile(r"(?P<stem>.+)\.part-(?P<number>\d{6,})")


def part_path(path: Path, number: int) -> Path:
    """Return where part `number` of the DB at `path` stands."""
    return path.with_name(f"{path.stem}.part-{number:06}{path.suffix}")


def part_numbers(path: Path, storage: Storage) -> list[int]:
    """Return the numbers of the parts of the DB at `path`, the oldest first."""
    numbers = []
    with contextlib.suppress(FileNotFoundError):
        for name in storage.names(path.parent):
            found = _PART.fullmatch(Path(name).stem)
            if found and found["stem"] == path.stem and Path(name).suffix == path.suffix:
                numbers.append(int(found["number"]))
    return sorted(numbers)


def part_paths(path: Path, storage: Storage) -> list[Path]:
    """Return the parts of the DB at `path`, the oldest first."""
    return [part_path(path, number) for number in part_numbers(path, storage)]


def refuse_a_part(path: Path) -> None:
    """Raise if `path` is a part of another DB, to which nothing is ever added.

    Raises:
        DatabaseConfigurationError: it is.
    """
    found = _PART.fullmatch(path.stem)
    if found is not None:
        whole = path.with_name(f"{found['stem']}{path.suffix}")
        raise DatabaseConfigurationError(f"{path} is a part of the DB {whole}: name that one")


class Parts:
    """The parts as the one writer of the DB uses them. One thread at a time."""

    def __init__(self, path: Path, storage: Storage) -> None:
        """Open all that are there.

        Args:
            path: the text that is written.
            storage: the layer for system calls.

        Raises:
            OSError, IndexDamagedError: one of them cannot be used.
        """
        self._path = path
        self._storage = storage
        self._texts: dict[int, IndexedText] = {}
        try:
            for number in part_numbers(path, storage):
                self._open(number)
        except BaseException:
            self.close()
            raise

    def find(self, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows with these ids."""
        keys: dict[bytes, list[int]] = {}  # by the secret that they are made with: mostly one
        for text in self._texts.values():
            secret = text.index.secret
            if secret not in keys:
                keys[secret] = text.keys_of(ids)
            yield from text.find(ids, keys[secret])

    def seal(self, rows: IndexedText, index_path: Path) -> Path:
        """Close the text that is written and make a part of it; return where that stands.

        Raises:
            OSError: the text has to be opened anew; it is there, or it is a part.
        """
        number = max(self._texts, default=0) + 1
        part = part_path(self._path, number)
        rows.close()
        self._storage.rename(index_path, _index_of(part))
        self._storage.rename(self._path, part)
        self._storage.sync_directory(self._path.parent)
        self._open(number)
        logger.info("%s: rotated, %s is complete", self._path, part.name)
        return part

    def drop_but(self, keep: int | None) -> list[Path]:
        """Remove the oldest parts until `keep` are left; return those that are gone."""
        gone = []
        while keep is not None and len(self._texts) > keep:
            number = min(self._texts)
            self._texts.pop(number).abandon()
            part = part_path(self._path, number)
            self._storage.unlink(part)
            remove(_index_of(part))
            gone.append(part)
            logger.info("%s: %s is removed, %d parts are kept", self._path, part.name, keep)
        return gone

    def close(self) -> None:
        """Close them."""
        for text in self._texts.values():
            text.close()
        self._texts.clear()

    def _open(self, number: int) -> None:
        part = part_path(self._path, number)
        self._texts[number] = IndexedText(part, _index_of(part), self._storage)


def _index_of(part: Path) -> Path:
    return part.with_suffix(".index")
