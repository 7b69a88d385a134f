"""What was being worked on when the process died: a guard against images that kill the server.

An image can take down the process (native code, memory) before it can be blamed. So the ids of
what is in flight stand in a file. A server that finds ids there at its start counts one crash for
each. What was in flight at three crashes is from then on worked on alone, and so is found out if
it kills once more: at the fourth it is condemned. Whoever kills the server by hand may hit a good
image once or twice, but hardly the very same one, alone, a fourth time.

The file is not synced: it has to outlive the process, not the machine. Nor is it to be held on by a
process that a predictor of one's own has forked: the next server would not find it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from DurableText.storage import STORAGE, make_durable_directory

logger = logging.getLogger(__name__)

CRASHES_UNTIL_ALONE = 3
CRASHES_UNTIL_CONDEMNED = 4
# More servers than one on a queue: each has a file of its own.
MAX_SERVERS = 64


_open: weakref.WeakSet[InFlight] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for journal in list(_open):
        journal.close()


os.register_at_fork(after_in_child=_let_go_in_child)


class Suspicion(enum.Enum):
    """How a message has to be treated after what happened while it was in flight."""

    NONE = enum.auto()
    ALONE = enum.auto()  # to be worked on by itself
    CONDEMNED = enum.auto()  # not to be touched again


class InFlight:
    """The journal of one server. For one thread."""

    def __init__(self, place: Path) -> None:
        """Take over the journal that no living server holds, counting the crash that it tells.

        Args:
            place: the journal is `<its stem>.in_flight.<n>.json` beside it: the queue's text file,
                or a name in `--state-dir` (`place_of_state`).

        Raises:
            OSError: it cannot be written.
        """
        make_durable_directory(STORAGE, place.parent)
        self._told = False
        self._path, self._file = self._first_free(place)
        _open.add(self)
        self._crashes = self._count_crash()
        self._note([])

    @staticmethod
    def _first_free(place: Path) -> tuple[Path, int]:
        for i in range(MAX_SERVERS):
            path = place.with_name(f"{place.stem}.in_flight.{i}.json")
            file = STORAGE.open(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
            else:
                return path, file
        raise OSError(f"{MAX_SERVERS} model servers use {place}: give this one another --state-dir")

    def _count_crash(self) -> dict[str, int]:
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        try:
            journal = orjson.loads(content.split(b"\n", 1)[0]) if content else {}
            crashes: dict[str, int] = dict(journal.get("crashes", {}))
            in_flight: list[str] = journal.get("in_flight", [])
        except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
            logger.warning("the journal of what was in flight is damaged: it begins anew")
            return {}
        for message_id in in_flight:
            crashes[message_id] = crashes.get(message_id, 0) + 1
        return crashes

    def suspicion(self, message_id: str) -> Suspicion:
        """Tell how a message is to be treated."""
        crashes = self._crashes.get(message_id, 0) if self._crashes else 0
        if crashes >= CRASHES_UNTIL_CONDEMNED:
            return Suspicion.CONDEMNED
        return Suspicion.ALONE if crashes >= CRASHES_UNTIL_ALONE else Suspicion.NONE

    @contextlib.contextmanager
    def working_on(self, message_ids: Sequence[str]) -> Iterator[None]:
        """Note that these are being worked on; whoever comes out of it alive is acquitted."""
        self._note(message_ids)
        try:
            yield
        finally:
            self.acquit(message_ids)

    def acquit(self, message_ids: Sequence[str]) -> None:
        """Forget what was held against these, and that anything is in flight."""
        if self._crashes:
            for message_id in message_ids:
                self._crashes.pop(message_id, None)
        self._note([])

    def close(self) -> None:
        """Let the journal go."""
        if self in _open:
            _open.discard(self)
            os.close(self._file)

    def _note(self, message_ids: Sequence[str]) -> None:
        """Write what is in flight; a disk that refuses costs the guard, not the images."""
        try:
            self._write(message_ids)
        except OSError as error:
            if not self._told:
                logger.warning(
                    "%s cannot be written (%s): until it can, an image that kills the server is "
                    "not found out",
                    self._path,
                    error.strerror,
                )
            self._told = True

    def _write(self, message_ids: Sequence[str]) -> None:
        journal = orjson.dumps({"crashes": self._crashes, "in_flight": list(message_ids)})
        # Only the first line counts. Truncating the rest away would cost milliseconds a batch.
        os.pwrite(self._file, journal + b"\n", 0)
