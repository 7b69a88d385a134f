"""The producer, and the thread that hears from it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from confluent_kafka import KafkaError, KafkaException, Producer

from MessageBroker.core.driver import AwaitedBatch, Batch
from MessageBroker.core.outage import Outage
from MessageBroker.errors import BrokerError, ClosedError, PublishError, topic_not_found
from MessageBroker.kafka.cluster import Cluster
from MessageBroker.kafka.errors import MISSING_TOPIC, Right, error_of
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.handover import Handover
from MessageBroker.kafka.hearing import Hearing
from MessageBroker.kafka.lingering import (
    FIRST_PAUSE_SECONDS,
    FLUSH_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Lingering,
    without_a_clock,
)
from MessageBroker.kafka.record_times import RecordTimes, broker_gives_times
from MessageBroker.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

# How long the thread waits for something to report (s).
POLL_SECONDS = 0.1
# How long a publisher helps to take confirmations when the buffer is full (s).
ROOM_POLL_SECONDS = 0.05
# An idempotent producer asks for its id so long after it was made, neither earlier nor when it is
# needed (`rd_kafka_idemp_start` in librdkafka's `rdkafka_idempotence.c`), and then has it within a
# round trip; until then it sends nothing (s).
PRODUCER_ID_SECONDS = 0.55
# How long looking for a topic's brokers may take before they count as away (s).
LOOK_UP_SECONDS = 1.0
# After so many messages confirmations are taken: while one batch is sent, nobody else gets a turn.
CONFIRM_EVERY = 256
# What a ping of the brokers may take before they count as away (s).
PING_SECONDS = 1.0
DEAF = "the client has let go of its brokers, though they answer others: publish it again"
CLOSED = "kafka was closed before it had the message"
# What the client says of messages that it gives up.
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
# What it says of messages whose topic is not there; the last, of those that waited in a partition
# that it let go of.
GONE = MISSING_TOPIC | {KafkaError._DESTROY}
# Messages that come while the credentials are refused wait at least so long for them (s).
SURE_SECONDS = 5.0
# What the client needs after its queue was emptied, to report that (s).
PURGE_SECONDS = 2.0


class KafkaPublisher:
    """Sends publications, and confirms or fails each when the cluster has answered."""

    def __init__(self, settings: KafkaSettings, cluster: Cluster, outage: Outage) -> None:
        """Connect.

        Args:
            settings: the clients' properties.
            cluster: served now and then in this publisher's thread, and asked by its connection
                whether the brokers are there.
            outage: told when messages wait for brokers that are away, and when they answer.

        Raises:
            ConfigurationError: a property that the client library does not take.
        """
        self._where = f"Kafka at {settings.servers}"
        self._events = ClientEvents(settings)
        properties = settings.for_producer()
        self._client = self._events.open(Producer, without_a_clock(properties))
        self._lingering = Lingering(float(properties["linger.ms"]) / 1000)
        self._cluster = cluster
        self._outage = outage
        self._hearing = Hearing(lambda timeout: self._client.list_topics(timeout=timeout))
        self._unconfirmed = 0  # messages, when that was last looked at
        self._times = RecordTimes(lambda topic: broker_gives_times(cluster, topic))
        # What the client only supposes to be there: it is to be sent once more.
        self._supposed: deque[tuple[Handover, int]] = deque()
        self._closing = threading.Event()
        self._has_id_at = time.monotonic() + PRODUCER_ID_SECONDS
        self._end: KafkaError | None = None  # why this client can send no more
        self._refused_since: float | None = None
        self._senders = 0  # threads that hand over just now, or wait for all that they did
        self._resting = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name="kafka publisher", daemon=True)
        self._thread.start()

    def prepare(self, topic: str) -> None:
        """Wait for what the client needs before it can send the first message to `topic`."""
        with contextlib.suppress(KafkaException):  # nobody answers: then publishing waits
            self._client.list_topics(topic, LOOK_UP_SECONDS)
        self._closing.wait(max(0.0, self._has_id_at - time.monotonic()))

    def send(self, batch: Batch) -> None:
        """Hand over in order, waiting while the buffer is full."""
        with self._sending(goes_on=isinstance(batch, AwaitedBatch)):
            self._produce(batch)
            if self._end is not None:
                self._give_up(self._end)

    def await_settled(self, batch: AwaitedBatch) -> None:
        """Wait until all of a batch that was handed over are confirmed or failed.

        Nothing more comes to share a request with, so it is sent at once.
        """
        with self._sending():
            pause = FIRST_PAUSE_SECONDS
            while not batch.settled.is_set():
                self._flush()
                if not batch.settled.is_set():
                    self._poll(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @contextlib.contextmanager
    def _sending(self, *, goes_on: bool = False) -> Iterator[None]:
        """Let a sender take the confirmations, and the thread rest; afterwards too if it `goes_on`.

        Between two threads that run Python by turns each confirmation would cost two switches.
        """
        with self._resting:
            self._senders += 1
        try:
            yield
        finally:
            with self._resting:
                self._senders -= 1
                if len(self._client) and not goes_on:
                    self._resting.notify_all()

    def _produce(self, batch: Batch) -> None:
        handover = Handover(
            self._client, batch, self._times, self._events, self._explain, self._supposed
        )
        for number in range(len(batch.messages)):
            if number and not number % CONFIRM_EVERY:
                self._poll(0)
            while not handover.hand_over(number):
                # Taking the confirmations here is quicker than waiting for the thread.
                self._flush()
                self._poll(ROOM_POLL_SECONDS)
                if not self._goes_on:
                    batch.fail_rest(
                        self._explain(KafkaError(KafkaError._PURGE_QUEUE), batch.topic), number
                    )
                    return

    def close(self, timeout: float) -> None:
        """Give up what is not confirmed, and let the client go.

        Args:
            timeout: how long to wait for the thread, which may be asking brokers that do not
                answer (s).
        """
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(max(2 * POLL_SECONDS, timeout))
        if len(self._client):
            self._client.purge()
            self._client.flush(PURGE_SECONDS)
        self._send_once_more()  # which fails, and is told

    @property
    def is_at_its_end(self) -> bool:
        """Whether the brokers refuse this client for good: another one may be luckier."""
        return self._end is not None

    def retire(self) -> None:
        """Let the thread end, and the client go with it. Nothing is waited for any more."""
        self._closing.set()

    @property
    def _goes_on(self) -> bool:
        return self._end is None and not self._closing.is_set()

    def _flush(self) -> None:
        """Have the client send all that it holds and may send now."""
        self._report(self._client.flush, FLUSH_SECONDS)

    def _poll(self, seconds: float) -> None:
        """Let the client report."""
        self._report(self._client.poll, seconds)

    def _report(self, call: Callable[[float], object], seconds: float) -> None:
        try:
            call(seconds)
        except KafkaException as exception:  # it can never send again: see `enable.idempotence`
            self._give_up(error_of(exception))
        self._send_once_more()

    def _send_once_more(self) -> None:
        """Send what the client supposes to be there, see `Handover`; it may be there twice then."""
        with contextlib.suppress(IndexError):  # another thread was quicker
            while self._supposed:
                handover, number = self._supposed.popleft()
                if not self._goes_on:
                    handover.settle(number, KafkaError(KafkaError._PURGE_QUEUE), None)
                elif not handover.hand_over(number):
                    self._supposed.appendleft((handover, number))  # confirmations make room
                    return

    def _give_up(self, error: KafkaError) -> None:
        """Fail all that waits, with the reason why this client cannot send it."""
        if self._end is None:
            self._end = error
        self._client.purge()
        with contextlib.suppress(KafkaException):  # it says the same again
            self._client.flush(PURGE_SECONDS)
        self._send_once_more()  # which fails, and is told

    def _look_at_the_login(self) -> None:
        """Give up once messages have waited for too long for credentials to be taken again."""
        refused = self._events.refused_login() if len(self._client) else None
        if refused is None:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = time.monotonic()
        elif time.monotonic() - self._refused_since > SURE_SECONDS:
            self._give_up(refused)

    def _look_at_the_client(self) -> None:
        """Give up where the client hears of no broker any more, though they answer others."""
        if self._end is not None:
            return
        before, self._unconfirmed = self._unconfirmed, len(self._client)
        if not self._unconfirmed or self._unconfirmed < before:
            self._hearing.heard()
        if not self._hearing.is_due:
            return
        try:
            self._cluster.ping(PING_SECONDS)
        except BrokerError:
            self._hearing.missed()
            return
        self._hearing.others_heard()
        self._hearing.look()
        if self._hearing.is_deaf:
            self._give_up(KafkaError(KafkaError._TRANSPORT))

    def _explain(self, error: KafkaError, topic: str) -> BrokerError:
        refused = error.code() == KafkaError._FATAL
        if refused or error.code() in _PURGED:
            if self._end is None and not refused:
                return ClosedError(CLOSED)
            error = self._end or error
        tried = f"{self._where}: a message was not published to {topic!r}"
        if self._hearing.is_deaf:
            return BrokerError(f"{tried}: {DEAF}")
        if error.code() in GONE:
            return topic_not_found(f"{tried}: there is no such topic any more", topic)
        right = Right("WRITE", "topic", topic)
        if error.code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            right = dataclasses.replace(
                right, also="and before Kafka 2.8 IDEMPOTENT_WRITE on the cluster"
            )
        # It is the program that is refused then, and not a message.
        otherwise = BrokerError if refused else PublishError
        return self._events.explain(error, tried, right, otherwise=otherwise)

    def _listen(self) -> None:
        try:
            while not self._closing.is_set():
                self._listen_for_a_while()
        except Exception:  # a defect: nobody shall wait for a confirmation for ever
            logger.exception("%s: the publisher has failed", self._where)
            self._give_up(KafkaError(KafkaError._FAIL))
        finally:
            self._outage.leave(self)

    def _listen_for_a_while(self) -> None:
        if self._rest():
            # A sender may have been interrupted just where it says that it is one or is none.
            self._poll(0)
        else:
            self._poll(min(POLL_SECONDS, self._lingering.seconds_left))
            if not self._lingering.seconds_left:
                self._flush()
                self._lingering.flushed(len(self._client))
        self._cluster.serve()
        self._look_at_the_login()
        self._look_at_the_client()
        if not self._events.away:
            self._outage.end(self)
        elif len(self._client):
            self._outage.begin(self, self._events.unavailable())

    def _rest(self) -> bool:
        """Rest for a while if others take the confirmations, or none are due; tell if that is so.

        Were this thread at the client when a sender comes, it would be given the confirmation that
        the sender waits for, every second time.
        """
        with self._resting:
            if self._rests:
                self._resting.wait(POLL_SECONDS)
                self._lingering.begin()
            return self._rests

    @property
    def _rests(self) -> bool:
        return self._senders > 0 or not len(self._client)
