"""The parts of a text that is rotated: `db_for_app_2.part-000001.txt`, the oldest first.

A part is the text as it was, under another name: nothing is copied, so a kill at any moment leaves
each row in exactly one file. First the list of parts says what is to come (`part_list`); then the
index is renamed, which is only a hint; then the text; then a new text begins. Whoever opens the
text after a kill between two of these finds a text that the list calls a part, and makes one of it
later; a text without an index, which is made anew; or no text, which begins.

Ids are known across all parts that are kept. A part that is dropped takes its ids with it: an image
that comes again after so long is stored again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from DB.errors import DatabaseConfigurationError
from DB.text.index import move, remove
from DB.text.indexed_text import IndexedText, id_of
from DB.text.part_list import PartList
from DurableText.storage import Storage, refuse_what_is_no_file

logger = logging.getLogger(__name__)

# So many parts are open at a time, with three files each: a process may have 1,024 files open, and
# there are three texts. Those that are not are opened when an id may stand there.
OPEN_PARTS = 80

# A text that is neither there nor a part is looked for so often: a rotation may have made a part of
# it, dropped that and begun a new text between two looks.
LOOKS = 3

_PART = re.compile(r"(?P<stem>.+)\.part-(?P<number>\d{6,})", re.DOTALL)


def part_path(path: Path, number: int) -> Path:
    """Return where part `number` of the text at `path` stands."""
    return path.with_name(f"{path.stem}.part-{number:06}{path.suffix}")


def part_numbers(path: Path, storage: Storage) -> list[int]:
    """Return the numbers of the parts of the text at `path`, the oldest first."""
    numbers = []
    with contextlib.suppress(FileNotFoundError):
        for name in storage.names(path.parent):
            found = _PART.fullmatch(Path(name).stem)
            if found and found["stem"] == path.stem and Path(name).suffix == path.suffix:
                numbers.append(int(found["number"]))
    return sorted(numbers)


def part_paths(path: Path, storage: Storage) -> list[Path]:
    """Return the parts of the text at `path`, the oldest first."""
    return [part_path(path, number) for number in part_numbers(path, storage)]


class Opened(NamedTuple):
    """A file of the text, open to be read.

    Attributes:
        path: where it stood when it was opened.
        number: of the part; None for the text.
        fd: its descriptor.
        inode: by which it is known under whatever name.
        size: in bytes, as it was opened.
    """

    path: Path
    number: int | None
    fd: int
    inode: int
    size: int


def open_in_turn(path: Path, storage: Storage) -> Generator[Opened, None, None]:
    """Yield the parts of the text at `path`, the oldest first, and the text.

    That is all there was at the first step, each row once; a file is open until the next step.

    The text is opened first. If it becomes a part meanwhile, it is known by its inode, and what
    stands behind it was stored later. Between two renames of a rotation, or after a kill there, no
    text is there: all stands in parts.

    Args:
        path: the text.
        storage: the layer for system calls.

    Raises:
        FileNotFoundError: there is neither a text nor a part.
        OSError: one of them cannot be read, or is no file.
    """
    text, numbers = _find(path, storage)
    try:
        for number in numbers:
            part = _open(part_path(path, number), number, storage)
            if part is None:  # just dropped
                continue
            try:
                if text is not None and part.inode == text.inode:
                    break
                yield part
            finally:
                storage.close(part.fd)
        if text is not None:
            yield text
    finally:
        if text is not None:
            storage.close(text.fd)


def _find(path: Path, storage: Storage) -> tuple[Opened | None, list[int]]:
    for _ in range(LOOKS):
        text = _open(path, None, storage)
        try:
            numbers = part_numbers(path, storage)
        except BaseException:
            if text is not None:
                storage.close(text.fd)
            raise
        if text is not None or numbers:
            return text, numbers
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _open(path: Path, number: int | None, storage: Storage) -> Opened | None:
    refuse_what_is_no_file(path)
    try:
        fd = storage.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        status = storage.stat_open(fd)
    except BaseException:
        storage.close(fd)
        raise
    return Opened(path, number, fd, status.st_ino, status.st_size)


def index_of(text: Path) -> Path:
    """Return where the index of a text, or of a part, lies."""
    return text.with_suffix(".index")


def refuse_a_part(path: Path) -> None:
    """Raise if `path` is a part of another DB, to which nothing is ever added.

    Raises:
        DatabaseConfigurationError: it is.
    """
    found = _PART.fullmatch(path.stem)
    if found is not None:
        whole = path.with_name(f"{found['stem']}{path.suffix}")
        raise DatabaseConfigurationError(f"{path} is a part of the DB {whole}: name that one")


@dataclass(frozen=True)
class _Known:
    """What is known of a part without its being open.

    Attributes:
        secret: what the keys of its ids are made with.
        highest: of the keys.
    """

    secret: bytes
    highest: int


class Parts:
    """The parts as the one writer of the text uses them. One thread at a time."""

    def __init__(
        self, path: Path, storage: Storage, identity: Callable[[dict[str, Any]], str] = id_of
    ) -> None:
        """Open each that is there, and say which should be.

        Args:
            path: the text that is written.
            storage: the layer for system calls.
            identity: what a row is known by.

        Raises:
            OSError, IndexDamagedError: one of them cannot be used.
        """
        self._path = path
        self._storage = storage
        self._identity = identity
        self._known: dict[int, _Known] = {}  # the oldest first
        self._opened: dict[int, IndexedText] = {}
        try:
            numbers = part_numbers(path, storage)
            self._list = PartList(path, storage, {each: part_path(path, each) for each in numbers})
            for number in numbers:
                self._open(number)
        except BaseException:
            self.close()
            raise

    def find(
        self, ids: Sequence[str], names: Sequence[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows with these ids; with `names`, those that are known by one of them."""
        keys: dict[bytes, list[int]] = {}  # by the secret that they are made with: mostly one
        for number, known in list(self._known.items()):
            ours = keys.get(known.secret)
            if ours is not None and (not ours or min(ours) > known.highest):
                continue  # all are younger than this part: by far most often
            try:
                text = self._open(number)
            except FileNotFoundError:
                del self._known[number]
                logger.error(
                    "%s was removed while it was in use; its ids are known no more",
                    part_path(self._path, number),
                )
                continue
            secret = text.index.secret  # another one, if its index was made anew
            if secret not in keys:
                keys[secret] = text.keys_of(ids)
            yield from text.find(ids if names is None else names, keys[secret])

    def seal(self, rows: IndexedText) -> Path:
        """Close the text that is written and make a part of it; return where that stands.

        Raises:
            OSError: the text has to be opened anew; it is there, or it is a part.
        """
        number = self._list.next_number(self._known)
        part = part_path(self._path, number)
        self._list.complete(number, rows.read, rows.end)
        rows.close()
        move(index_of(self._path), index_of(part))
        self._storage.rename(self._path, part)
        self._storage.sync_directory(self._path.parent)
        self._open(number)
        logger.info("%s: rotated, %s is complete", self._path, part.name)
        return part

    def drop_but(self, keep: int | None) -> list[Path]:
        """Remove the oldest parts until `keep` are left; return those that are gone.

        Raises:
            OSError: the parts have to be opened anew; those that could not be removed are there.
        """
        dropped = [] if keep is None else list(self._known)[: max(0, len(self._known) - keep)]
        if not dropped:
            return []
        for number in dropped:
            # Only hints, but on a disk that is full to its last block the room for a new list.
            if number in self._opened:
                self._opened.pop(number).abandon()
            remove(index_of(part_path(self._path, number)))
        self._list.drop(dropped)
        gone = []
        for number in dropped:
            del self._known[number]
            part = part_path(self._path, number)
            self._storage.unlink(part)
            gone.append(part)
            logger.info("%s: %s is removed, %d parts are kept", self._path, part.name, keep)
        self._storage.sync_directory(self._path.parent)  # their ids must not come back
        return gone

    def close(self) -> None:
        """Close them."""
        while self._opened:
            self._opened.popitem()[1].close()

    def abandon(self) -> None:
        """Close them as they are."""
        while self._opened:
            self._opened.popitem()[1].abandon()

    def _open(self, number: int) -> IndexedText:
        """Return a part, open; close the one that was opened last, if there are many.

        They are looked into one after another: whichever else was closed would be needed sooner.
        """
        if number not in self._opened:
            while len(self._opened) >= OPEN_PARTS:
                self._opened.popitem()[1].close()
            part = part_path(self._path, number)
            self._storage.stat(part)  # one that is gone must not be made
            text = IndexedText(part, index_of(part), self._storage, identity=self._identity)
            self._known[number] = _Known(text.index.secret, text.index.highest)
            self._opened[number] = text
        return self._opened[number]
