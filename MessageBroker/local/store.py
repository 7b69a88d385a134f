"""One topic of the embedded broker: a SQLite file that several processes use at once.

A topic is a log of messages under consecutive sequence numbers (see `local.log`). `subscription`
holds how far each subscription has given them out (`next_seq`), and `claim` what was given out and
is not yet acknowledged, as ranges: a batch of 256 messages costs one row, not 256. Keyed messages
have a row each, because a key is held by one consumer at a time. So for every subscription

    acknowledged = below next_seq, and in no claim.

A claim without a consumer is free: it was given back, or its consumer died, or (keyed) another
consumer holds earlier messages of its key. A consumer lives as long as it renews its row. Batches
below what every subscription has acknowledged are deleted.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from MessageBroker.errors import topic_not_found
from MessageBroker.local.claims import Claims, runs, split_claim
from MessageBroker.local.consumers import Consumers
from MessageBroker.local.database import LocalDatabase
from MessageBroker.local.doorbell import Doorbell, knock, ring
from MessageBroker.local.log import LOG_SCHEMA, Log, NewMessage
from MessageBroker.local.upgrade import HAS_OLD_TABLE, upgrade
from MessageBroker.local.whats_there import require_folder
from MessageBroker.message import Message

# Acknowledged rows are deleted so many at a time, to spread the cost.
PURGE_EVERY = 1024
# Consumers are asleep, as a rule, if nothing was appended for so long.
IDLE_SECONDS = 0.005
# Claims of so many bytes are read in their transaction: it takes as long as a transaction more.
FEW_BYTES = 65_536

SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (next_seq INTEGER NOT NULL, deleted INTEGER NOT NULL);
INSERT INTO topic SELECT 1, 0 WHERE NOT EXISTS (SELECT 1 FROM topic);
CREATE TABLE IF NOT EXISTS subscription (
    id TEXT PRIMARY KEY, next_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer (
    id TEXT PRIMARY KEY, subscription TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claim (
    subscription TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    key TEXT, consumer TEXT, PRIMARY KEY (subscription, first)) WITHOUT ROWID;
"""


class Claimed(NamedTuple):
    """What was claimed: nobody else can take it any more.

    Attributes:
        ranges: of sequence numbers.
        messages: what they are; None if that is to be read after the transaction, so that
            publishers need not wait for it.
    """

    ranges: list[tuple[int, int]]
    messages: list[Message] | None


class TopicStore:
    """One connection to a topic's file. For one thread at a time; open another for another."""

    def __init__(
        self,
        path: Path,
        topic: str,
        schema: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        synced: bool = True,
    ) -> None:
        """Open the file, which `make` has made.

        Args:
            path: the file.
            topic: whose it is.
            schema: makes what is missing; None if all must be there.
            clock: seconds, the same for all processes of this machine.
            synced: whether each transaction is on the disk when it has ended. What a consumer
                claims and acknowledges a power loss may undo: then it comes again.

        Raises:
            BrokerUnavailableError, BrokerReplacedError, ConfigurationError: it cannot be opened.
        """
        self.topic = topic
        self.path = path
        self._log = Log(topic)
        self._purged_at = 0
        self._end = 0  # of the log, as this connection wrote it
        self._clock = clock
        self._appended_at = -math.inf
        self._bells = path.with_suffix(".bells")
        self._consumers = Consumers(self._bells, clock)
        self._database = LocalDatabase(path, schema, synced=synced)
        self._value = self._database.value
        with contextlib.ExitStack() as opened:
            opened.callback(self._database.close)
            require_folder(self._bells)
            with self._database.reading():
                is_old = self._value(HAS_OLD_TABLE)
            if is_old:
                with self._database.writing() as db:
                    upgrade(db)
            opened.pop_all()

    @classmethod
    def make(
        cls, path: Path, topic: str, clock: Callable[[], float] = time.monotonic
    ) -> TopicStore:
        """Make the file, or what is missing of it, and open it."""
        return cls(path, topic, LOG_SCHEMA + SCHEMA, clock)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._database.reading() as db:
            self._require_topic()
            yield db

    @contextlib.contextmanager
    def _writing(
        self, patience: float | None = None, *, confirms: bool = True
    ) -> Iterator[sqlite3.Connection]:
        with self._database.writing(patience, confirms=confirms) as db:
            self._require_topic()
            yield db

    def _require_topic(self) -> None:
        if self._value("SELECT deleted FROM topic"):
            raise topic_not_found(f"local broker: the topic {self.topic!r} was deleted", self.topic)
        self._database.require_there()

    def require_writable(self, patience: float) -> None:
        """Make sure that the topic can be written to, without writing anything.

        Args:
            patience: see `LocalDatabase.writing`.

        Raises:
            TopicNotFoundError, BrokerError: it cannot; see `LocalDatabase.writing`.
        """
        with self._writing(patience):
            pass

    # ------------------------------------------------------------------ publishing

    def append(self, messages: Sequence[NewMessage]) -> None:
        """Append messages, durable when it returns, however the file was opened.

        Consumers have them earlier, while the disk writes. A power loss in between takes them,
        with all that was claimed and acknowledged of them: nobody was told that they are there.
        """
        if self._clock() - self._appended_at > IDLE_SECONDS:
            knock(self._bells)
        with self._writing() as db:
            first = self._value("SELECT next_seq FROM topic")
            if first < self._end:
                raise self._database.replaced(self._database.path, "went back to an older state")
            self._log.append(db, first, time.time_ns() // 1_000_000, messages)
            db.execute("UPDATE topic SET next_seq = ?", (first + len(messages),))
        self._end = first + len(messages)
        self._appended_at = self._clock()
        ring(self._bells)
        self._database.sync()

    def next_seq(self) -> int:
        """Tell which number the next message gets: all that stand in the topic have lower ones."""
        with self._reading():
            number: int = self._value("SELECT next_seq FROM topic")
        return number

    def mark_deleted(self, patience: float | None = None) -> None:
        """Tell every process that has the file open that the topic is gone; twice is fine.

        Args:
            patience: see `LocalDatabase.writing`.
        """
        with self._database.writing(patience) as db:
            db.execute("UPDATE topic SET deleted = 1")
        ring(self._bells)

    def is_deleted(self) -> bool:
        """Tell whether `mark_deleted` was called."""
        with self._database.reading():
            return bool(self._value("SELECT deleted FROM topic"))

    def was_used(self) -> bool:
        """Tell whether anything was ever published to it."""
        with self._database.reading():
            return bool(self._value("SELECT next_seq > 1 FROM topic"))

    # ------------------------------------------------------------------ subscriptions

    def add_subscription(
        self, subscription: str, *, from_start: bool, patience: float | None = None
    ) -> None:
        """Create a subscription unless it is there.

        Args:
            subscription: its id.
            from_start: whether it gets what is still stored, or only what comes from now on.
            patience: see `LocalDatabase.writing`.
        """
        start = "coalesce((SELECT min(first) FROM batch), next_seq)" if from_start else "next_seq"
        with self._writing(patience) as db:
            db.execute(
                f"INSERT OR IGNORE INTO subscription SELECT ?, {start} FROM topic",  # noqa: S608
                (subscription,),
            )

    def remove_subscription(self, subscription: str, patience: float | None = None) -> None:
        """Delete a subscription, and what it alone had not acknowledged yet.

        Args:
            subscription: its id.
            patience: see `LocalDatabase.writing`.
        """
        with self._writing(patience) as db:
            db.execute("DELETE FROM claim WHERE subscription = ?", (subscription,))
            db.execute("DELETE FROM subscription WHERE id = ?", (subscription,))
            self._purge(db)

    def backlog(self, subscription: str) -> int | None:
        """Count what is not acknowledged; None where there is no such subscription."""
        with self._reading():
            count: int | None = self._value(
                "SELECT (SELECT next_seq FROM topic) - next_seq + coalesce("
                "(SELECT sum(last - first + 1) FROM claim WHERE subscription = id), 0) "
                "FROM subscription WHERE id = ?",
                subscription,
            )
        return count

    def has_work(self, subscription: str) -> bool:
        """Tell, without writing, whether a claim may find anything."""
        with self._reading() as db:
            is_left = self._value(
                "SELECT next_seq < (SELECT next_seq FROM topic) OR EXISTS ("
                "SELECT 1 FROM claim WHERE subscription = id AND consumer IS NULL) "
                "FROM subscription WHERE id = ?",
                subscription,
            )
            # A subscription that is gone has none.
            return bool(is_left or (is_left is not None and self._consumers.any_is_overdue(db)))

    # ------------------------------------------------------------------ consumers

    def doorbell(self, consumer: str) -> Doorbell:
        """Hang up a bell that rings when there may be work."""
        with self._reading():
            return Doorbell(self._bells, consumer)

    def hang_again(self, bell: Doorbell) -> None:
        """Hang up a bell that may have been taken down."""
        with self._reading():
            bell.hang_again()

    def keep_hung(self, bell: Doorbell) -> None:
        """Hang up a bell that others cannot find."""
        with self._reading():
            if not bell.hangs:
                bell.hang_again()

    def join(self, subscription: str, consumer: str, patience: float | None = None) -> None:
        """See `Consumers.join`, and `LocalDatabase.writing` for the patience."""
        with self._writing(patience) as db:
            self._consumers.join(db, subscription, consumer)

    def renew(self, consumer: str, patience: float | None = None) -> bool:
        """See `Consumers.renew`, and `LocalDatabase.writing` for the patience."""
        with self._writing(patience) as db:
            return self._consumers.renew(db, consumer)

    def leave(self, consumer: str) -> None:
        """Go, and free what this consumer holds."""
        with self._writing() as db:
            self._consumers.bury(db, consumer)
        ring(self._bells)

    # ------------------------------------------------------------------ claiming

    def claim(
        self,
        subscription: str,
        consumer: str,
        max_messages: int,
        max_bytes: int,
        patience: float | None = None,
    ) -> Claimed | None:
        """Take the oldest messages that nobody holds; None if this consumer was given up for dead.

        It confirms nothing: what becomes of the files meanwhile is seen at the acknowledgement.

        Args:
            subscription: an existing one.
            consumer: who takes them.
            max_messages: at most so many.
            max_bytes: at how many bytes of data no more are taken.
            patience: see `LocalDatabase.writing`.
        """
        with self._writing(patience, confirms=False) as db:
            if not self._consumers.bury_the_dead(db, consumer):
                return None
            claims = Claims(db, self._log, subscription, consumer, max_messages, max_bytes)
            claims.take_free()
            claims.take_new()
            ranges = claims.ranges()
            return Claimed(ranges, self._read(db, ranges) if claims.size <= FEW_BYTES else None)

    def read(self, claimed: Claimed) -> list[Message]:
        """Read messages that were claimed; the handle of each is its sequence number."""
        if claimed.messages is not None:
            return claimed.messages
        with self._database.reading() as db:  # whatever becomes of the topic: they are claimed
            return self._read(db, claimed.ranges)

    def _read(self, db: sqlite3.Connection, ranges: Sequence[tuple[int, int]]) -> list[Message]:
        return [message for low, high in ranges for message in self._log.messages(db, low, high)]

    # ------------------------------------------------------------------ settling

    def acknowledge(
        self,
        subscription: str,
        consumer: str,
        seqs: Sequence[int],
        patience: float | None = None,
    ) -> int:
        """Settle messages that this consumer holds; returns how many it did.

        See `LocalDatabase.writing` for the patience.
        """
        with self._writing(patience) as db:
            settled = sum(
                split_claim(db, subscription, consumer, first, last, free=False)
                for first, last in runs(seqs)
            )
            assert settled <= len(seqs), "no message is settled twice"
            self._purge(db)
            others_waited = self._value(
                "SELECT EXISTS (SELECT 1 FROM claim WHERE consumer IS NULL)"
            )
        if others_waited:  # for a key that this consumer held
            ring(self._bells)
        return settled

    def release(
        self,
        subscription: str,
        consumer: str,
        seqs: Sequence[int],
        patience: float | None = None,
    ) -> None:
        """Free messages that this consumer holds; see `LocalDatabase.writing` for the patience."""
        with self._writing(patience) as db:
            for first, last in runs(seqs):
                split_claim(db, subscription, consumer, first, last, free=True)
        ring(self._bells)

    def _purge(self, db: sqlite3.Connection) -> None:
        done = self._value(
            "SELECT min(min(next_seq, coalesce("
            "(SELECT min(first) FROM claim WHERE subscription = id), next_seq))) FROM subscription"
        )
        if done is None:  # nobody is subscribed
            return
        if done - self._purged_at >= PURGE_EVERY or done == self._value(
            "SELECT next_seq FROM topic"
        ):
            self._log.delete_before(db, done)
            self._purged_at = done
