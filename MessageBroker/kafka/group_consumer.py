"""One client that consumes for its group, with all that is given up together with it.

What the client brings waits in a buffer. While the application works on a batch, the client is
polled for its group's sake; a message that such a poll brings waits there too, and when some wait,
the partitions are paused until the next fetch (`pauses`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.errors import BrokerError
from MessageBroker.kafka.assignment import Assignment
from MessageBroker.kafka.buffer import RecordBuffer
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.errors import MISSING_TOPIC, error_of, is_outage, meaning_of
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.membership import Membership
from MessageBroker.kafka.pauses import Pauses
from MessageBroker.kafka.records import KafkaRecord, id_of, polled
from MessageBroker.kafka.refused import REFUSED, FindSpan, RefusedBatch
from MessageBroker.kafka.start_offsets import StartOffsets
from MessageBroker.message import Delivery, Message

logger = logging.getLogger(__name__)

# So many messages may wait for an application at work before its partitions are paused.
MAX_WAITING = 16


class GroupConsumer:
    """A member of a consumer group that shares one topic.

    Its methods run the client's callbacks, so they are called by one thread at a time; those of
    `assignment`, and `start_over`, by any.

    Attributes:
        assignment: the partitions that it has, and how far they are acknowledged.
        membership: its place in the group.
    """

    def __init__(
        self,
        client: Consumer,
        offsets: StartOffsets,
        consumed: GroupTopic,
        events: ClientEvents,
        find_span: FindSpan,
        on_lost: Callable[[Sequence[Delivery]], None],
        on_unread: Callable[[Message, str], None],
    ) -> None:
        """Prepare; `join` asks the group.

        Args:
            client: the consumer.
            offsets: where the group goes on, found through it.
            consumed: the topic and the group.
            events: what it says in the background.
            find_span: finds the offsets of a batch that it refuses.
            on_lost: see `Stream`.
            on_unread: see `Stream`.
        """
        self._client = client
        self._consumed = consumed
        self._events = events
        self._find_span = find_span
        self._on_unread = on_unread
        self._buffer = RecordBuffer(consumed.topic)
        self._pauses = Pauses(client)
        self.assignment = Assignment(on_lost)
        self.membership = Membership(
            client, consumed, events, offsets, self.assignment, self._forget
        )
        self._revoked_while_fetching: set[int] = set()
        self._failure: BrokerError | None = None

    def ask_a_broker(self, timeout: float) -> None:
        """Have the client ask a broker for anything: see `Hearing`."""
        self._client.list_topics(self._consumed.topic, timeout)

    def start_over(self) -> None:
        """Give up all partitions; the next fetch joins the group anew. For any thread."""
        self.membership.start_over()

    def raise_failure(self) -> None:
        """Raise, once, what went wrong and waiting does not cure."""
        failure, self._failure = self._failure or self.membership.take_failure(), None
        if failure is not None:
            raise failure

    # ------------------------------------------------------------------ fetching

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """See `Stream.fetch`; what went wrong is raised by `raise_failure`."""
        self._mend()
        self._pauses.end()
        self.membership.store_moved()
        room = self._buffer.room_for(max_messages)
        if room:
            self.collect(room, max_bytes, 0 if self._buffer else timeout)
        return self._hand_out(max_messages, max_bytes)

    def serve_the_joining(self, timeout: float) -> None:
        """Serve the group for up to `timeout` seconds while nobody fetches yet."""
        self._mend()
        self.collect(1, 1, timeout)
        for error in self._buffer.take_errors():
            self._note(error)

    def serve_at_work(self) -> None:
        """Serve the group while the application is at work."""
        try:
            self.membership.begin_in_the_rest()
        except KafkaException as exception:
            self._begin_anew(exception)
            return
        if len(self._buffer) >= MAX_WAITING:
            self._pauses.begin()
        self.collect(1, 1, 0)

    def is_at_end(self, partitions: Sequence[int]) -> bool:
        """Tell whether it has all of `partitions`, and handed out all that stood in them."""
        return not self._buffer and self.assignment.is_at_end(partitions)

    def collect(self, limit: int, max_bytes: int, timeout: float) -> None:
        """Take what the client has; wait for the first for up to `timeout` seconds."""
        self._revoked_while_fetching.clear()
        try:
            # `consume` waits for all that it was asked for, `poll` for one.
            records = self._buffer.take(self._client, limit, max_bytes)
            if not records and timeout > 0:
                first = polled(self._client, timeout)
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

    def _mend(self) -> None:
        try:
            self.membership.mend()
        except KafkaException as exception:
            self._begin_anew(exception)

    def _begin_anew(self, exception: KafkaException) -> None:
        self._failure = self._events.explain(error_of(exception), self._consumed.where)
        self.start_over()

    def _without_revoked(self, records: list[KafkaRecord]) -> list[KafkaRecord]:
        """Drop what was fetched together with the news that its partition is gone.

        If the partition came back in the same moment, it is read anew from its start: nobody can
        tell which of its records belong to which assignment.
        """
        gone = set(self._revoked_while_fetching)
        for partition, position in self.assignment.positions(gone).items():
            try:
                self._client.seek(TopicPartition(self._consumed.topic, partition, position))
            except KafkaException as exception:  # the client is taking it away once more, perhaps
                logger.debug("%s: %s", self._consumed.where, error_of(exception))
                self.start_over()
        return [each for each in records if each.partition() not in gone]

    def _forget(self, partitions: set[int]) -> None:
        self._revoked_while_fetching |= partitions
        self._buffer.drop(partitions)
        self._pauses.forget(partitions)

    # ------------------------------------------------------------------ handing out

    def _hand_out(self, max_messages: int, max_bytes: int) -> list[Message]:
        handed_out = self._buffer.hand_out(self.assignment.trackers, max_messages, max_bytes)
        messages, failed = handed_out.messages, handed_out.failed
        self.assignment.deliver(handed_out.batches)
        if handed_out.ends:
            self.assignment.reach(handed_out.ends)
        error = None if failed is None else failed.error()
        if failed is not None and error is not None:
            if error.code() in REFUSED:
                messages += self._pass_over(failed, error)
            else:
                self._note(error)
        return messages

    def _pass_over(self, record: KafkaRecord, error: KafkaError) -> list[Message]:
        """Make one message of a batch that the client refuses, and go on behind it."""
        partition, topic = record.partition(), self._consumed.topic
        tracker = self.assignment.trackers.get(partition)
        if tracker is None:
            return []
        try:
            span = self._find_span(partition, record.offset(), tracker.position)
            self._client.seek(TopicPartition(topic, partition, span.last + 1))
        except BrokerError as failure:  # the client tells of the batch again
            self._failure = failure
            return []
        except KafkaException as exception:  # the partition is being taken away
            logger.debug("%s: %s", self._consumed.where, error_of(exception))
            return []
        self._buffer.drop({partition})
        delivery = RefusedBatch(tracker, span)
        self.assignment.deliver([(tracker, [delivery])])
        name, now = id_of(partition, span.first, 0), datetime.now(UTC)
        message = Message(name, b"", {}, None, topic, now, delivery=delivery)
        self._on_unread(message, meaning_of(error))
        return [message]

    def _note(self, error: KafkaError) -> None:
        """Keep an error that came in place of a message, to be raised."""
        if error.code() in MISSING_TOPIC:
            self._events.topic_missed = True
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED or is_outage(error):
            logger.debug("%s: %s", self._consumed.where, error)
        else:
            self._failure = self._events.explain(error, self._consumed.where)
