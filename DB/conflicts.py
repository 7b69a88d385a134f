"""Results whose id is stored with another label: `db_for_app_2.conflicts.txt`.

One line each: the refused result, `stored_label` (what the DB has), `refused_at`, `crc`. The same
conflict (id and label) is kept once, however often the broker delivers it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from Queue import codec
from Queue.storage import Storage, append_all

logger = logging.getLogger(__name__)

REMEMBERED_BYTES = 4 << 20
"""How much of the file's end is read to recognise conflicts that are already there."""


class Conflicts:
    """The conflicts file. Opened only when there is a conflict."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self._path = path
        self._storage = storage
        self._known: set[tuple[str, str]] | None = None
        self._new: list[tuple[tuple[str, str], bytes]] = []

    def add(self, result: Mapping[str, Any], stored_label: object, now: str) -> None:
        """Notes a conflict; `write` keeps it."""
        what = {**result, "stored_label": stored_label, "refused_at": now}
        line = codec.frame(orjson.dumps(what)[:-1])
        self._new.append((_name(result), line))

    def write(self) -> None:
        """Writes what was noted; durable when it returns.

        Raises:
            OSError: it could not be written; what was noted is forgotten, to be noted again.
        """
        new, self._new = self._new, []
        if not new:
            return
        storage = self._storage
        fd = storage.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = storage.stat_open(fd).st_size
            if self._known is None:
                self._known = self._read(fd, size)
            fresh = {name: line for name, line in new if name not in self._known}
            data = b"".join(fresh.values())
            # Recovers from a kill or a full disk in the middle of a line.
            if size and storage.read(fd, 1, size - 1) != b"\n":
                data = b"\n" + data
            append_all(storage, fd, data)
            storage.sync(fd)
            storage.sync_directory(self._path.parent)
        finally:
            storage.close(fd)
        self._known.update(fresh)
        for name in fresh:
            logger.error("%s is stored with another label than %s; kept in %s", *name, self._path)

    def _read(self, fd: int, size: int) -> set[tuple[str, str]]:
        data = self._storage.read(fd, REMEMBERED_BYTES, max(0, size - REMEMBERED_BYTES))
        rows = (codec.decode(line) for line in data.split(b"\n"))
        return {_name(row) for row in rows if row is not None and "id" in row}


def _name(result: Mapping[str, Any]) -> tuple[str, str]:
    return result["id"], str(result.get("label"))
