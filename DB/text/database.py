"""`TextDatabase`: results by id, in a text file that a person can read. One process writes.

Its lock is the kernel's and ends with it. The text's format and its recovery stand in `text_file`,
the index in `index`, and how the two work together in `indexed_text`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from DB.busy import held_by
from DB.database_interface import Row
from DB.errors import (
    DatabaseClosedError,
    DatabaseConfigurationError,
    DatabaseLockedError,
    DatabaseReplacedError,
)
from DB.results import InsertOutcome, Result, answer_of, encode, shadow_key, sort_out, split_times
from DB.rotation import Rotation
from DB.text.conflicts import Conflicts
from DB.text.own_format import refuse_foreign
from DB.text.part_list import PARTS
from DB.text.parts import refuse_a_part
from DB.text.reader import CONFLICTS, SHADOWS, TextReader
from DB.text.rotated_text import RotatedText
from DurableText import codec
from DurableText.lock import FileLock
from DurableText.moments import timestamp
from DurableText.program.forks import Opener
from DurableText.storage import (
    STORAGE,
    Storage,
    make_durable_directory,
    refuse_what_is_no_file,
    require_name_fits,
)

# What the longest of the names of side files ends in.
LONGEST = f"{CONFLICTS.removesuffix('.txt')}.part-999999999.index-journal"

# Pause between two looks at a lock that another process holds: how late a standby takes over.
STANDBY_SECONDS = 0.05

# With `wait=False`: one who only looks at the lock (`status`) is not mistaken for a holder.
NO_WAIT_SECONDS = 0.05


class TextDatabase(TextReader):
    """The DB in a text file, open for writing."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        wait: bool = True,
        timeout: float | None = None,
        stop: Callable[[], bool] | None = None,
        rotation: Rotation | None = None,
        storage: Storage = STORAGE,
    ) -> None:
        """Take the lock, open the text, and recover what a kill or a power loss has left.

        Args:
            path: the text file; side files lie beside it. Folders that are missing are made, links
                followed.
            wait: whether to stand by while another process holds the DB.
            timeout: seconds to wait at most; None waits without limit.
            stop: asked every 50 ms while waiting, as `threading.Event.is_set`; True ends it.
            rotation: when a new part begins; None for never, but by `rotate`.
            storage: the layer for system calls; tests put faults there.

        Raises:
            DatabaseLockedError: another process holds it, and the waiting is over.
            DatabaseConfigurationError: the file is no DB of this format, or has the name of a side
                file.
            DatabaseUnavailableError: the folder or its files cannot be written.
        """
        super().__init__(path, storage=storage)
        if self.path in (self._side_file("index"), self._side_file("lock")):
            raise DatabaseConfigurationError(
                f"{self.path}: its index or its lock would have the same name; "
                "name another file with --db"
            )
        refuse_a_part(self.path)
        self._refuse_a_side_file()
        self._require_own_side_files()
        self._opener = Opener(f"{self.path}: this DB", DatabaseClosedError)
        self._mutex = threading.Lock()
        self._closed = False
        rotated = partial(RotatedText, storage=storage, rotation=rotation or Rotation())
        self._rows = rotated(
            self.path, check_format=partial(refuse_foreign, self.path, is_known=True)
        )
        self._refused = rotated(self._side_file(CONFLICTS), time_field="refused_at")
        self._shadow = rotated(self._side_file(SHADOWS), identity=shadow_key)
        self._conflicts = Conflicts(self._refused)
        with self._errors("open"):
            refuse_what_is_no_file(self.path)
            self._refuse_foreign()  # before anything is made beside it
            make_durable_directory(storage, self.path.parent)
            require_name_fits(storage, self._side_file(LONGEST))
            self._lock = FileLock(self._side_file("lock"), storage, self.path)
            try:
                self._wait_for_lock(NO_WAIT_SECONDS if not wait else timeout, wait, stop)
                self._rows.open()
            except BaseException:
                self._lock.close()
                raise

    def insert(self, results: Sequence[Result]) -> InsertOutcome:
        """See `ResultDatabase.insert`."""
        return self._insert_all(results, None)

    def take_over(self, rows: Sequence[Row]) -> InsertOutcome:
        """See `ResultDatabase.take_over`."""
        results, times = split_times(rows)
        return self._insert_all(results, times)

    def insert_shadow(self, results: Sequence[Result]) -> InsertOutcome:
        """See `ResultDatabase.insert_shadow`."""
        self._check_usable()
        bodies = encode(results)
        keys = [shadow_key(result, number) for number, result in enumerate(results)]
        with self._mutex, self._errors("insert into"), self._alone():
            return self._insert_shadow(results, bodies, keys)

    def get(self, result_id: str) -> Row | None:
        """See `ResultDatabase.get`."""
        with self._mutex, self._errors("read"):
            self._check_usable()
            self._rows.open()
            return next(iter(self._rows.find([result_id], self._rows.keys_of([result_id]))), None)

    def rotate(self, keep: int | None = None) -> tuple[Path | None, list[Path]]:
        """See `ResultDatabase.rotate`."""
        with self._mutex, self._errors("rotate"), self._alone():
            part, gone = self._rows.rotate(keep)
            for beside in (self._refused, self._shadow):
                if beside.exists():
                    gone += beside.rotate(keep)[1]
            return part, gone

    def check(self, timeout: float) -> None:
        """See `ResultDatabase.check`."""
        deadline = time.monotonic() + timeout
        with held_by(self._mutex, deadline, self.name), self._errors("write to"):
            self._check_usable()
            self._rows.open()
            self._rows.require_place()
            self._rows.sync()

    def close(self) -> None:
        """Write the index and give the lock back; twice is fine."""
        if self._opener.is_another_process:
            return  # a forked child: all of it is the parent's
        with self._mutex, contextlib.ExitStack() as closing:
            if self._closed:
                return
            self._closed = True
            closing.callback(self._lock.close)
            for text in (self._rows, self._refused, self._shadow):
                closing.callback(text.close)

    # --- inserting ---

    def _insert_all(self, results: Sequence[Result], times: list[str] | None) -> InsertOutcome:
        self._check_usable()
        bodies = encode(results)
        with self._mutex, self._errors("insert into"), self._alone():
            self._rows.prepare()
            outcome = self._insert(results, bodies, times)
            self._rows.require_place()
            return outcome

    def _insert(
        self, results: Sequence[Result], bodies: list[bytes], times: list[str] | None
    ) -> InsertOutcome:
        ids = [result["id"] for result in results]
        keys = self._rows.keys_of(ids)
        stored = {row["id"]: row for row in self._rows.find(ids, keys)}
        found = sort_out(results, ids, {name: answer_of(row) for name, row in stored.items()})
        now = timestamp()
        for number, first in found.conflicting:
            known = stored[ids[number]] if first is None else results[first]
            self._conflicts.add(results[number], known.get("label"), now)
        self._conflicts.write()
        if found.new:
            if times is None:
                lines = _lines([bodies[number] for number in found.new], now)
            else:
                lines = [line for n in found.new for line in _lines([bodies[n]], times[n])]
            self._rows.append(lines, [keys[n] for n in found.new])
        return found.outcome

    def _insert_shadow(
        self, results: Sequence[Result], bodies: list[bytes], keys: list[str]
    ) -> InsertOutcome:
        self._shadow.prepare()
        ids = [result["id"] for result in results]
        places = self._shadow.keys_of(ids)
        stored = {shadow_key(row): answer_of(row) for row in self._shadow.find(ids, places, keys)}
        found = sort_out(results, keys, stored)
        if found.new:
            now = timestamp()
            lines = _lines([bodies[number] for number in found.new], now)
            self._shadow.append(lines, [places[number] for number in found.new])
        self._shadow.require_place()
        return found.outcome

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Write where nobody else does, and promise nothing where somebody may.

        Raises:
            DatabaseReplacedError: somebody has removed the lock.
        """
        self._check_usable()
        self._require_lock()
        yield
        self._require_lock()

    def _require_lock(self) -> None:
        if not self._lock.is_in_place():
            raise DatabaseReplacedError(
                f"{self._lock.path} was removed while it was held, and another process may write "
                "by now; nothing of this insert may be taken as stored. Start again"
            )

    # --- opening ---

    def _wait_for_lock(
        self, timeout: float | None, announce: bool, stop: Callable[[], bool] | None
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(deadline, STANDBY_SECONDS, stop, announce):
            raise DatabaseLockedError(
                f"{self.path} is held by {self._lock.holder()}; end that one, or use another file"
            )

    def _refuse_a_side_file(self) -> None:
        """Raise if the path is that of a text that lies beside a DB, or of its list of parts."""
        for name in (CONFLICTS, SHADOWS, PARTS, f"quarantine{self.path.suffix}"):
            stem = self.path.name.removesuffix(f".{name}")
            lock = self.path.with_name(f"{stem}.lock")
            if stem != self.path.name and lock.exists():
                raise DatabaseConfigurationError(
                    f"{self.path} lies beside the DB {stem!r} and is part of it: name that one"
                )

    def _known_end(self, path: Path) -> int | None:
        return self._rows.end if path == self.path else None

    def _check_usable(self) -> None:
        self._opener.require()
        if self._closed:
            raise DatabaseClosedError(f"{self.path}: the DB is closed")


def _lines(bodies: list[bytes], stored_at: str) -> list[bytes]:
    ending = b',"stored_at":"%b"' % stored_at.encode()
    return codec.frame_all([b"{%b%b" % (body, ending) for body in bodies])
