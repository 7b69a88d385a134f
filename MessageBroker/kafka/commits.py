"""Whether a group is told how far it is: its client commits by itself, and nobody waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, TopicPartition

from MessageBroker.kafka.errors import meaning_of
from MessageBroker.kafka.events import ClientEvents

logger = logging.getLogger(__name__)

# Where the group is dealt anew, or its coordinator moves, commits fail for a while (s).
PATIENCE_SECONDS = 15.0


class Commits:
    """Tells, once, that what is acknowledged does not reach the group, and once that it does again.

    Messages flow on meanwhile. But all of them come again to whoever consumes after this process.
    """

    def __init__(self, where: str, events: ClientEvents) -> None:
        """Begin as if the last commit had been made.

        Args:
            where: the cluster, the topic and the group.
            events: an outage is told already.
        """
        self._where = where
        self._events = events
        self._failing_since: float | None = None
        self._is_told = False

    def heard(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """Take what the client says of a commit, in whichever thread polls it.

        Args:
            error: of all of it.
            partitions: those that were to be committed, each with an error of its own.
        """
        failures = [error, *(each.error for each in partitions)]
        failed = next((each for each in failures if each is not None), None)
        if failed is None:
            if self._is_told:
                logger.info("%s: offsets are committed again", self._where)
            self._failing_since, self._is_told = None, False
            return
        now = time.monotonic()
        if self._failing_since is None or self._events.away:
            self._failing_since = now
        lasts = now - self._failing_since
        if lasts > PATIENCE_SECONDS and not self._is_told:
            self._is_told = True
            logger.error(
                "%s: no offset was committed for %.0f s (%s): what is acknowledged meanwhile comes "
                "again after a restart: check that the cluster can write its topic "
                "__consumer_offsets",
                self._where,
                lasts,
                meaning_of(failed),
            )
