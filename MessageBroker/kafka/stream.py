"""One consumer of a group: what it fetches, and how far that is acknowledged.

While the application works on a batch, `renew` polls the client for its group's sake; a message
that such a poll brings waits in the buffer, and when some wait there, the partitions are paused
until the next fetch (`pauses`).

`_polling` is held around every call that may run the client's callbacks, so that messages keep
their order.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.core.driver import Stream
from MessageBroker.errors import BrokerError, BrokerUnavailableError, ConfigurationError
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.assignment import Assignment, KafkaDelivery
from MessageBroker.kafka.buffer import RecordBuffer
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.errors import MISSING_TOPIC, error_of, is_outage, meaning_of
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.hearing import Hearing
from MessageBroker.kafka.liveness import Probe, Standstill
from MessageBroker.kafka.membership import Membership
from MessageBroker.kafka.pauses import Pauses
from MessageBroker.kafka.records import id_of
from MessageBroker.kafka.refused import REFUSED, FindSpan, RefusedBatch
from MessageBroker.kafka.start_offsets import StartOffsets
from MessageBroker.message import Delivery, Message

logger = logging.getLogger(__name__)

# A consumer that did not fetch for this long is at work: `renew` polls for it (s).
AT_WORK_SECONDS = 1.0
# So many messages may wait for an application at work before its partitions are paused.
MAX_WAITING = 16
# Joining a group takes 0.2 s, 3 s on a new cluster, and 6 s more where a member has just died (s).
JOIN_TIMEOUT_SECONDS = 30.0
# After so long somebody else may be in the way (s).
SUSPICIOUS_SECONDS = 6.0
JOIN_POLL_SECONDS = 0.05
# What leaving may take before the broker counts as away (s).
LEAVE_TIMEOUT_SECONDS = 5.0


class KafkaStream(Stream):
    """A member of a consumer group that shares one topic."""

    def __init__(
        self,
        open_client: Callable[[], Consumer],
        events: ClientEvents,
        admin: KafkaAdmin,
        consumed: GroupTopic,
        session_seconds: float,
        find_span: FindSpan,
    ) -> None:
        """Prepare; `join` asks the group.

        Args:
            open_client: makes a consumer of the group; again where one hears of no broker any more.
            events: what it says in the background.
            admin: asks for the ends of partitions.
            consumed: the topic and the group.
            session_seconds: how long a silent consumer stays in its group.
            find_span: finds the offsets of a batch that the client refuses.
        """
        self.on_lost = lambda _deliveries: None
        self.on_unread = lambda _message, _error: None
        self._find_span = find_span
        self._partitions: Sequence[int] = ()
        self._open_client = open_client
        self._events = events
        self._consumed = consumed
        self._admin = admin
        self._polling = threading.Lock()
        self._connect()
        # Half a session: the group may have had no sign of life for a while before the stop.
        self._standstill = Standstill(session_seconds / 2, lambda: self._membership.ask_the_group())
        self._hearing = Hearing(lambda timeout: self._client.list_topics(consumed.topic, timeout))
        self._probe = Probe(admin, consumed, events, self._hearing)
        self._revoked_while_fetching: set[int] = set()
        self._failure: BrokerError | None = None
        self._last_fetch = time.monotonic()

    def _connect(self) -> None:
        """Make a client, and all that is bound to one."""
        client = self._client = self._open_client()

        def before_revoke(partitions: set[int]) -> None:
            if self._client is client:  # what is said to one that is being closed concerns nobody
                self._before_revoke(partitions)

        self._assignment = Assignment(lambda lost: self.on_lost(lost))
        self._buffer = RecordBuffer(self._consumed.topic)
        self._offsets = StartOffsets(client, self._events, self._admin, self._consumed)
        self._membership = Membership(
            client, self._consumed, self._offsets, self._assignment, before_revoke
        )
        self._pauses = Pauses(client)

    def _reconnect(self) -> None:
        """Go on with another client, as a new member; what is not acknowledged comes again."""
        logger.warning(
            "%s: the client has let go of its brokers, though they answer: it is made anew",
            self._consumed.where,
        )
        deaf = self._membership
        self._assignment.lose(list(self._assignment))
        self._connect()
        self._membership.start_over()
        self._hearing.heard()
        # It may take as long as it likes, and is no member any more once its session is over.
        threading.Thread(target=deaf.end, name="closing a deaf client", daemon=True).start()

    def join(self, partitions: Sequence[int]) -> None:
        """Join the group; return once it has a committed offset in each of `partitions`.

        Raises:
            ConfigurationError: the group consumes another topic.
            BrokerError: it could not join.
        """
        self._partitions = partitions
        self._membership.join(partitions)
        began = time.monotonic()
        deadline, suspicious = began + JOIN_TIMEOUT_SECONDS, began + SUSPICIOUS_SECONDS
        while not self._membership.has_begun(partitions):
            with self._polling:
                self._mend()
                self._collect(1, 1, JOIN_POLL_SECONDS)
                for error in self._buffer.take_errors():
                    self._note(error)
            self._raise_failure()
            now = time.monotonic()
            if now >= suspicious:
                suspicious = deadline
                self._look_at_the_others()
            if now >= deadline:
                raise BrokerUnavailableError(
                    f"{self._consumed.where}: the group was not joined within "
                    f"{JOIN_TIMEOUT_SECONDS:g} s: check that the group's other consumers and the "
                    "brokers are alive"
                )

    def _look_at_the_others(self) -> None:
        """Find out whether others hold partitions and commit nothing for them, as ours do."""
        if self._admin.is_of_the_other_protocol(self._consumed.group):
            raise ConfigurationError(
                f"{self._consumed.where}: another program consumes in this group with "
                "group.protocol=consumer: choose another subscription id, or set its "
                "group.protocol to classic and its partition.assignment.strategy to "
                "cooperative-sticky"
            )

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
            self._membership.start_over()
            raise

    def _fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        self._standstill.notice()
        if self._events.topic_missed:
            self._probe.require_topic()
        with self._polling:
            self._hearing.look()
            if self._hearing.is_deaf:
                self._reconnect()
            self._mend()
            self._pauses.end()
            self._store_moved()
            room = self._buffer.room_for(max_messages)
            if room:
                self._collect(room, max_bytes, 0 if self._buffer else timeout)
            self._last_fetch = time.monotonic()
            messages = self._hand_out(max_messages, max_bytes)
        if messages:
            self._probe.answered()
        else:
            self._raise_what_is_known()
        return messages

    def _mend(self) -> None:
        try:
            self._membership.mend()
        except KafkaException as exception:
            self._begin_anew(exception)

    def _begin_anew(self, exception: KafkaException) -> None:
        self._failure = self._events.explain(error_of(exception), self._consumed.where)
        self._membership.start_over()

    def _collect(self, limit: int, max_bytes: int, timeout: float) -> None:
        """Take what the client has; wait for the first for up to `timeout` seconds."""
        self._revoked_while_fetching.clear()
        try:
            # `consume` waits for all that it was asked for, `poll` for one.
            records = self._buffer.take(self._client, limit, max_bytes)
            if not records and timeout > 0:
                first = self._client.poll(timeout)
                if first is not None:
                    more = self._buffer.take(self._client, limit - 1, max_bytes)
                    records = [first, *more]
        except KafkaException as exception:
            # What was taken before, and what the client had in its hands, is with nobody now.
            self._begin_anew(exception)
            return
        if self._revoked_while_fetching:
            records = self._without_revoked(records)
        self._buffer.add(records)

    def _hand_out(self, max_messages: int, max_bytes: int) -> list[Message]:
        handed_out = self._buffer.hand_out(self._assignment.trackers, max_messages, max_bytes)
        messages, failed = handed_out.messages, handed_out.failed
        self._assignment.deliver(handed_out.batches)
        if handed_out.ends:
            self._assignment.reach(handed_out.ends)
        if failed is not None and failed.error().code() in REFUSED:
            messages += self._pass_over(failed)
        elif failed is not None:
            self._note(failed.error())
        return messages

    def _pass_over(self, record: Any) -> list[Message]:
        """Make one message of a batch that the client refuses, and go on behind it."""
        partition, topic = record.partition(), self._consumed.topic
        tracker = self._assignment.trackers.get(partition)
        if tracker is None:
            return []
        try:
            span = self._find_span(partition, record.offset(), tracker.position)
            self._client.seek(TopicPartition(topic, partition, span.last + 1))
        except BrokerError as error:  # the client tells of the batch again
            self._failure = error
            return []
        except KafkaException as exception:  # the partition is being taken away
            logger.debug("%s: %s", self._consumed.where, error_of(exception))
            return []
        self._buffer.drop({partition})
        delivery = RefusedBatch(tracker, span)
        self._assignment.deliver([(tracker, [delivery])])
        name, now = id_of(partition, span.first, 0), datetime.now(UTC)
        message = Message(name, b"", {}, None, topic, now, delivery=delivery)
        self.on_unread(message, meaning_of(record.error()))
        return [message]

    def place_of(self, message: Message) -> str:
        """See `Stream.place_of`: the partition, and the offset or those of a refused batch."""
        delivery = cast("KafkaDelivery", message.delivery)
        return f"{message.topic}/{delivery.handle.partition}/{delivery.offsets}"

    def _without_revoked(self, records: list[Any]) -> list[Any]:
        """Drop what was fetched together with the news that its partition is gone.

        If the partition came back in the same moment, it is read anew from its start: nobody can
        tell which of its records belong to which assignment.
        """
        gone = set(self._revoked_while_fetching)
        for partition, position in self._assignment.positions(gone).items():
            try:
                self._client.seek(TopicPartition(self._consumed.topic, partition, position))
            except KafkaException as exception:  # the client is taking it away once more, perhaps
                logger.debug("%s: %s", self._consumed.where, error_of(exception))
                self._membership.start_over()
        return [each for each in records if each.partition() not in gone]

    def _before_revoke(self, partitions: set[int]) -> None:
        self._store_moved()  # the client commits it before it lets the partitions go
        self._revoked_while_fetching |= partitions
        self._buffer.drop(partitions)
        self._pauses.forget(partitions)

    def _note(self, error: KafkaError) -> None:
        """Keep an error that came in place of a message, for the next fetch to raise."""
        if error.code() in MISSING_TOPIC:
            self._events.topic_missed = True
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED or is_outage(error):
            logger.debug("%s: %s", self._consumed.where, error)
        else:
            self._failure = self._events.explain(error, self._consumed.where)

    def _raise_failure(self) -> None:
        failure = self._failure or self._membership.failure
        if failure is not None:
            self._failure = self._membership.failure = None
            raise failure

    def _raise_what_is_known(self) -> None:
        """Say why nothing came, if that has a reason."""
        self._raise_failure()
        refusal = self._events.refusal(self._consumed.where)
        if refusal is not None:
            raise refusal
        if self._events.away:
            raise self._events.unavailable()

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
        offsets = {each.partition: offset for each, offset in moved.items()}
        try:
            self._client.store_offsets(offsets=self._offsets.to_commit(offsets))
        except KafkaException as exception:
            # The client may have taken a partition away and be about to tell us; the others' acks
            # are kept for the next time.
            logger.debug("%s: offsets were not stored: %s", self._consumed.where, exception)
            self._assignment.put_back(moved)
            return
        for tracker, offset in moved.items():
            tracker.stored_offset = offset

    # ------------------------------------------------------------------ while the application works

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
        self._membership.start_the_rest()
        if len(self._buffer) >= MAX_WAITING:
            self._pauses.begin()
        self._collect(1, 1, 0)

    @property
    def at_end(self) -> bool:
        """See `Stream.at_end`."""
        return not self._buffer and self._assignment.is_at_end(self._partitions)

    @property
    def ready(self) -> bool:
        """See `Stream.ready`."""
        return self._membership.is_complete and not self._events.away

    # ------------------------------------------------------------------ leaving

    def release(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all go
        """Leave the group: Kafka gives back whole partitions, not single messages.

        The next fetch joins again. So an application that hangs keeps nothing, and one that only
        forgot a message gets it again, or another consumer does.
        """
        with self._polling:
            self._store_moved()
            self._membership.leave()
            deadline = time.monotonic() + LEAVE_TIMEOUT_SECONDS
            while self._assignment and time.monotonic() < deadline:
                self._collect(1, 1, JOIN_POLL_SECONDS)

    def close(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all go
        """Commit, and leave the group, so that others have the partitions at once."""
        # A frozen broker would hold the client for a minute; the session ends by itself then.
        leaving = threading.Thread(target=self._leave, name="leaving a group", daemon=True)
        leaving.start()
        leaving.join(LEAVE_TIMEOUT_SECONDS)
        if leaving.is_alive():
            logger.warning(
                "%s: the group was not left within %g s: the broker does not answer; its other "
                "consumers have the partitions once this one's session has expired",
                self._consumed.where,
                LEAVE_TIMEOUT_SECONDS,
            )

    def _leave(self) -> None:
        with self._polling:
            self._store_moved()
            self._membership.end()
