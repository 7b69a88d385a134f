"""Clients that hear of no broker any more, though there is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

from MessageBroker.kafka.errors import error_of, is_outage

# After so long without an answer the client is asked (s), how long it may take (a consumer's is
# behind fetches, which wait for half a second), and how often it has to fail.
INTERVAL_SECONDS = 5.0
TIMEOUT_SECONDS = 5.0
FAILURES = 2


def let_go(close: Callable[[], object]) -> None:
    """Close a client that hears of no broker, beside those who go on: it may take very long.

    Args:
        close: closes it.
    """
    threading.Thread(target=close, name="closing a deaf client", daemon=True).start()


class Hearing:
    """Finds out whether one client is deaf, while others show that the brokers are there.

    A cluster of one node that is starved, or just back from a freeze, may tell that it has no
    broker. A client then lets the only one go that it knew, to begin with `bootstrap.servers`
    again. But where the news that its last connection ended comes while it still reads that answer,
    it takes this back when it has read it, and never tries again
    (`rd_kafka_rebootstrap_tmr_stop` in `rdkafka_request.c` of librdkafka 2.16).

    Attributes:
        is_deaf: it never will hear of one.
    """

    def __init__(self, ask: Callable[[float], object]) -> None:
        """Begin as if it had just heard.

        Args:
            ask: has the client ask a broker for anything, within so many seconds; a
                `KafkaException` says what came of it.
        """
        self._ask = ask
        self.heard()

    def heard(self) -> None:
        """Note an answer of a broker."""
        self.is_deaf = self._others_heard = False
        self._last_answer = time.monotonic()
        self._failures = 0

    def missed(self) -> None:
        """Note that others hear nothing either: it may be none of the client's fault."""
        self._others_heard = False
        self._failures = 0
        self._last_answer = time.monotonic()  # asked again after a while

    def others_heard(self) -> None:
        """Note that others have just heard of a broker: the client is asked, if that is due."""
        self._others_heard = True

    @property
    def is_due(self) -> bool:
        """Whether its last answer is so long ago that it should be asked."""
        return time.monotonic() - self._last_answer > INTERVAL_SECONDS

    def look(self) -> None:
        """Ask the client, if that is due. Called where nobody can close it meanwhile.

        One that was found deaf is asked no more: somebody may be closing it.
        """
        if self.is_deaf or not self._others_heard or not self.is_due:
            return
        self._others_heard = False  # they are to hear again before it is asked again
        try:
            self._ask(TIMEOUT_SECONDS)
        except KafkaException as exception:
            if is_outage(error_of(exception)):
                self._failures += 1
                self.is_deaf = self._failures >= FAILURES
                return
        self.heard()  # a refusal is an answer, too
