"""An outage: one line when the broker goes, one when it is back, whoever of a process waits."""

from __future__ import annotations

import logging
import threading

from MessageBroker.errors import BrokerError

logger = logging.getLogger(__name__)


class Outage:
    """Who waits for a broker that is away: publishers and consumers of one handler.

    It begins with the first who finds the broker away, and ends when nobody waits any more. So one
    topic that is locked does not seem to be back whenever another is written.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[object] = set()

    def affects(self, waiter: object) -> bool:
        """Tell whether this one waits."""
        return waiter in self._waiting

    def begin(self, waiter: object, error: BrokerError) -> None:
        """Somebody waits from now on; said if nobody did. Twice is fine.

        Args:
            waiter: a publisher or a consumer, by its identity.
            error: what was tried and where, and what to do.
        """
        with self._lock:
            if not self._waiting:
                logger.warning("%s; waiting for it", error)
            self._waiting.add(waiter)

    def end(self, waiter: object) -> None:
        """Note that the broker has answered somebody; said if nobody waits. Cheap if none did."""
        if waiter not in self._waiting:
            return
        with self._lock:
            self._waiting.discard(waiter)
            if not self._waiting:
                logger.info("the broker is back; all goes on where it was")

    def leave(self, waiter: object) -> None:
        """Somebody is closed, and waits no more. That says nothing about the broker."""
        with self._lock:
            self._waiting.discard(waiter)
