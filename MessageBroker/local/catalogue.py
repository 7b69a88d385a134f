"""The catalogue of the embedded broker: which topics there are, and in which files.

A topic lives in files of its own, made and removed only under the catalogue's lock. A process may
be killed between two steps, so each order of steps is chosen for what it leaves behind:

- Making: the file, then its row.
- Deleting: the mark in the file, which stops everybody who has it open; then the rows; then the
  files. A topic whose file is marked is as good as deleted: deleting and making finish the work.

Files without a row are looked at when a topic of their name is made or deleted the next time. Those
that are marked, or never held a message, are refuse, and removed. One with messages is the topic:
the catalogue was removed, or replaced by an older one. It is taken in again.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import re
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from MessageBroker.errors import (
    BrokerError,
    BrokerReplacedError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    topic_not_found,
)
from MessageBroker.local.database import LocalDatabase
from MessageBroker.local.store import TopicStore
from MessageBroker.local.turnstile import PATIENCE_SECONDS

logger = logging.getLogger(__name__)

# File systems take 255 bytes; what follows the topic's name takes some.
MAX_STEM = 200
# What stands in the folder for a topic: its stem, a number of its own, and one of these.
SUFFIXES = r"sqlite|sqlite-wal|sqlite-shm|turn|lock|bells"

SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (name TEXT PRIMARY KEY, file TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS subscription (id TEXT PRIMARY KEY, topic TEXT NOT NULL);
"""


class _State(enum.Enum):
    """What a topic's file is."""

    GONE = enum.auto()  # deleted, or not there
    UNUSED = enum.auto()  # nothing was ever published to it
    USED = enum.auto()


class Catalogue:
    """Names topics and subscriptions. Its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the catalogue of the broker in `folder`, making it if it is missing.

        Raises:
            BrokerUnavailableError, ConfigurationError: it cannot be opened.
        """
        self._folder = folder
        self._database = LocalDatabase(folder / "catalogue.sqlite", SCHEMA)
        self._lock = threading.RLock()
        self._deadline = 0.0  # of the change under way, monotonic seconds
        self._closed = False

    def close(self) -> None:
        """Close it; every other call raises ClosedError from now on."""
        with self._lock:
            self._closed = True
            self._database.close()

    # ------------------------------------------------------------------ reading

    def topics(self) -> list[str]:
        """Name all topics."""
        with self._reading() as db:
            return [name for (name,) in db.execute("SELECT name FROM topic")]

    def has(self, topic: str) -> bool:
        """Tell whether there is such a topic."""
        return self.path_of(topic) is not None

    def path_of(self, topic: str) -> Path | None:
        """Tell in which file a topic is; None if there is no such topic. Opens nothing."""
        with self._reading() as db:
            row = db.execute("SELECT file FROM topic WHERE name = ?", (topic,)).fetchone()
        return self._folder / row[0] if row else None

    def open(self, topic: str, *, synced: bool = True) -> TopicStore:
        """Open a topic's file.

        Args:
            topic: its name.
            synced: see `TopicStore`.

        Raises:
            TopicNotFoundError: there is no such topic.
        """
        path = self.path_of(topic)
        if path is None:
            raise topic_not_found(f"local broker: there is no topic {topic!r}", topic)
        try:
            return TopicStore(path, topic, synced=synced)
        except (BrokerUnavailableError, BrokerReplacedError):
            if self.path_of(topic) == path:
                raise
        return self.open(topic, synced=synced)  # it was deleted meanwhile, and perhaps made again

    # ------------------------------------------------------------------ changing

    @contextlib.contextmanager
    def changing(self, timeout: float | None = None) -> Iterator[None]:
        """Keep all others from changing it; undo what was changed if anything is raised.

        Args:
            timeout: seconds to wait for others; None for `PATIENCE_SECONDS`.

        Raises:
            BrokerUnavailableError: others take longer, or the catalogue cannot be written.
            BrokerReplacedError: it was removed, replaced or cut.
        """
        patience = PATIENCE_SECONDS if timeout is None else timeout
        deadline = time.monotonic() + patience
        if not self._lock.acquire(timeout=patience):
            raise BrokerUnavailableError(
                f"local broker: other threads of this process have waited for "
                f"{self._database.path} for {patience:.3g} s"
            )
        try:
            self._require_open()
            self._deadline = deadline
            with self._database.writing(self._patience()):
                self._database.require_there()
                yield
        finally:
            self._lock.release()

    def make(self, topic: str) -> bool:
        """Make a topic, inside `changing`; False if it is there already."""
        path = self.path_of(topic)
        if path is not None and self._state_of(path, topic) is not _State.GONE:
            return False
        self._forget(topic)
        self._remove_refuse(topic)
        left = self._left_behind(topic)
        if left is not None:
            logger.warning("%s has no entry in the catalogue: taken in again", left)
            self._add(topic, left.name)
            return False
        # A name of its own each time: nobody who still has the file of a deleted topic open can
        # take it for this one.
        file = f"{topic[:MAX_STEM]}.{uuid.uuid4().hex[:12]}.sqlite"
        TopicStore.make(self._folder / file, topic).close()
        self._add(topic, file)
        return True

    def add_subscription(self, topic: str, subscription_id: str, *, from_start: bool) -> None:
        """Create a subscription unless it is there, inside `changing`.

        Raises:
            TopicNotFoundError: there is no such topic.
            ConfigurationError: it belongs to another topic.
        """
        with contextlib.closing(self.open(topic)) as store, self._reading() as db:
            if not self._belongs(db, subscription_id, topic):
                db.execute("INSERT INTO subscription VALUES (?, ?)", (subscription_id, topic))
            store.add_subscription(
                subscription_id, from_start=from_start, patience=self._patience()
            )

    def remove_subscription(self, topic: str, subscription_id: str) -> bool:
        """Delete a subscription, inside `changing`; True if it was there. Raises as adding does."""
        with contextlib.closing(self.open(topic)) as store, self._reading() as db:
            if not self._belongs(db, subscription_id, topic):
                return False
            # The topic's part first: what is left then is a name, which adding takes again.
            store.remove_subscription(subscription_id, self._patience())
            db.execute("DELETE FROM subscription WHERE id = ?", (subscription_id,))
        return True

    @staticmethod
    def _belongs(db: sqlite3.Connection, subscription_id: str, topic: str) -> bool:
        """Tell whether a topic has this subscription; False if none has."""
        owner = db.execute(
            "SELECT topic FROM subscription WHERE id = ?", (subscription_id,)
        ).fetchone()
        if owner is not None and owner[0] != topic:
            raise ConfigurationError(
                f"local broker: the subscription {subscription_id!r} belongs to the topic "
                f"{owner[0]!r}: choose another id for {topic!r}"
            )
        return owner is not None

    def delete(self, topic: str) -> bool:
        """Delete a topic and its subscriptions; True if it was there."""
        with self.changing():
            path = self.path_of(topic)
            if path is None:
                return False
            if path.exists():
                with contextlib.closing(TopicStore(path, topic)) as store:
                    store.mark_deleted(self._patience())
            self._forget(topic)
        with contextlib.suppress(BrokerUnavailableError), self.changing():  # or the next time
            self._remove_refuse(topic)
        return True

    @staticmethod
    def _state_of(path: Path, topic: str) -> _State:
        try:
            with contextlib.closing(TopicStore(path, topic)) as store:
                if store.is_deleted():
                    return _State.GONE
                return _State.USED if store.was_used() else _State.UNUSED
        except BrokerReplacedError:  # it is not there, or empty
            return _State.GONE

    def _left_behind(self, topic: str) -> Path | None:
        """Return a file of this topic that has no row, the newest of several."""
        if len(topic) > MAX_STEM:
            return None  # the name of the file does not tell whose it is
        files = {path for path, _ in self._strangers(topic) if path.suffix == ".sqlite"}
        return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)

    def _add(self, topic: str, file: str) -> None:
        with self._reading() as db:
            db.execute("INSERT INTO topic VALUES (?, ?)", (topic, file))

    def _forget(self, topic: str) -> None:
        with self._reading() as db:
            db.execute("DELETE FROM subscription WHERE topic = ?", (topic,))
            db.execute("DELETE FROM topic WHERE name = ?", (topic,))

    def _remove_refuse(self, topic: str) -> None:
        """Remove files of this topic that nobody needs, inside `changing`."""
        # The database before its log: without that it would open as a topic that is not deleted.
        strangers = sorted(self._strangers(topic), key=lambda each: each[0].suffix != ".sqlite")
        used = {stem for path, stem in strangers if self._holds_messages(path, topic)}
        for path, stem in strangers:
            if stem in used:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _holds_messages(self, path: Path, topic: str) -> bool:
        """Tell whether a file may be needed; one that cannot be read now may."""
        try:
            return path.suffix == ".sqlite" and self._state_of(path, topic) is _State.USED
        except BrokerError:
            return True

    def _strangers(self, topic: str) -> Iterator[tuple[Path, str]]:
        """Yield files of this topic that are not in the catalogue, and their common stem."""
        with self._reading() as db:
            kept = {Path(file).stem for (file,) in db.execute("SELECT file FROM topic")}
        name = re.compile(rf"({re.escape(topic[:MAX_STEM])}\.[0-9a-f]{{12}})\.({SUFFIXES})")
        for entry in list(self._folder.iterdir()):
            found = name.fullmatch(entry.name)
            if found is not None and found[1] not in kept:  # long names may share their stem
                yield entry, found[1]

    def _patience(self) -> float:
        """Seconds that the change under way may still wait, for whichever lock."""
        return max(0.0, self._deadline - time.monotonic())

    # ------------------------------------------------------------------ the file

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._require_open()
            with self._database.reading() as db:
                yield db

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the local broker was closed")
