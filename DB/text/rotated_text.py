"""A text that is written, and the parts that it was before: results, conflicts or shadows.

A row is looked for in all of them and appended to the text, which becomes a part when it is full or
old enough.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from DB.rotation import Rotation
from DB.text.index import Index
from DB.text.indexed_text import IndexedText, id_of
from DB.text.parts import Parts, index_of, part_numbers
from DurableText.moments import seconds_of
from DurableText.storage import Storage


class RotatedText:
    """The rows as their one writer uses them. One thread at a time.

    It begins closed: nothing is made before `open`. After any error what was appended is in doubt;
    the next `prepare` finds it and makes it whole, and opens anew what a rotation has left closed.
    """

    def __init__(
        self,
        path: Path,
        storage: Storage,
        rotation: Rotation,
        *,
        time_field: str = "stored_at",
        identity: Callable[[dict[str, Any]], str] = id_of,
        check_format: Callable[[bytes], None] | None = None,
    ) -> None:
        """Name the text; the index of it, and of each part, lies beside it.

        Args:
            path: the text.
            storage: the layer for system calls.
            rotation: when a new part begins.
            time_field: of a row, which tells its age.
            identity: what a row is known by; its key is always its id's.
            check_format: see `IndexedText`.
        """
        self.path = path
        self._storage = storage
        self._rotation = rotation
        self._time_field = time_field
        self._identity = identity
        self._check_format = check_format
        self._began_at: float | None = None  # the first row's time
        self._unsure = False  # an append was broken off: what lies behind the end is unknown
        self._files: contextlib.ExitStack | None = None  # None: to be opened
        self._text: IndexedText
        self._parts: Parts

    def open(self) -> None:
        """Open the text and its parts, if they are not open; recover what a kill has left.

        Raises:
            OSError, IndexDamagedError: one of them cannot be used.
        """
        if self._files is not None:
            return
        with contextlib.ExitStack() as opened:
            self._parts = Parts(self.path, self._storage, self._identity)
            opened.callback(self._parts.close)
            self._open_text(None)
            opened.callback(lambda: self._text.close())
            self._unsure = False
            self._files = opened.pop_all()

    def exists(self) -> bool:
        """Tell whether there is a text, or a part of it."""
        return self.path.exists() or bool(part_numbers(self.path, self._storage))

    @property
    def end(self) -> int:
        """Everything of the text before it is on the disk, in whole lines."""
        return self._text.end

    @property
    def index(self) -> Index:
        """The index of the text that is written."""
        return self._text.index

    def prepare(self) -> None:
        """Make ready for an append: all is open, whole and in its place; a full text is a part.

        Raises:
            DatabaseReplacedError: the file was taken away.
            OSError, IndexDamagedError: see `open`.
        """
        self._make_whole()
        age = None if self._began_at is None else time.time() - self._began_at
        if self._text.end and self._rotation.is_due(self._text.end, age):
            self._rotate(self._rotation.keep)

    def require_place(self) -> None:
        """See `IndexedText.require_place`."""
        self._text.require_place()

    def sync(self) -> None:
        """Sync the text, which shows whether the disk can be written at all."""
        self._text.sync()

    def keys_of(self, ids: Sequence[str]) -> list[int]:
        """Return the keys of ids in the index of the text, until the next `prepare`."""
        return self._text.keys_of(ids)

    def find(
        self, ids: Sequence[str], keys: Sequence[int], names: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows with these ids, in whichever part they stand.

        Args:
            ids: of results.
            keys: of the ids: see `keys_of`.
            names: what the rows shall be known by, where that is not the id.
        """
        with self._doubted():
            return [
                *self._parts.find(ids, names),
                *self._text.find(ids if names is None else names, keys),
            ]

    def append(self, lines: list[bytes], keys: list[int]) -> None:
        """Append whole lines durably; `keys` are those of their ids."""
        with self._doubted():
            self._text.append(lines, keys)
        if self._began_at is None:
            self._began_at = time.time()

    def rotate(self, keep: int | None) -> tuple[Path | None, list[Path]]:
        """Begin a new part, unless there is no row yet, and remove older parts but `keep`.

        Returns:
            The part that is complete, and those that are gone.

        Raises:
            The same as `prepare`; after an error all is opened anew by whatever comes next.
        """
        self._make_whole()
        return self._rotate(keep)

    def close(self) -> None:
        """Write the indexes and close the files; twice is fine."""
        files, self._files = self._files, None
        if files is not None:
            files.close()

    def abandon(self) -> None:
        """Close the files as they are; twice is fine."""
        files, self._files = self._files, None
        if files is not None:
            files.pop_all()
            self._parts.abandon()
            self._text.abandon()

    def _make_whole(self) -> None:
        self.open()
        self._text.require_place()  # before as well: a write behind a cut would hide it
        if self._unsure:
            self._text.recover()
            self._unsure = False

    def _rotate(self, keep: int | None) -> tuple[Path | None, list[Path]]:
        part: Path | None = None
        gone: list[Path] = []
        try:
            if self._text.end:
                # With the part that comes now there are `keep`. What has to go goes first: on a
                # full disk it is the room for all that follows. A kill behind it leaves the rows
                # that the whole rotation leaves.
                gone = self._parts.drop_but(None if keep is None else max(0, keep - 1))
                secret = self._text.index.secret
                part = self._parts.seal(self._text)
                self._open_text(secret)
            return part, gone + self._parts.drop_but(keep)
        except BaseException:
            self.abandon()
            raise

    @contextlib.contextmanager
    def _doubted(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # by Ctrl-C as well: the text may be ahead of what is known
            self._unsure = True
            raise

    def _open_text(self, secret: bytes | None) -> None:
        self._text = IndexedText(
            self.path,
            index_of(self.path),
            self._storage,
            check_format=self._check_format,
            identity=self._identity,
            secret=secret,
        )
        try:
            first = self._text.first_row() or {}
        except BaseException:
            self._text.abandon()
            raise
        self._began_at = seconds_of(first.get(self._time_field))
