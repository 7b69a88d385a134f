"""The timestamp that a published record has in its topic: it is part of the message's id."""

from __future__ import annotations

import time

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from MessageBroker.kafka.records import Record


class RecordTimes:
    """Tells the timestamps of records that a broker confirmed. For any thread.

    A broker that gets a batch again, because its first confirmation was lost or late, recognizes
    it, and answers as a topic of `message.timestamp.type=LogAppendTime` does: with one time for all
    of the batch, the latest in it (`duplicate.timestamp` in Kafka's `UnifiedLog.append`). The
    client believes that of each record; consumers see the record's own.
    """

    def __init__(self) -> None:
        self._latest = 0
        self._of_clients: set[str] = set()  # topics that keep the times which clients give

    def begin(self) -> int:
        """Return the time to give to the records that are produced now (ms since 1970)."""
        self._latest = max(self._latest, time.time_ns() // 1_000_000)
        return self._latest

    def of(self, topic: str, given: int, confirmed: Record) -> int:
        """Return the timestamp of a record in its topic (ms since 1970).

        Args:
            topic: its topic.
            given: the time that it was given, see `begin`.
            confirmed: the record, as the client hands it back.
        """
        kind, told = confirmed.timestamp()
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            self._of_clients.add(topic)
            return told
        # The topic may be set to the other type while it is in use: its times are soon later than
        # any that was given. A topic that has not confirmed anything in the usual way yet is
        # believed: it may be of the other type from its start.
        if topic in self._of_clients:
            if given <= told <= self._latest:
                return given
            self._of_clients.discard(topic)
        return told
