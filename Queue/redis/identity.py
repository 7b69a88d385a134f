"""Whether the queue is still the one that was there before.

A stream may be removed, a server may come back empty or as an older copy of itself. Two things
tell: the queue's mark, a random text beside the stream, and the id that the stream gave last, which
never goes back. Both are known in memory by whoever is connected, and over restarts by a file in
`--state-dir`.
"""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path
from typing import Any

import orjson

from DurableText.storage import STORAGE, make_durable_directory
from Queue.errors import QueueConfigurationError, QueueReplacedError
from Queue.redis.scripts import MAKE
from Queue.redis.session import Ask, RedisSession
from Queue.state import state_stem

logger = logging.getLogger(__name__)

EntryId = tuple[int, int]

# Room for what is remembered: it is written over, and not truncated.
_WIDTH = 256


def parse_id(text: bytes) -> EntryId:
    """Return the two numbers of an entry's id."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def in_text(entry_id: EntryId) -> str:
    """Return an id as Redis writes it."""
    return f"{entry_id[0]}-{entry_id[1]}"


class Identity:
    """What this process, and this host, know of the queue."""

    def __init__(self, name: str, state_dir: Path | None) -> None:
        """Read what the host remembers.

        Args:
            name: of the queue.
            state_dir: where it is remembered; None: nowhere.

        Raises:
            QueueConfigurationError: the folder cannot be used.
        """
        self._name = name
        self.mark = ""
        self._last: EntryId = (0, 0)
        self._file: int | None = None
        self._told = False
        self._remembered: dict[str, Any] = {}
        if state_dir is not None:
            self._open(state_dir)

    def make(self, session: RedisSession, ask: Ask) -> None:
        """Make the queue unless it is there, or make sure that it is the same."""
        known = self._last  # before the question: meanwhile others may see more
        wanted = (self.mark, "same") if self.mark else (uuid.uuid4().hex, "new")
        mark, last = session.run_on(ask, MAKE, wanted)
        last_id = parse_id(last)
        if not self.mark:
            self._compare_with_remembered(mark.decode(), last_id)
            self.mark = mark.decode()
        elif last_id < known:
            raise QueueReplacedError(
                f"the queue {self._name} is no longer what was opened: it came back without "
                f"records up to {in_text(known)}; nothing of this counts as done, and a start goes "
                "on"
            )
        self.saw(last_id)

    def saw(self, entry_id: EntryId) -> None:
        """Remember an id that the stream has given."""
        if entry_id < self._last or (entry_id == self._last and self._remembered):
            return
        self._last = entry_id
        self._remembered = {"queue": self._name, "mark": self.mark, "last_id": in_text(entry_id)}
        if self._file is None:
            return
        try:
            STORAGE.write(self._file, orjson.dumps(self._remembered).ljust(_WIDTH) + b"\n", 0)
        except OSError as error:
            if not self._told:
                logger.warning(
                    "what must be remembered of %s cannot be written (%s): a start will not notice "
                    "that the server came back empty",
                    self._name,
                    error.strerror,
                )
            self._told = True

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            STORAGE.close(self._file)
            self._file = None

    def _compare_with_remembered(self, mark: str, last_id: EntryId) -> None:
        """Tell of what is gone. There is nothing to be cured: the queue goes on as it is."""
        before, self._remembered = self._remembered, {}
        if not before:
            return
        known = parse_id(str(before.get("last_id", "0-0")).encode())
        if before.get("mark") != mark or last_id < known:
            logger.error(
                "the queue %s came back without what this host knows of it: results up to %s that "
                "were stored and not published yet are gone; going on with what is there",
                self._name,
                in_text(known),
                extra={"event": "queue-lost", "last_id": in_text(known)},
            )

    def _open(self, state_dir: Path) -> None:
        path = state_dir / f"{state_stem(self._name)}.seen.json"
        try:
            make_durable_directory(STORAGE, state_dir)
            self._file = STORAGE.open(path, os.O_RDWR | os.O_CREAT)
            content = STORAGE.read(self._file, 4 * _WIDTH, 0)
        except OSError as error:
            raise QueueConfigurationError(
                f"cannot remember anything in {path}: {error.strerror}; name a folder that can be "
                "written with --state-dir"
            ) from error
        try:
            found = orjson.loads(content.split(b"\n", 1)[0]) if content else {}
            self._remembered = found if isinstance(found, dict) else {}
            parse_id(str(self._remembered.get("last_id", "0-0")).encode())
        except ValueError:
            logger.warning("%s is damaged: it begins anew", path)
            self._remembered = {}
