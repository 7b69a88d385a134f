"""One consumer's place in its group: the partitions it is assigned, and where it begins in them.

The client keeps the membership alive by itself, but tells of changes in the assignment only when
it is polled: what it calls here runs in the thread that polls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.errors import BrokerError
from MessageBroker.kafka.assignment import Assignment
from MessageBroker.kafka.beginning import Beginning
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.start_offsets import StartOffsets

logger = logging.getLogger(__name__)

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
    """

    def __init__(
        self,
        client: Consumer,
        consumed: GroupTopic,
        events: ClientEvents,
        offsets: StartOffsets,
        assignment: Assignment,
        before_revoke: Callable[[set[int]], None],
    ) -> None:
        """Prepare; `join` begins.

        Args:
            client: the consumer.
            consumed: the topic and the group.
            events: what the client says in the background.
            offsets: tells where to begin in a partition.
            assignment: kept as the group deals it.
            before_revoke: told of partitions that go elsewhere.
        """
        self._client = client
        self._consumed = consumed
        self._offsets = offsets
        self._assignment = assignment
        self._before_revoke = before_revoke
        self._member = False
        self._must_rejoin = False
        self._leaving = False
        self._beginning = Beginning(client, consumed, events, offsets, assignment)

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
        if not self._member or self._beginning.is_at_it:
            return False
        wanted = set(partitions)
        return wanted <= set(self._assignment) or wanted <= set(self._offsets.committed(partitions))

    @property
    def is_complete(self) -> bool:
        """Whether this is a member, and has begun in all that it was assigned."""
        return self._member and not self._must_rejoin and self._beginning.is_complete

    def mend(self) -> None:
        """Join anew if that must be, and begin where it was not possible before."""
        if self._must_rejoin:
            # The partitions are dealt out anew.
            self._must_rejoin = self._member = False
            self._client.unsubscribe()
            self._subscribe()
        self.begin_in_the_rest()

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
        # It fetches nothing yet; without this call the client would begin in all of them.
        client.incremental_assign([])
        if not self._leaving:  # one that leaves asks nobody where to begin
            self._beginning.add({each.partition for each in partitions})
        self._member = True

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions go to another consumer, or the group counted this one as dead."""
        gone = {each.partition for each in partitions}
        self.store_moved()  # the client commits it before it lets the partitions go
        self._before_revoke(gone)
        self._beginning.drop(gone)
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

    def begin_in_the_rest(self) -> None:
        """Begin with partitions for which that was not possible before."""
        if not self._leaving:
            self._beginning.go_on()

    def heard_of_commit(
        self, error: KafkaError | None, partitions: Sequence[TopicPartition]
    ) -> None:
        """Take what the client says of a commit, as it is polled."""
        if not self._leaving:
            self._beginning.heard_of_commit(error, partitions)

    def take_failure(self) -> BrokerError | None:
        """Return, once, why it is not known where to begin, if waiting does not cure that."""
        failure, self._beginning.failure = self._beginning.failure, None
        return failure
