"""When a producer sends what fills no request yet: told by us, not by the client's clock.

An idempotent client sends nothing more to a partition while more than five messages are on their
way there. If the `linger.ms` of what waits has passed by then, or somebody flushes, its thread asks
again and again whether it may send (`rd_kafka_msgq_allow_wakeup_at` in librdkafka's `rdkafka_msg.c`
says "now"): that takes a whole core for as long as a broker needs to answer, and it may be the core
that the broker needs. So the client's own `linger.ms` never passes, and it is told to send by short
flushes with pauses between them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

# How long a flush is: time enough for the client's thread to see it (s).
FLUSH_SECONDS = 0.001
# The first pause after a flush that has not brought all confirmations, and the longest one (s).
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.002, 0.02
# How rarely is flushed where nothing is confirmed (s).
STUCK_SECONDS = 0.1
# The longest time that the client takes (ms).
LONGEST_LINGER_MS = 900_000


def without_a_clock(properties: Mapping[str, str]) -> dict[str, str]:
    """Return a producer's properties with which it sends only full requests, unless flushed."""
    # By default twice the time of `linger.ms`: messages without a key go to one partition so long.
    sticky_ms = min(LONGEST_LINGER_MS, 2 * float(properties["linger.ms"]))
    return {
        "sticky.partitioning.linger.ms": f"{sticky_ms:.0f}",
        **properties,
        "linger.ms": str(LONGEST_LINGER_MS),
    }


class Lingering:
    """When what nobody waits for is due to be sent."""

    def __init__(self, seconds: float) -> None:
        """Begin.

        Args:
            seconds: how long a message may wait for company.
        """
        self._seconds = self._pause = seconds
        self._unconfirmed = 0
        self.begin()

    def begin(self) -> None:
        """Note that nothing waits: what comes has its whole time."""
        self._pause = self._seconds
        self._unconfirmed = 0
        self._due = time.monotonic() + self._seconds

    @property
    def seconds_left(self) -> float:
        """How long nothing needs to be sent."""
        return max(0.0, self._due - time.monotonic())

    def flushed(self, unconfirmed: int) -> None:
        """Note that all was sent that could be, after which so many messages are unconfirmed."""
        if unconfirmed < self._unconfirmed:
            self._pause = self._seconds
        else:  # the brokers are behind
            self._pause = max(self._seconds, min(2 * self._pause + FLUSH_SECONDS, STUCK_SECONDS))
        self._unconfirmed = unconfirmed
        self._due = time.monotonic() + self._pause
