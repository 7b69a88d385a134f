"""Which consumers of a topic live: the table `consumer`, and the bells of their processes.

A process that was killed is known at once by its bell, a stopped one by its lease.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from MessageBroker.local.doorbell import is_heard

# A consumer that does not renew for so long is dead: others take its messages. Failover stays
# within 15 seconds, and there are three chances within a lease.
LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0


class Consumers:
    """The consumers of one topic. Used inside a transaction, but for `any_is_overdue`."""

    def __init__(self, bells: Path, clock: Callable[[], float]) -> None:
        """Look after no transaction of their own.

        Args:
            bells: the folder of their doorbells.
            clock: seconds, the same for all processes of this machine.
        """
        self._bells = bells
        self._clock = clock

    def any_is_overdue(self, db: sqlite3.Connection) -> bool:
        """Tell, without writing, whether the lease of any has ended."""
        now = self._clock()
        return bool(
            db.execute(
                "SELECT EXISTS (SELECT 1 FROM consumer WHERE NOT expires BETWEEN ? AND ?)",
                (now, now + LEASE_SECONDS),
            ).fetchone()[0]
        )

    def join(self, db: sqlite3.Connection, subscription: str, consumer: str) -> None:
        """Register a consumer whose bell hangs, alive for `LEASE_SECONDS`."""
        self.bury_the_dead(db)
        db.execute(
            "INSERT OR REPLACE INTO consumer VALUES (?, ?, ?)",
            (consumer, subscription, self._clock() + LEASE_SECONDS),
        )

    def renew(self, db: sqlite3.Connection, consumer: str) -> bool:
        """Live on for `LEASE_SECONDS`; False if others had given this consumer up for dead."""
        self.bury_the_dead(db, consumer)
        expires = self._clock() + LEASE_SECONDS
        renewed = db.execute("UPDATE consumer SET expires = ? WHERE id = ?", (expires, consumer))
        return bool(renewed.rowcount)

    def bury_the_dead(self, db: sqlite3.Connection, living: str = "") -> bool:
        """Free what dead consumers hold. `living` is the one that asks, and so is not dead.

        Returns False if others have given up that one.

        If `living` itself comes late by a whole renewal, and is still here, then all were kept
        from renewing (a full disk, a locked file, a machine that swaps): all get a new lease.
        """
        # Monotonic time begins anew at boot: a time beyond one lease is from an earlier boot.
        now = self._clock()
        leases = dict(db.execute("SELECT id, expires FROM consumer").fetchall())
        own = leases.pop(living, None)
        stalled = own is not None and own < now + LEASE_SECONDS - 2 * RENEW_SECONDS
        for consumer, expires in leases.items():
            in_time = now <= expires <= now + LEASE_SECONDS
            if not (in_time or stalled) or not is_heard(self._bells, consumer):
                self.bury(db, consumer)
        if stalled:
            db.execute("UPDATE consumer SET expires = ?", (now + LEASE_SECONDS,))
        return own is not None

    @staticmethod
    def bury(db: sqlite3.Connection, consumer: str) -> None:
        """Free what a consumer holds, and forget it."""
        db.execute("UPDATE claim SET consumer = NULL WHERE consumer = ?", (consumer,))
        db.execute("DELETE FROM consumer WHERE id = ?", (consumer,))
