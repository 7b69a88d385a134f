"""The timestamp that a published record has in its topic: it is part of the message's id."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.kafka.cluster import Cluster
from MessageBroker.kafka.records import KafkaRecord

# By more than this a clock does not drift: it was set back. Until then what was confirmed is still
# to be told by the latest time that was given (ms).
SET_BACK_MS = 60_000
# What a confirmation waits for to know who gave its time: the broker has just answered (s).
LOOK_UP_SECONDS = 1.0


class RecordTimes:
    """Tells the timestamps of records that a broker confirmed. For any thread.

    A broker that gets a batch again, because its first confirmation was lost or late, recognizes
    it, and answers as a topic of `message.timestamp.type=LogAppendTime` does: with one time for all
    of the batch, the latest in it (`duplicate.timestamp` in Kafka's `UnifiedLog.append`). The
    client believes that of each record; consumers see the record's own.
    """

    def __init__(self, gives_times: Callable[[str], bool]) -> None:
        """Begin with no topic known.

        Args:
            gives_times: asks whether a topic gives the times itself: only where what it confirms
                first does not show that.
        """
        self._gives_times = gives_times
        self._latest = 0
        self._of_clients: set[str] = set()  # topics that keep the times which clients give
        self._of_brokers: set[str] = set()  # topics that give them, or of which it is not known

    def begin(self) -> int:
        """Return the time to give to the records that are produced now (ms since 1970).

        It goes back where the system's clock is set back: one that was hours ahead would be ahead
        for as long, and a broker refuses records from so far in the future.
        """
        now = time.time_ns() // 1_000_000
        self._latest = now if now < self._latest - SET_BACK_MS else max(self._latest, now)
        return now

    def of(self, topic: str, given: int, confirmed: KafkaRecord) -> int:
        """Return the timestamp of a record in its topic (ms since 1970).

        Args:
            topic: its topic.
            given: the time that it was given, see `begin`.
            confirmed: the record, as the client hands it back.
        """
        kind, told = confirmed.timestamp()
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            self._of_clients.add(topic)
            self._of_brokers.discard(topic)
            return told
        if topic not in self._of_clients and topic not in self._of_brokers:
            known = self._of_brokers if self._gives_times(topic) else self._of_clients
            known.add(topic)
        # The topic may be set to the other type while it is in use: its times are soon later than
        # any that was given.
        if topic in self._of_clients:
            if given <= told <= self._latest:
                return given
            self._of_clients.discard(topic)
        return told


def broker_gives_times(cluster: Cluster, topic: str) -> bool:
    """Ask whether a topic gives its records their times; True too where that cannot be learned."""
    setting = "message.timestamp.type"
    with contextlib.suppress(BrokerUnavailableError):
        found = cluster.setting_of_topics(setting, [topic], LOOK_UP_SECONDS)
        return found.get(topic) != "CreateTime"
    return True
