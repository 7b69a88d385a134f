"""Results whose id is stored with another label: `db_for_app_2.conflicts.txt`.

One line each: the refused result, `stored_label` (what the DB has; its beginning if the line would
be too long), `refused_at`, `crc`. The same conflict (id and what it says) is kept once, however
often the broker delivers it and however many there are. So this text has an index of its ids as
well: `db_for_app_2.conflicts.index`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from DB.results import answer_of
from DB.text.rotated_text import RotatedText
from DurableText import codec

logger = logging.getLogger(__name__)

# So much of a stored label is kept, as JSON, if the line would be too long: it fits into what
# `codec.encode` leaves free, even if each byte needs to be escaped.
SHORT_LABEL_BYTES = 16


class Conflicts:
    """The conflicts, in a text that is made when there is one. One thread at a time."""

    def __init__(self, text: RotatedText) -> None:
        self._text = text
        self._new: dict[tuple[str, str], bytes] = {}  # by what `name_of` says

    def add(self, result: Mapping[str, Any], stored_label: object, now: str) -> None:
        """Note a conflict; `write` keeps it."""
        what = {**result, "stored_label": stored_label, "refused_at": now}
        line = codec.frame(orjson.dumps(what)[:-1])
        if len(line) > codec.MAX_LINE_BYTES:  # the whole label stands in the DB
            short = orjson.dumps(stored_label)[:SHORT_LABEL_BYTES].decode(errors="ignore")
            line = codec.frame(orjson.dumps({**what, "stored_label": f"{short}…"})[:-1])
        self._new.setdefault(name_of(result), line)

    def write(self) -> None:
        """Write what was noted and is not there yet; durable when it returns.

        Raises:
            OSError, IndexDamagedError, DatabaseReplacedError: it could not be written; what was
                noted is forgotten, to be noted again.
        """
        new, self._new = self._new, {}
        if not new:
            return
        text = self._text
        text.prepare()
        ids = [result_id for result_id, _ in new]
        for row in text.find(ids, text.keys_of(ids)):
            new.pop(name_of(row), None)
        if not new:
            return
        text.append(list(new.values()), text.keys_of([result_id for result_id, _ in new]))
        text.require_place()
        for name in new:
            logger.error(
                "%.200s is stored with another label than %.200s; kept in %s",
                name[0],
                name[1].removeprefix("="),
                text.path,
            )


def name_of(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return id and answer: each conflict is kept once."""
    said = {name: value for name, value in result.items() if name != "stored_label"}
    return result["id"], answer_of(said)
