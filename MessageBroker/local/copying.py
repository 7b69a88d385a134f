"""A copy of the embedded broker that is in use, topic by topic: for backups.

Each file is copied as it is at one moment, with what its subscriptions have acknowledged.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from DurableText.sqlite_copy import copy_sqlite
from MessageBroker.local.database import translated_errors

CATALOGUE = "catalogue.sqlite"


class TopicCopies:
    """Copies the broker in a folder into another one."""

    def __init__(self, source: Path, target: Path) -> None:
        """Copy the catalogue; the topics follow one by one.

        Raises:
            BrokerUnavailableError: there is no broker, or the copy cannot be written.
            ConfigurationError: it is damaged.
        """
        self._source = source
        self._target = target
        self._copy(CATALOGUE)
        with (
            translated_errors(target / CATALOGUE),
            contextlib.closing(sqlite3.connect(target / CATALOGUE)) as db,
        ):
            self._left: dict[str, str] = dict(db.execute("SELECT name, file FROM topic"))

    @property
    def left(self) -> list[str]:
        """The topics that are not copied yet."""
        return sorted(self._left)

    def copy(self, topic: str) -> None:
        """Copy a topic, if there is one of this name; raises as the beginning does."""
        file = self._left.pop(topic, None)
        if file is not None:
            self._copy(file)

    def _copy(self, file: str) -> None:
        with translated_errors(self._source / file):
            copy_sqlite(self._source / file, self._target / file)
