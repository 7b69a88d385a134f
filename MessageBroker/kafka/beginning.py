"""How a consumer begins in partitions that its group has just dealt it.

Where to go on is asked of several brokers, and one that hangs gives no answer for many seconds. So
that is done in a thread of its own, by other clients: neither a fetch nor a callback of the
consumer waits for it. What the group is to remember of it is committed without waiting, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from DurableText.program.beside import in_a_thread
from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.assignment import Assignment
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.errors import error_of, is_outage
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.start_offsets import StartOffsets, Starts

logger = logging.getLogger(__name__)

# How soon to look again where to begin in a partition that had no leader, say (s).
RETRY_SECONDS = 1.0
# It is told that a partition waits for so long (s). An outage was told by then.
TELL_SECONDS = 10.0


class Beginning:
    """Finds out where to begin, commits it where the group has nothing, and has the client fetch.

    `is_complete` is for any thread, the rest for the one that polls.

    Attributes:
        failure: why it is not known where to begin, where waiting does not cure that; for the one
            that polls to raise and reset.
    """

    def __init__(
        self,
        client: Consumer,
        consumed: GroupTopic,
        events: ClientEvents,
        offsets: StartOffsets,
        assignment: Assignment,
    ) -> None:
        """Prepare; there is nothing to begin yet.

        Args:
            client: the consumer.
            consumed: the topic and the group.
            events: whether an outage was told.
            offsets: tells where to begin in a partition.
            assignment: takes the partitions over.
        """
        self.failure: BrokerError | None = None
        self._client = client
        self._consumed = consumed
        self._events = events
        self._offsets = offsets
        self._assignment = assignment
        self._unstarted: set[int] = set()
        self._search: Future[Starts] | None = None
        self._searched: Sequence[int] = ()
        self._committing: dict[int, int] = {}  # where the group begins, once that is confirmed
        self._next_look = 0.0
        self._waits_since = 0.0
        self._obstacle = ""
        self._is_told = False

    @property
    def is_complete(self) -> bool:
        """Whether it has begun in all that was dealt."""
        return not self._unstarted

    @property
    def is_at_it(self) -> bool:
        """Whether an answer is awaited."""
        return self._search is not None or bool(self._committing)

    def add(self, partitions: set[int]) -> None:
        """Take over partitions; the group counts all of them as ours, so none is forgotten."""
        if not self._unstarted:
            self._waits_since = time.monotonic()
        self._unstarted |= partitions
        self._forget_what_is_asked()
        self.go_on()

    def drop(self, partitions: set[int]) -> None:
        """Forget partitions that go elsewhere."""
        self._unstarted -= partitions
        self._forget_what_is_asked()
        self._tell_the_end()

    def _forget_what_is_asked(self) -> None:
        """Look anew: another consumer may have gone on meanwhile in what comes back."""
        self._search = None
        self._committing.clear()
        self._next_look = 0.0

    def go_on(self) -> None:
        """Begin where it is known by now, and look where it is not: to be called now and then."""
        if not self._unstarted:
            return
        if self._search is None:
            self._look()
        elif self._search.done():
            self._take(self._search)
        if self._unstarted:
            self._tell_if_it_lasts()

    def _tell_if_it_lasts(self) -> None:
        waits = time.monotonic() - self._waits_since
        if waits > TELL_SECONDS and not self._is_told and not self._events.away:
            self._is_told = True
            logger.warning(
                "%s: waiting to begin in the partitions %s%s",
                self._consumed.where,
                ", ".join(map(str, sorted(self._unstarted))),
                self._obstacle and f": {self._obstacle}",
            )

    def _look(self) -> None:
        wanted = sorted(self._unstarted - self._committing.keys())
        if wanted and time.monotonic() >= self._next_look:
            self._searched = wanted
            self._search = in_a_thread("where to begin", lambda: self._offsets.find(wanted))

    def _take(self, search: Future[Starts]) -> None:
        self._search = None
        self._next_look = time.monotonic() + RETRY_SECONDS
        try:
            starts = search.result()
        except BrokerUnavailableError as error:
            self._obstacle = str(error)
            logger.debug("%s: not begun yet: %s", self._consumed.where, error)
            return
        except BrokerError as error:
            self.failure = error
            return
        if len(starts.known) + len(starts.new) < len(self._searched):
            self._obstacle = "they have no leader: check that the brokers that keep them are up"
        self._begin_at(starts.known)
        if starts.new:
            self._commit(starts.new)

    def _commit(self, starts: Mapping[int, int]) -> None:
        try:
            self._offsets.begin_to_commit(starts)
        except KafkaException as exception:
            self._note_refused(error_of(exception))
        else:
            self._committing.update(starts)

    def heard_of_commit(
        self, error: KafkaError | None, partitions: Sequence[TopicPartition]
    ) -> None:
        """Take what the client says of a commit, as it is polled: begin where it was a start."""
        confirmed = {}
        for each in partitions:
            if self._committing.get(each.partition) != each.offset:
                continue  # as an acknowledgement is committed
            del self._committing[each.partition]
            failed = error or each.error
            if failed is None:
                confirmed[each.partition] = each.offset
            else:
                self._note_refused(failed)
        self._begin_at(confirmed)

    def _note_refused(self, error: KafkaError) -> None:
        explained = self._events.explain(error, self._consumed.where)
        if is_outage(error):  # it is looked at and tried again
            self._obstacle = str(explained)
        else:
            self.failure = explained

    def _begin_at(self, starts: Mapping[int, int]) -> None:
        if not starts:
            return
        topic = self._consumed.topic
        self._client.incremental_assign(
            [TopicPartition(topic, each, offset) for each, offset in starts.items()]
        )
        self._unstarted.difference_update(starts)
        self._assignment.begin(starts)
        self._tell_the_end()

    def _tell_the_end(self) -> None:
        if self._unstarted:
            return
        if self._is_told:
            logger.info("%s: no partition waits any more", self._consumed.where)
        self._is_told, self._obstacle = False, ""
