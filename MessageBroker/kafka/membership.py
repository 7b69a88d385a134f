"""One consumer's place in its group: the partitions it is assigned, and where it begins in them.

The client keeps the membership alive by itself, but tells of changes in the assignment only when
it is polled: what it calls here runs in the thread that polls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.assignment import Assignment
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.start_offsets import StartOffsets

logger = logging.getLogger(__name__)

# How soon to try again to start a partition that had no leader, say (s).
START_RETRY_SECONDS = 1.0
# The client tells at once that partitions are given back, also where the broker is away; only a
# group that deals anew just then makes it wait (s).
GIVE_BACK_SECONDS = 2.0
GIVE_BACK_POLL_SECONDS = 0.02

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


class Membership:
    """Joins, keeps the assignment as the group deals it, and joins again where it must.

    `ask_the_group`, `start_over` and `is_complete` are for any thread, the rest for the one that
    polls: the client lets in one thread at a time, and not in turn. Beside one that polls all the
    time another waits for ever.

    Attributes:
        failure: why the start in new partitions was not found, where waiting does not cure that;
            for the one that polls to raise and reset.
    """

    def __init__(
        self,
        client: Consumer,
        consumed: GroupTopic,
        offsets: StartOffsets,
        assignment: Assignment,
        before_revoke: Callable[[set[int]], None],
    ) -> None:
        """Prepare; `join` begins.

        Args:
            client: the consumer.
            consumed: the topic and the group.
            offsets: tells where to begin in a partition.
            assignment: kept as the group deals it.
            before_revoke: told of partitions that go elsewhere.
        """
        self.failure: BrokerError | None = None
        self._client = client
        self._consumed = consumed
        self._offsets = offsets
        self._assignment = assignment
        self._before_revoke = before_revoke
        self._member = False
        self._must_rejoin = False
        self._leaving = False
        self._unstarted: set[int] = set()  # assigned, and it is not known yet where to go on
        self._last_start = time.monotonic()

    # ------------------------------------------------------------------ joining and leaving

    def join(self, partitions: Sequence[int]) -> None:
        """Ask for a place in the group; polling makes it come.

        Raises:
            ConfigurationError: the group consumes another topic.
            BrokerError: the group's offsets cannot be read.
        """
        if not self._offsets.committed(partitions, joined=False):
            self._offsets.require_new_group()
        self._subscribe()

    def has_begun(self, partitions: Sequence[int]) -> bool:
        """Tell whether this is a member, and its group has a committed offset in `partitions`.

        Others of the group may be about to commit it.
        """
        if not self._member:
            return False
        wanted = set(partitions)
        return wanted <= set(self._assignment) or wanted <= set(self._offsets.committed(partitions))

    @property
    def is_complete(self) -> bool:
        """Whether this is a member, and has begun in all that it was assigned."""
        return self._member and not self._must_rejoin and not self._unstarted

    def mend(self) -> None:
        """Join anew if that must be, and begin where it was not possible before."""
        if self._must_rejoin:
            # The partitions are dealt out anew.
            self._must_rejoin = self._member = False
            self._client.unsubscribe()
            self._subscribe()
        self.start_the_rest()

    def leave(self) -> None:
        """Give the partitions to others; `mend` joins again."""
        self.store_moved()
        self._client.unsubscribe()
        self._must_rejoin = True

    def end(self) -> None:
        """Give the partitions to others, and close the client.

        A client that is closed while it has not yet told of two changes of the assignment ends once
        the first of them is told. What is asked of it from the second one is then perhaps not
        answered any more, and asking keeps every thread of Python waiting, for ever
        (https://github.com/confluentinc/librdkafka/issues/4884). So all that it has to tell is
        heard while it still answers.
        """
        self._leaving = True
        self.store_moved()
        try:
            self._client.unsubscribe()
            self._hear_all()
        except KafkaException as exception:  # one that can never work again holds nothing either
            logger.debug("%s: %s", self._consumed.where, exception)
        self._client.close()

    def _hear_all(self) -> None:
        deadline = time.monotonic() + GIVE_BACK_SECONDS
        while time.monotonic() < deadline:
            wait = GIVE_BACK_POLL_SECONDS if self._client.assignment() else 0
            heard = self._client.poll(wait)
            if heard is None and not self._client.assignment():
                return

    def start_over(self) -> None:
        """Give up all partitions at once; `mend` joins anew."""
        self._must_rejoin = True
        self._assignment.lose(list(self._assignment))

    def ask_the_group(self) -> None:
        """Find out whether it still counts this consumer, and lose all that was assigned if not."""
        if self._assignment and self._was_expelled():
            self.start_over()

    def _was_expelled(self) -> bool:
        error = self._offsets.commit(self._assignment.stored_offsets())
        return error is not None and error.code() in EXPELLED

    def _subscribe(self) -> None:
        self._client.subscribe(
            [self._consumed.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    # ------------------------------------------------------------------ acknowledgements

    def store_moved(self) -> None:
        """Tell the client how far to commit; it does so within `auto.commit.interval.ms`."""
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

    # ------------------------------------------------------------------ what the group deals

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        # The group counts all of them as ours, so none may be forgotten: one without a leader, say,
        # is tried again, while the others flow.
        self._unstarted.update(each.partition for each in partitions)
        # One that leaves asks nobody where to begin.
        starts = [] if self._leaving else self._find_starts()
        client.incremental_assign(starts)  # also if empty: the client would take all of them
        self._begin_at(starts)
        self._member = True

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions go to another consumer, or the group counted this one as dead."""
        gone = {each.partition for each in partitions}
        self.store_moved()  # the client commits it before it lets the partitions go
        self._before_revoke(gone)
        self._unstarted -= gone
        self._assignment.lose(gone)
        try:
            ours = client.assignment()
        except KafkaException as exception:  # it is being closed, and gives all of them back
            logger.debug("%s: %s", self._consumed.where, exception)
            return
        # One that was never started is none of the client's, and it takes back only its own.
        client.incremental_unassign([each for each in ours if each.partition in gone])

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._member = False  # until the group has dealt us partitions again
        self._on_revoke(client, partitions)

    # ------------------------------------------------------------------ beginning

    def start_the_rest(self) -> None:
        """Try again to begin with partitions for which that was not possible at once."""
        if not self._unstarted or time.monotonic() - self._last_start < START_RETRY_SECONDS:
            return
        starts = self._find_starts()
        if starts:
            self._client.incremental_assign(starts)
            self._begin_at(starts)

    def _find_starts(self) -> list[TopicPartition]:
        """Find out where to begin in the assigned partitions; leave out what cannot be told yet."""
        self._last_start = time.monotonic()
        try:
            starts = self._offsets.find(sorted(self._unstarted))
        except BrokerUnavailableError as error:
            logger.debug("%s: not started yet: %s", self._consumed.where, error)
            return []
        except BrokerError as error:
            self.failure = error
            return []
        topic = self._consumed.topic
        return [TopicPartition(topic, each, offset) for each, offset in starts.items()]

    def _begin_at(self, starts: Sequence[TopicPartition]) -> None:
        self._unstarted.difference_update(each.partition for each in starts)
        self._assignment.begin({start.partition: start.offset for start in starts})
