"""Results whose id is stored with another label: `db_for_app_2.conflicts.txt`.

One line each: the refused result, `stored_label` (what the DB has; its beginning if the line would
be too long), `refused_at`, `crc`. The same conflict (id and what it says) is kept once, however
often the broker delivers it and however many there are. So this text has an index of its ids as
well: `db_for_app_2.conflicts.index`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from DB.results import answer_of
from DB.text.indexed_text import IndexedText
from DurableText import codec
from DurableText.storage import Storage

logger = logging.getLogger(__name__)

# So much of a stored label is kept, as JSON, if the line would be too long: it fits into what
# `codec.encode` leaves free, even if each byte needs to be escaped.
SHORT_LABEL_BYTES = 16


class Conflicts:
    """The conflicts file. Made and opened when there is a conflict. One thread at a time."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self._path = path
        self._storage = storage
        self._kept: IndexedText | None = None
        self._new: dict[tuple[str, str], bytes] = {}  # by what `_name` says

    def add(self, result: Mapping[str, Any], stored_label: object, now: str) -> None:
        """Note a conflict; `write` keeps it."""
        what = {**result, "stored_label": stored_label, "refused_at": now}
        line = codec.frame(orjson.dumps(what)[:-1])
        if len(line) > codec.MAX_LINE_BYTES:  # the whole label stands in the DB
            short = orjson.dumps(stored_label)[:SHORT_LABEL_BYTES].decode(errors="ignore")
            line = codec.frame(orjson.dumps({**what, "stored_label": f"{short}…"})[:-1])
        self._new.setdefault(_name(result), line)

    def write(self) -> None:
        """Write what was noted and is not there yet; durable when it returns.

        Raises:
            OSError, IndexDamagedError, DatabaseReplacedError: it could not be written; what was
                noted is forgotten, to be noted again.
        """
        new, self._new = self._new, {}
        if not new:
            return
        try:
            self._keep(new)
        except BaseException:  # by Ctrl-C as well
            # What it left is found and made whole when the file is opened for the next conflict.
            kept, self._kept = self._kept, None
            if kept is not None:
                kept.abandon()
            raise

    def close(self) -> None:
        """Close the file."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _keep(self, new: dict[tuple[str, str], bytes]) -> None:
        if self._kept is None:
            index = self._path.with_suffix(".index")
            self._kept = IndexedText(self._path, index, self._storage)
        kept = self._kept
        kept.require_place()
        ids = [result_id for result_id, _ in new]
        for row in kept.find(ids, kept.keys_of(ids)):
            new.pop(_name(row), None)
        if not new:
            return
        kept.append(list(new.values()), kept.keys_of([result_id for result_id, _ in new]))
        kept.require_place()
        for name in new:
            logger.error(
                "%.200s is stored with another label than %.200s; kept in %s",
                name[0],
                name[1].removeprefix("="),
                self._path,
            )


def _name(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return id and answer: each conflict is kept once."""
    said = {name: value for name, value in result.items() if name != "stored_label"}
    return result["id"], answer_of(said)
