"""One consumer of a group: what it was assigned, what it fetched, how far that is acknowledged.

The client keeps the membership alive by itself, but tells of changes in the assignment only when
it is polled. While the application works on a batch, `renew` polls; a message that such a poll
brings waits in `_fetched`, and when some wait there, the partitions are paused until the next
fetch.

`_polling` is held around every call that may run the client's callbacks, so that messages keep
their order.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.core.driver import Stream
from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.assignment import Assignment
from MessageBroker.kafka.buffer import RecordBuffer
from MessageBroker.kafka.errors import MISSING_TOPIC, error_of, is_outage
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.liveness import Probe, Standstill
from MessageBroker.kafka.settings import KafkaSettings
from MessageBroker.kafka.start_offsets import MemberPositions
from MessageBroker.message import Delivery, Message

logger = logging.getLogger(__name__)

# A consumer that did not fetch for this long is at work: `renew` polls for it (s).
AT_WORK_SECONDS = 1.0
# So many messages may wait for an application at work before its partitions are paused.
MAX_WAITING = 16
# Joining a group takes 0.2 s, 3 s on a new cluster, and 6 s more where a member has just died (s).
JOIN_TIMEOUT_SECONDS = 30.0
JOIN_POLL_SECONDS = 0.05
# How soon to try again to start a partition that had no leader, say (s).
START_RETRY_SECONDS = 1.0
# What leaving may take before the broker counts as away (s).
LEAVE_TIMEOUT_SECONDS = 5.0

# The group has counted this consumer as dead.
EXPELLED = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._STATE,
    }
)


class KafkaStream(Stream):
    """A member of a consumer group that shares one topic."""

    def __init__(
        self,
        topic: str,
        topic_id: str,
        group: str,
        settings: KafkaSettings,
        admin: KafkaAdmin,
        from_the_beginning: bool,
    ) -> None:
        """Prepare; `join` connects.

        Args:
            topic: an existing topic.
            topic_id: which one of its name it is.
            group: the consumer group.
            settings: the clients' properties.
            admin: asks for the ends of partitions.
            from_the_beginning: where the group starts in a partition in which it has no position
                yet.
        """
        self._topic = topic
        self._group = group
        self._admin = admin
        self._where = f"Kafka at {settings.servers}: topic {topic!r}, group {group!r}"
        self._events = ClientEvents(settings)
        self._polling = threading.Lock()
        self._assignment = Assignment()
        self._unstarted: set[int] = set()  # assigned, and it is not known yet where to go on
        self._fetched = RecordBuffer(topic)
        self._revoked_while_fetching: set[int] = set()
        self._paused: set[int] = set()
        self._member = False
        self._must_rejoin = False
        self._failure: BrokerError | None = None
        self._last_fetch = self._last_start = time.monotonic()
        # Half a session: the group may have had no sign of life for a while before the stop.
        self._standstill = Standstill(settings.session_seconds / 2, self._ask_the_group)
        self._probe = Probe(admin, topic, topic_id, self._events)
        self.on_lost = lambda _deliveries: None
        try:
            self._client = Consumer({**settings.for_consumer(group), **self._events.callbacks()})
        except KafkaException as error:
            raise settings.refused(error) from None
        self._positions = MemberPositions(
            self._client,
            self._events,
            admin,
            topic,
            topic_id,
            group,
            self._where,
            from_the_beginning,
        )

    # ------------------------------------------------------------------ joining and leaving

    def join(self, partitions: Sequence[int]) -> None:
        """Join the group; return once it has a position in each of `partitions`.

        Raises:
            ConfigurationError: the group consumes another topic.
            BrokerError: it could not join.
        """
        if not self._positions.read(partitions, joined=False):
            self._positions.require_new_group()
        self._subscribe()
        deadline = time.monotonic() + JOIN_TIMEOUT_SECONDS
        while not (self._member and self._has_positions(partitions)):
            with self._polling:
                self._mend_membership()
                self._collect(1, 1, JOIN_POLL_SECONDS)
            if self._failure is not None:
                raise self._failure
            if time.monotonic() >= deadline:
                raise BrokerUnavailableError(
                    f"{self._where}: the group was not joined within {JOIN_TIMEOUT_SECONDS:g} s: "
                    "check that the group's other consumers and the brokers are alive"
                )

    def _has_positions(self, partitions: Sequence[int]) -> bool:
        """Tell whether the group has a position everywhere: others may be about to commit it."""
        if set(partitions) <= set(self._assignment):
            return True
        return set(partitions) <= set(self._positions.read(partitions))

    def _subscribe(self) -> None:
        self._client.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        # The group counts all of them as ours, so none may be forgotten: one without a leader, say,
        # is tried again, while the others flow.
        self._unstarted.update(each.partition for each in partitions)
        starts = self._find_starts()
        client.incremental_assign(starts)  # also if empty: the client would take all of them
        self._begin_at(starts)
        self._member = True

    def _find_starts(self) -> list[TopicPartition]:
        """Find out where to begin in the assigned partitions; leave out what cannot be told yet."""
        self._last_start = time.monotonic()
        try:
            starts = self._positions.starts(sorted(self._unstarted))
        except BrokerUnavailableError as error:
            logger.debug("%s: not started yet: %s", self._where, error)
            return []
        except BrokerError as error:
            self._failure = error
            return []
        return [TopicPartition(self._topic, each, offset) for each, offset in starts.items()]

    def _begin_at(self, starts: Sequence[TopicPartition]) -> None:
        self._unstarted.difference_update(each.partition for each in starts)
        self._assignment.begin({start.partition: start.offset for start in starts})

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions go to another consumer, or the group counted this one as dead."""
        self._store_moved()  # the client commits it before it lets the partitions go
        gone = {each.partition for each in partitions}
        self._revoked_while_fetching |= gone
        self._fetched.drop(gone)
        self._unstarted -= gone
        self._paused -= gone
        self._lose(gone)
        # One that was never started is none of the client's, and it takes back only its own.
        client.incremental_unassign(
            [each for each in client.assignment() if each.partition in gone]
        )

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._member = False  # until the group has dealt us partitions again
        self._on_revoke(client, partitions)

    def _lose(self, partitions: Collection[int]) -> None:
        lost = self._assignment.lose(partitions)
        if lost:
            self.on_lost(lost)

    # ------------------------------------------------------------------ fetching

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """See `Stream.fetch`."""
        try:
            return self._fetch(max_messages, max_bytes, timeout)
        except BrokerError:
            raise
        except BaseException:
            # A Ctrl-C, or a signal's handler: what was just taken from the client may be with
            # nobody now, and acks of what comes behind it would skip it.
            self._start_over()
            raise

    def _fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        self._standstill.notice()
        if self._events.topic_missed:
            self._probe.require_topic(self._where)
        with self._polling:
            self._mend_membership()
            if self._paused:
                self._resume()
            self._store_moved()
            room = self._fetched.room_for(max_messages)
            if room:
                self._collect(room, max_bytes, 0 if self._fetched else timeout)
            self._last_fetch = time.monotonic()
            messages = self._fetched.hand_out(
                self._assignment.trackers,
                max_messages,
                max_bytes,
                deliver=self._assignment.deliver,
                note=self._note,
            )
        if messages:
            self._probe.answered()
            return messages
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        refusal = self._events.refusal(self._where)
        if refusal is not None:
            raise refusal
        if self._events.away:
            raise self._events.unavailable()
        return messages

    def _collect(self, limit: int, max_bytes: int, timeout: float) -> None:
        """Take what the client has; wait for the first for up to `timeout` seconds."""
        self._revoked_while_fetching.clear()
        try:
            # `consume` waits for all that it was asked for, `poll` for one.
            records = self._fetched.take(self._client, limit, max_bytes)
            if not records and timeout > 0:
                first = self._client.poll(timeout)
                if first is not None:
                    more = self._fetched.take(self._client, limit - 1, max_bytes)
                    records = [first, *more]
        except KafkaException as exception:
            self._failure = self._events.explain(error_of(exception), self._where)
            return
        if self._revoked_while_fetching:
            records = self._without_revoked(records)
        self._fetched.add(records)

    def _without_revoked(self, records: list[Any]) -> list[Any]:
        """Drop what was fetched together with the news that its partition is gone.

        If the partition came back in the same moment, it is read anew from its start: nobody can
        tell which of its records belong to which assignment.
        """
        gone = set(self._revoked_while_fetching)
        for partition, offset in self._assignment.next_offsets(gone).items():
            try:
                self._client.seek(TopicPartition(self._topic, partition, offset))
            except KafkaException as exception:  # the client is taking it away once more
                logger.debug("%s: %s", self._where, error_of(exception))
        return [each for each in records if each.partition() not in gone]

    def _note(self, error: KafkaError) -> None:
        """Keep an error that came in place of a message, for the next fetch to raise."""
        if error.code() in MISSING_TOPIC:
            self._events.topic_missed = True
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED or is_outage(error):
            logger.debug("%s: %s", self._where, error)
        else:
            self._failure = self._events.explain(error, self._where)

    def _pause(self) -> None:
        """Let the client fetch nothing more, from partitions that have come since either."""
        more = [each for each in self._client.assignment() if each.partition not in self._paused]
        if more:
            self._client.pause(more)
            self._paused.update(each.partition for each in more)

    def _resume(self) -> None:
        assigned = self._client.assignment()
        self._client.resume([each for each in assigned if each.partition in self._paused])
        self._paused.clear()

    def _mend_membership(self) -> None:
        if self._must_rejoin:
            # The partitions are dealt out anew.
            self._must_rejoin = self._member = False
            self._client.unsubscribe()
            self._subscribe()
        self._start_the_rest()

    def _start_the_rest(self) -> None:
        """Try again to begin with partitions for which that was not possible at once."""
        if not self._unstarted or time.monotonic() - self._last_start < START_RETRY_SECONDS:
            return
        starts = self._find_starts()
        if starts:
            self._client.incremental_assign(starts)
            self._begin_at(starts)

    # ------------------------------------------------------------------ settling

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """See `Stream.acknowledge`. While the broker is away the client keeps the offsets."""
        self._standstill.notice()
        return self._assignment.acknowledge(deliveries)

    def _store_moved(self) -> None:
        """Tell the client how far to commit; it does so within `auto.commit.interval.ms`.

        Called where `_polling` is held, never by the acknowledging thread: the client lets in one
        thread at a time, and not in turn. Beside one that polls all the time another waits for
        ever.
        """
        moved = self._assignment.take_moved()
        if not moved:
            return
        offsets = {each.partition: position for each, position in moved.items()}
        try:
            self._client.store_offsets(offsets=self._positions.to_commit(offsets))
        except KafkaException as exception:
            # The client may have taken a partition away and be about to tell us; the others' acks
            # are kept for the next time.
            logger.debug("%s: offsets were not stored: %s", self._where, error_of(exception))
            self._assignment.put_back(moved)
            return
        for tracker, position in moved.items():
            tracker.stored = position

    def renew(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all are renewed
        """Serve the group while the application is at work, and look whether the broker lives."""
        self._standstill.notice()
        if self._polling.acquire(blocking=False):
            try:
                self._store_moved()
                if time.monotonic() - self._last_fetch > AT_WORK_SECONDS:
                    self._serve()
            finally:
                self._polling.release()
        self._probe.look()

    def _serve(self) -> None:
        self._start_the_rest()
        if len(self._fetched) >= MAX_WAITING:
            self._pause()
        self._collect(1, 1, 0)

    def _ask_the_group(self) -> None:
        """Find out whether it still counts this consumer, and lose all that was assigned if not."""
        if self._assignment and self._was_expelled():
            self._start_over()

    def _start_over(self) -> None:
        """Give up all partitions; the next fetch joins the group anew."""
        self._must_rejoin = True
        self._lose(list(self._assignment))

    def _was_expelled(self) -> bool:
        error = self._positions.commit(self._assignment.stored())
        return error is not None and error.code() in EXPELLED

    def release(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all go
        """Leave the group: Kafka gives back whole partitions, not single messages.

        The next fetch joins again. So an application that hangs keeps nothing, and one that only
        forgot a message gets it again, or another consumer does.
        """
        with self._polling:
            self._store_moved()
            self._client.unsubscribe()
            self._must_rejoin = True
            deadline = time.monotonic() + LEAVE_TIMEOUT_SECONDS
            while self._assignment and time.monotonic() < deadline:
                self._collect(1, 1, JOIN_POLL_SECONDS)

    @property
    def ready(self) -> bool:
        """See `Stream.ready`."""
        all_started = self._member and not self._must_rejoin and not self._unstarted
        return all_started and not self._events.away

    def close(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all go
        """Commit, and leave the group, so that others have the partitions at once."""
        # A frozen broker would hold the client for a minute; the session ends by itself then.
        leaving = threading.Thread(target=self._leave, name="leaving a group", daemon=True)
        leaving.start()
        leaving.join(LEAVE_TIMEOUT_SECONDS)

    def _leave(self) -> None:
        with self._polling:
            self._store_moved()
            self._client.close()
