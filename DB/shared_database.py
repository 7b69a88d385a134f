"""What the engines share that several processes may write to at once: who may use one, and how."""

from __future__ import annotations

import threading

from DB.database_interface import ResultDatabase
from DB.errors import DatabaseClosedError, opened_to_read
from DurableText.program.forks import Opener


class SharedDatabase(ResultDatabase):
    """A DB that is open in the process that opened it, until it is closed there."""

    shared = True

    def __init__(self, name: str, *, read_only: bool) -> None:
        """Note that it is open.

        Args:
            name: of the DB, for errors.
            read_only: whether inserts are refused.
        """
        self.name = name
        self._read_only = read_only
        self._opener = Opener(f"{name}: this DB", DatabaseClosedError)
        self._mutex = threading.Lock()
        self._closed = False

    def _check_writable(self, number: int) -> None:
        self._check_usable()
        if self._read_only:
            raise opened_to_read(self.name, number)

    def _check_usable(self) -> None:
        self._opener.require()
        if self._closed:
            raise DatabaseClosedError(f"{self.name}: the DB is closed")
