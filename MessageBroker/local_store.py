"""One topic of the embedded broker: a SQLite file that several processes use at once.

A topic is a log. `message` holds its messages under consecutive sequence numbers, `subscription`
how far each subscription has given them out (`next_seq`), and `claim` what was given out and is
not yet acknowledged, as ranges: a batch of 256 messages costs one row, not 256. Keyed messages
have a row each, because a key is held by one consumer at a time. So for every subscription

    acknowledged = below next_seq, and in no claim.

A claim without a consumer is free: it was given back, or its consumer died, or (keyed) another
consumer holds earlier messages of its key. A consumer lives as long as it renews its row. Rows
below what every subscription has acknowledged are deleted.

Durability is SQLite's: WAL with `synchronous=FULL`, one fsync a transaction. Fairness is ours:
SQLite's busy handler polls, and starves a writer beside busy ones. See `local_turnstile`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MessageBroker.errors import BrokerUnavailableError, ConfigurationError, TopicNotFoundError
from MessageBroker.local_claims import Claims, carve, runs
from MessageBroker.local_doorbell import Doorbell, is_heard, ring
from MessageBroker.local_turnstile import Turnstile

# A consumer that does not renew for so long is dead: others take its messages. Three renewals
# may be missed, and failover stays within 15 seconds.
LEASE_SECONDS = 10.0
# Sixteen messages of an image's size fit a page: twice the speed of SQLite's 4,096.
PAGE_BYTES = 16_384
# Waiting for a writer that holds the file outside the turnstile (a backup, a debugger).
BUSY_TIMEOUT_SECONDS = 5.0
# Acknowledged rows are deleted so many at a time, to spread the cost.
PURGE_EVERY = 1024

SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (next_seq INTEGER NOT NULL, deleted INTEGER NOT NULL);
INSERT INTO topic SELECT 1, 0 WHERE NOT EXISTS (SELECT 1 FROM topic);
CREATE TABLE IF NOT EXISTS message (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL, publish_ms INTEGER NOT NULL,
    key TEXT, attributes BLOB, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS subscription (
    id TEXT PRIMARY KEY, next_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer (
    id TEXT PRIMARY KEY, subscription TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claim (
    subscription TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    key TEXT, consumer TEXT, PRIMARY KEY (subscription, first)) WITHOUT ROWID;
"""


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the broker's.

    What passes by itself or by making room (locked, full, unreadable) is an outage; a file that is
    damaged or no database needs somebody to look at it.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise BrokerUnavailableError(f"local broker: {path} cannot be used now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"local broker: {path} is damaged ({error}): move its folder away, or restore it"
        ) from error


def connect(path: Path) -> sqlite3.Connection:
    """Open a database of the broker, durable and shared."""
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA fullfsync=ON")  # macOS: fsync alone leaves data in the disk's cache
    return db


@dataclass(frozen=True)
class StoredMessage:
    """A row of `message`: `attributes` is JSON, `id` the 16 bytes of a UUID."""

    seq: int
    id: bytes
    publish_ms: int
    key: str | None
    attributes: bytes | None
    data: bytes


class TopicStore:
    """One connection to a topic's file. For one thread at a time; open another for another."""

    def __init__(self, path: Path, topic: str) -> None:
        """Open the file, making what is missing of it.

        Raises:
            BrokerUnavailableError, ConfigurationError: it cannot be opened.
        """
        self.topic = topic
        self._path = path
        self._turnstile = Turnstile(path, create=True)
        self._purged_at = 0
        self._bells = path.with_suffix(".bells")
        with translated_errors(path):
            self._bells.mkdir(exist_ok=True)
            self._db = connect(path)
            if not self._db.execute("PRAGMA user_version").fetchone()[0]:
                with self._turnstile.held():
                    self._db.executescript(
                        f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version=1; COMMIT"
                    )

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
        self._turnstile.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with translated_errors(self._path), self._turnstile.held():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._require_topic()
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a failed COMMIT may have ended it
                    self._db.execute("ROLLBACK")
                raise

    def _require_topic(self) -> None:
        if self._value("SELECT deleted FROM topic"):
            raise TopicNotFoundError(
                f"local broker: the topic {self.topic!r} was deleted: create it again"
            )

    def _value(self, sql: str, *parameters: Any) -> Any:
        row = self._db.execute(sql, parameters).fetchone()
        return row[0] if row else None

    # ------------------------------------------------------------------ publishing

    def append(self, rows: Sequence[tuple[bytes, int, str | None, bytes | None, bytes]]) -> None:
        """Append messages (id, publish_ms, key, attributes, data), durable when it returns."""
        with self._writing() as db:
            first = self._value("SELECT next_seq FROM topic")
            db.executemany(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)",
                ((seq, *row) for seq, row in enumerate(rows, first)),
            )
            db.execute("UPDATE topic SET next_seq = ?", (first + len(rows),))
        ring(self._bells)

    def mark_deleted(self) -> None:
        """Tell every process that has the file open that the topic is gone, and free its room."""
        with self._writing() as db:
            for table in ("message", "subscription", "consumer", "claim"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608
            db.execute("UPDATE topic SET deleted = 1")
        ring(self._bells)

    # ------------------------------------------------------------------ subscriptions

    def add_subscription(self, subscription: str, *, from_start: bool) -> None:
        """Create a subscription unless it is there.

        Args:
            subscription: its id.
            from_start: whether it gets what is still stored, or only what comes from now on.
        """
        start = "coalesce((SELECT min(seq) FROM message), next_seq)" if from_start else "next_seq"
        with self._writing() as db:
            db.execute(
                f"INSERT OR IGNORE INTO subscription SELECT ?, {start} FROM topic",  # noqa: S608
                (subscription,),
            )

    def backlog(self, subscription: str) -> int | None:
        """Count what is not acknowledged; None where there is no such subscription."""
        with translated_errors(self._path):
            self._require_topic()
            count: int | None = self._value(
                "SELECT (SELECT next_seq FROM topic) - next_seq + coalesce("
                "(SELECT sum(last - first + 1) FROM claim WHERE subscription = id), 0) "
                "FROM subscription WHERE id = ?",
                subscription,
            )
        return count

    def has_work(self, subscription: str) -> bool:
        """Tell, without writing, whether a claim may find anything."""
        now = time.monotonic()
        with translated_errors(self._path):
            self._require_topic()
            return bool(
                self._value(
                    "SELECT next_seq < (SELECT next_seq FROM topic) OR EXISTS ("
                    "SELECT 1 FROM claim WHERE subscription = id AND consumer IS NULL) "
                    "OR EXISTS (SELECT 1 FROM consumer WHERE NOT expires BETWEEN ? AND ?) "
                    "FROM subscription WHERE id = ?",
                    now,
                    now + LEASE_SECONDS,
                    subscription,
                )
            )

    # ------------------------------------------------------------------ consumers

    def doorbell(self, consumer: str) -> Doorbell:
        """Hang up a bell that rings when there may be work."""
        return Doorbell(self._bells, consumer)

    def join(self, subscription: str, consumer: str) -> None:
        """Register a consumer whose bell hangs, alive for `LEASE_SECONDS`."""
        with self._writing() as db:
            self._bury_the_dead(db)
            db.execute(
                "INSERT OR REPLACE INTO consumer VALUES (?, ?, ?)",
                (consumer, subscription, time.monotonic() + LEASE_SECONDS),
            )

    def renew(self, consumer: str) -> bool:
        """Live on for `LEASE_SECONDS`; False if others had given this consumer up for dead."""
        with self._writing() as db:
            self._bury_the_dead(db)
            return bool(
                db.execute(
                    "UPDATE consumer SET expires = ? WHERE id = ?",
                    (time.monotonic() + LEASE_SECONDS, consumer),
                ).rowcount
            )

    def leave(self, consumer: str) -> None:
        """Go, and free what this consumer holds."""
        with self._writing() as db:
            self._bury(db, consumer)
        ring(self._bells)

    def _bury_the_dead(self, db: sqlite3.Connection) -> None:
        # Monotonic time begins anew at boot: a time beyond one lease is from an earlier boot.
        # A process that was killed is known at once by its bell; a stopped one by its lease.
        now = time.monotonic()
        consumers = db.execute("SELECT id, expires FROM consumer").fetchall()
        for consumer, expires in consumers:
            if not now <= expires <= now + LEASE_SECONDS or not is_heard(self._bells, consumer):
                self._bury(db, consumer)

    @staticmethod
    def _bury(db: sqlite3.Connection, consumer: str) -> None:
        db.execute("UPDATE claim SET consumer = NULL WHERE consumer = ?", (consumer,))
        db.execute("DELETE FROM consumer WHERE id = ?", (consumer,))

    # ------------------------------------------------------------------ claiming

    def claim(
        self, subscription: str, consumer: str, max_messages: int, max_bytes: int
    ) -> list[StoredMessage] | None:
        """Take the oldest messages that nobody holds; None if this consumer was given up for dead.

        The messages are read after the transaction: nobody else can take them any more, and
        publishers need not wait for the reading.
        """
        with self._writing() as db:
            self._bury_the_dead(db)
            if not self._value("SELECT 1 FROM consumer WHERE id = ?", consumer):
                return None
            claims = Claims(db, subscription, consumer, max_messages, max_bytes)
            claims.take_free()
            claims.take_new()
        with translated_errors(self._path):
            return [message for each in claims.ranges() for message in self._read(*each)]

    def _read(self, first: int, last: int) -> list[StoredMessage]:
        rows = self._db.execute(
            "SELECT seq, id, publish_ms, key, attributes, data FROM message "
            "WHERE seq BETWEEN ? AND ? ORDER BY seq",
            (first, last),
        )
        return [StoredMessage(*row) for row in rows.fetchall()]

    # ------------------------------------------------------------------ settling

    def acknowledge(self, subscription: str, consumer: str, seqs: Sequence[int]) -> int:
        """Settle messages that this consumer holds; returns how many it did."""
        with self._writing() as db:
            settled = sum(
                carve(db, subscription, consumer, first, last, free=False)
                for first, last in runs(seqs)
            )
            self._purge(db)
            others_waited = self._value(
                "SELECT EXISTS (SELECT 1 FROM claim WHERE consumer IS NULL)"
            )
        if others_waited:  # for a key that this consumer held
            ring(self._bells)
        return settled

    def release(self, subscription: str, consumer: str, seqs: Sequence[int]) -> None:
        """Free messages that this consumer holds."""
        with self._writing() as db:
            for first, last in runs(seqs):
                carve(db, subscription, consumer, first, last, free=True)
        ring(self._bells)

    def _purge(self, db: sqlite3.Connection) -> None:
        done = self._value(
            "SELECT min(min(next_seq, coalesce("
            "(SELECT min(first) FROM claim WHERE subscription = id), next_seq))) FROM subscription"
        )
        if done - self._purged_at >= PURGE_EVERY or done == self._value(
            "SELECT next_seq FROM topic"
        ):
            db.execute("DELETE FROM message WHERE seq < ?", (done,))
            self._purged_at = done
