"""One consumer of a subscription, as the core sees it: who calls its client, and when.

Two threads are about: the application's, which fetches, and the one that keeps the leases, which
serves the group while the application is at work. `_polling` is held around every call that may run
the client's callbacks, so that messages keep their order, and nobody closes the client meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaError, TopicPartition

from MessageBroker.core.driver import Stream
from MessageBroker.errors import BrokerError, BrokerUnavailableError, ConfigurationError
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.assignment import KafkaDelivery
from MessageBroker.kafka.committed_offsets import GroupReader, GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.group_consumer import GroupConsumer
from MessageBroker.kafka.hearing import Hearing, let_go
from MessageBroker.kafka.liveness import PROBE_TIMEOUT_SECONDS, Probe, Standstill
from MessageBroker.kafka.refused import FindSpan
from MessageBroker.kafka.start_offsets import StartOffsets
from MessageBroker.message import Delivery, Message

logger = logging.getLogger(__name__)

# A consumer that did not fetch for this long is at work: `renew` polls for it (s).
AT_WORK_SECONDS = 1.0
# Joining a group takes 0.2 s, 3 s on a new cluster, and 6 s more where a member has just died (s).
JOIN_TIMEOUT_SECONDS = 30.0
# After so long somebody else may be in the way, and as often it is looked at again (s).
SUSPICIOUS_SECONDS = 6.0
JOIN_POLL_SECONDS = 0.05
# What leaving may take before the broker counts as away (s).
LEAVE_TIMEOUT_SECONDS = 5.0
# What a fetch waits for the other thread at least, also one that was to wait for nothing (s).
LEAST_PATIENCE_SECONDS = 0.1

# What a client calls with what came of a commit: of all of it, and of each partition.
OnCommit = Callable[["KafkaError | None", Sequence[TopicPartition]], None]


class KafkaStream(Stream):
    """A consumer group's member, whichever client stands for it."""

    def __init__(
        self,
        open_client: Callable[[OnCommit], Consumer],
        events: ClientEvents,
        admin: KafkaAdmin,
        groups: GroupReader,
        consumed: GroupTopic,
        session_seconds: float,
        find_span: FindSpan,
    ) -> None:
        """Prepare; `join` asks the group.

        Args:
            open_client: makes a consumer of the group; again where one hears of no broker any more.
            events: what it says in the background.
            admin: asks for the ends of partitions.
            groups: reads what the group has committed.
            consumed: the topic and the group.
            session_seconds: how long a silent consumer stays in its group.
            find_span: finds the offsets of a batch that the client refuses.
        """
        self.on_lost = lambda _deliveries: None
        self.on_unread = lambda _message, _error: None
        self._open_client = open_client
        self._events = events
        self._admin = admin
        self._groups = groups
        self._consumed = consumed
        self._find_span = find_span
        self._partitions: Sequence[int] = ()
        self._polling = threading.Lock()
        self._consumer = self._new_consumer()
        # Half a session: the group may have had no sign of life for a while before the stop.
        self._standstill = Standstill(session_seconds / 2, self._ask_the_group)
        self._hearing = Hearing(lambda timeout: self._consumer.ask_a_broker(timeout))
        self._probe = Probe(admin, consumed, events, self._hearing)
        self._last_fetch = time.monotonic()

    def _ask_the_group(self) -> None:
        """Find out whether the group still counts this consumer; where nobody answers, it may not.

        The consumer's own question knows no limit of time, so another connection asks first. What
        is given up comes again, here too.
        """
        membership = self._consumer.membership
        try:
            self._admin.topic_id(self._consumed.topic, PROBE_TIMEOUT_SECONDS)
        except BrokerUnavailableError as error:
            logger.debug("%s: joining anew after a standstill: %s", self._consumed.where, error)
            membership.start_over()
            return
        except BrokerError:
            pass  # an answer, all the same
        membership.ask_the_group()

    def _new_consumer(self) -> GroupConsumer:
        client = self._open_client(
            lambda error, partitions: consumer.membership.heard_of_commit(error, partitions)
        )
        consumer = GroupConsumer(
            client,
            StartOffsets(client, self._events, self._admin, self._groups, self._consumed),
            self._consumed,
            self._events,
            self._find_span,
            on_lost=lambda lost: self.on_lost(lost),
            on_unread=lambda message, error: self.on_unread(message, error),
        )
        return consumer

    # ------------------------------------------------------------------ joining

    def join(self, partitions: Sequence[int]) -> None:
        """Join the group; return once it has a committed offset in each of `partitions`.

        Raises:
            ConfigurationError: the group consumes another topic.
            BrokerError: it could not join.
        """
        self._partitions = partitions
        membership = self._consumer.membership
        membership.join(partitions)
        began = time.monotonic()
        deadline, suspicious = began + JOIN_TIMEOUT_SECONDS, began + SUSPICIOUS_SECONDS
        while not membership.has_begun(partitions):
            with self._polling:
                self._consumer.serve_the_joining(JOIN_POLL_SECONDS)
            self._consumer.raise_failure()
            now = time.monotonic()
            if now >= suspicious:
                suspicious = now + SUSPICIOUS_SECONDS
                logger.info(
                    "%s: not joined after %.0f s: waiting for the group's other consumers and the "
                    "brokers",
                    self._consumed.where,
                    now - began,
                )
                self._look_at_the_others()
                self._ask_for_another_deal()
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

    def _ask_for_another_deal(self) -> None:
        """Join anew where nobody was dealt partitions that are there.

        A broker may hear of a new topic seconds after the others. What it tells the group's leader
        until then has no partition, and the leader looks again after minutes.
        """
        if self._consumer.membership.is_complete:
            logger.info("%s: nobody has begun in partitions: joining anew", self._consumed.where)
            self._consumer.start_over()

    def _join_anew(self) -> None:
        """Go on with another client, as a new member; what is not acknowledged comes again."""
        logger.warning(
            "%s: the client has let go of its brokers, though they answer: it is made anew",
            self._consumed.where,
        )
        deaf = self._consumer
        deaf.start_over()  # nobody settles with it any more
        self._consumer = self._new_consumer()
        self._consumer.start_over()
        self._hearing.heard()
        let_go(deaf.membership.end)  # it is no member any more once its session is over

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
            self._consumer.start_over()
            raise

    def _fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        self._standstill.notice()
        if self._probe.failure is not None:
            raise self._probe.failure
        messages: list[Message] = []
        # The other thread may be at it for as long as leaving the group takes.
        if self._polling.acquire(timeout=max(timeout, LEAST_PATIENCE_SECONDS)):
            try:
                if self._hearing.is_deaf:
                    self._join_anew()
                messages = self._consumer.fetch(max_messages, max_bytes, timeout)
                self._last_fetch = time.monotonic()
            finally:
                self._polling.release()
        if messages:
            self._probe.answered()
        else:
            self._raise_what_is_known()
        return messages

    def _raise_what_is_known(self) -> None:
        """Say why nothing came, if that has a reason."""
        self._consumer.raise_failure()
        refusal = self._events.refusal(self._consumed.where)
        if refusal is not None:
            raise refusal
        if self._events.away:
            raise self._events.unavailable()

    def place_of(self, message: Message) -> str:
        """See `Stream.place_of`: the partition, and the offset or those of a refused batch."""
        delivery = message.delivery
        assert isinstance(delivery, KafkaDelivery), "only our own messages are settled here"
        return f"{message.topic}/{delivery.handle.partition}/{delivery.offsets}"

    @property
    def at_end(self) -> bool:
        """See `Stream.at_end`."""
        return self._consumer.is_at_end(self._partitions)

    @property
    def ready(self) -> bool:
        """See `Stream.ready`."""
        return self._consumer.membership.is_complete and not self._events.away

    # ------------------------------------------------------------------ while the application works

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """See `Stream.acknowledge`. While the broker is away the client keeps the offsets."""
        self._standstill.notice()
        return self._consumer.assignment.acknowledge(deliveries)

    def renew(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all are renewed
        """Serve the group while the application is at work, and look whether the broker lives."""
        self._standstill.notice()
        if self._polling.acquire(blocking=False):
            try:
                self._consumer.membership.store_moved()
                if time.monotonic() - self._last_fetch > AT_WORK_SECONDS:
                    self._consumer.serve_at_work()
            finally:
                self._polling.release()
        self._probe.look()
        self._hearing.look()  # here, for it takes seconds; who is not deaf is not closed meanwhile
        if self._events.away:
            raise self._events.unavailable()

    # ------------------------------------------------------------------ leaving

    def release(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all go
        """Leave the group: Kafka gives back whole partitions, not single messages.

        The next fetch joins again. So an application that hangs keeps nothing, and one that only
        forgot a message gets it again, or another consumer does.
        """
        with self._polling:
            self._consumer.membership.leave()
            deadline = time.monotonic() + LEAVE_TIMEOUT_SECONDS
            while self._consumer.assignment and time.monotonic() < deadline:
                self._consumer.collect(1, 1, JOIN_POLL_SECONDS)

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
            self._consumer.membership.end()
