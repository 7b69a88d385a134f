"""The threads that bring messages from Pub/Sub into the inbox.

There are two ways, and each has what the other lacks.

A *pull* takes what the last fetch asked for and no more, so that a slow consumer leaves the rest to
others. Two are under way at once, as Google advises where pulls shall be fast. The emulator answers
them at 10,000 messages a second, and sends a stream 100 messages each 50 ms. But a pull is given no
more messages of a key while earlier ones of it are un-acked: an application that collects before
it acknowledges would wait for ever.

A *stream* goes on with its keys, and keeps later messages of them from others. But it belongs to
its consumer for as long as the service believes that the consumer lives: to one that was stopped it
would send again and again what is not acknowledged, and the emulator does so even to one that was
killed. So a stream lasts a few seconds. It is half-closed, which loses nothing, when all that it
brought is acknowledged, or soon after; another one is open meanwhile. Its time limit, which the
service keeps too, ends the stream of a consumer that cannot do so. A full inbox ends it too.

So a consumer begins with streams, turns to pulls when the first messages have no key, and back to
streams for good when one has.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.pubsub_v1 import PullRequest, StreamingPullRequest

from MessageBroker.core.clocks import boot_time
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
)
from MessageBroker.google_pubsub.admin import PubSubSubscription
from MessageBroker.google_pubsub.connection import Connection
from MessageBroker.google_pubsub.errors import NoAnswerInTimeError
from MessageBroker.google_pubsub.inbox import Inbox
from MessageBroker.google_pubsub.leases import (
    LEASE_SECONDS,
    RENEW_BELOW_SECONDS,
    Lease,
    Leases,
)
from MessageBroker.google_pubsub.messages import decode
from MessageBroker.message import IN_HAND, Delivery, DeliveryState, Message

logger = logging.getLogger(__name__)

THREADS = 2
# Pub/Sub gives no more.
MAX_PULL_MESSAGES = 1000
# A pull that is given up while its answer is on the way leaves messages to nobody for a lease.
# So pulls wait long, ...
PULL_TIMEOUT_SECONDS = 60.0
# ... but the emulator answers one second before the time is over, with nothing, and does not
# notice that a consumer was killed before that: it would go on to hand it messages.
EMULATOR_PULL_TIMEOUT_SECONDS = 1.4
STREAM_SECONDS = 4.0
# The emulator keeps later messages of a key from others only while the stream that brought the
# earlier ones is open: it may stay open so much longer until they are acknowledged.
STREAM_EXTENSION_SECONDS = 5.0
# Less than a lease: when the leases of a consumer that was stopped end, its streams are gone.
STREAM_TIMEOUT_SECONDS = 11.5
ACKNOWLEDGED_CHECK_SECONDS = 0.1
# What takes so much longer than it may was overtaken by its process being stopped.
OVERRUN_SECONDS = 3.0
# How much before an answer arrived the leases in it may have begun.
TRANSIT_SECONDS = 1.0
# Longer leases than this, of subscriptions that others made, are shortened after each pull.
MAX_LEASE_SECONDS = 15
# Time for pulls in progress to end by themselves before they are cancelled. Google's may wait long.
GRACE_SECONDS = 0.5
# The emulator goes on handing messages to cancelled ones; and its own end soon.
EMULATOR_GRACE_SECONDS = 3.0
JOIN_SECONDS = 5.0
MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 2.0


class Pulls:
    """The pulling threads of one consumer."""

    def __init__(
        self,
        connection: Connection,
        subscription: PubSubSubscription,
        leases: Leases,
        inbox: Inbox,
        explain: Callable[[BrokerError], BrokerError],
    ) -> None:
        """Start pulling once something is fetched.

        Args:
            connection: to the project.
            subscription: from which to pull.
            leases: gives back what cannot be used.
            inbox: where messages go; it bounds what may come.
            explain: says what an error means that ends the pulls.
        """
        self._connection = connection
        self._subscription = subscription
        self._leases = leases
        self._inbox = inbox
        self._explain = explain
        self._client = connection.new_subscriber()
        # Messages of a key go to all streams of one client id alike.
        self._client_id = str(uuid.uuid4())
        self._pull_timeout = PULL_TIMEOUT_SECONDS
        self._grace = GRACE_SECONDS
        if connection.emulator:
            self._pull_timeout = EMULATOR_PULL_TIMEOUT_SECONDS
            self._grace = EMULATOR_GRACE_SECONDS
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._under_way = 0  # pulls
        self._turning = threading.Lock()  # held until no pull is under way any more
        self._streaming = True
        self._keyed = False
        self._end_of_streams = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(number * STREAM_SECONDS / THREADS,),  # so that they do not end together
                name=f"pull {number + 1} of {subscription.id}",
                daemon=True,
            )
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def keyed(self) -> bool:
        """True once a message with a key was seen."""
        return self._keyed

    def end_streams(self) -> None:
        """Half-close the streams; new ones are opened when something is wanted."""
        with self._lock:
            self._end_of_streams.set()

    def close(self) -> None:
        """End all threads. The inbox was closed before."""
        self.end_streams()
        deadline = time.monotonic() + self._grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._client.transport.close()  # cancels what is still waiting
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _run(self, delay: float) -> None:
        """Pull or stream while something is wanted, and through outages."""
        backoff = MIN_BACKOFF_SECONDS
        while wanted := self._inbox.wait_for_demand(always=self._keyed):
            try:
                if self._streaming:
                    self._stream(STREAM_SECONDS + delay)
                    delay = 0.0
                else:
                    self._pull(wanted)
                backoff = MIN_BACKOFF_SECONDS
            except BrokerUnavailableError as error:
                self._inbox.note_absence(error)
                self._inbox.pause(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            except BrokerError as error:
                if not self._inbox.closed:
                    self._inbox.fail(self._explain(error))
                return
            except Exception as error:  # a defect: nobody shall wait for messages for ever
                name = self._subscription.id
                logger.exception("the subscription %s: a thread that pulls has failed", name)
                self._inbox.fail(
                    BrokerError(f"Pub/Sub: the subscription {name!r} failed by a defect: {error!r}")
                )
                return

    # ------------------------------------------------------------------ pulls

    def _pull(self, wanted: int) -> None:
        with self._lock:
            if self._streaming:
                return
            self._under_way += 1
        messages: list[Message] = []
        try:
            messages = self._wait_for_pull(min(wanted, MAX_PULL_MESSAGES))
        finally:
            self._inbox.put(messages)
            with self._lock:
                self._under_way -= 1
                self._returned.notify_all()
        if _has_keys(messages):
            self._turn_to_streams()

    def _wait_for_pull(self, max_messages: int) -> list[Message]:
        request = PullRequest(subscription=self._subscription.path, max_messages=max_messages)
        tried = f"pulling from the subscription {self._subscription.id!r}"
        started = boot_time()
        try:
            response = self._connection.call(self._client.pull, request, tried, self._pull_timeout)
        except NoAnswerInTimeError:
            if not self._streaming and not self._inbox.ready:
                raise
            # Nothing came; whether the broker is away, a probe finds out. The service's time may
            # be over before ours, and one that says so at once must not be asked without end.
            self._inbox.pause(MIN_BACKOFF_SECONDS)
            return []
        except (BrokerUnavailableError, ClosedError):
            if self._streaming:
                return []  # cancelled, for streams to begin
            raise
        return self._admit(
            response, started, self._pull_timeout, self._subscription.ack_deadline_seconds
        )

    def _turn_to_streams(self) -> None:
        """Wait for all pulls: a stream may bring what comes after messages that they bring."""
        with self._turning:
            with self._lock:
                self._streaming = self._keyed = True
                all_returned = self._returned.wait_for(self._no_pull_is_under_way, self._grace)
            if not all_returned:
                self._client.transport.close()
                with self._lock:
                    self._returned.wait_for(self._no_pull_is_under_way, JOIN_SECONDS)
                self._client = self._connection.new_subscriber()

    def _no_pull_is_under_way(self) -> bool:
        return self._under_way == 0

    # ------------------------------------------------------------------ streams

    def _stream(self, duration: float) -> None:
        with self._turning:
            pass
        with self._lock:
            if not self._streaming:
                return
            if self._end_of_streams.is_set() and not self._inbox.closed:
                self._end_of_streams = threading.Event()
            end = self._end_of_streams
        started = boot_time()
        brought: list[Delivery] = []
        answered = False
        refusal: ConfigurationError | None = None
        try:
            for response in self._connection.stream(
                self._client.streaming_pull,
                self._stream_requests(end, duration, brought),
                f"streaming from the subscription {self._subscription.id!r}",
                STREAM_TIMEOUT_SECONDS,
                to_grpc_metadata((("subscription", self._subscription.path),)),
            ):
                answered = True
                try:
                    self._take_from_stream(response, started, brought)
                except ConfigurationError as error:
                    refusal = error
                    end.set()  # and give back what comes until then
        except BrokerUnavailableError:
            # The service ends every stream with an error, also one that we have half-closed. Only
            # one that brought nothing and ended before its time says that the broker is away.
            lasted = boot_time() - started >= duration
            if not (answered or end.is_set() or (lasted and self._inbox.ready)):
                raise
        if refusal is not None:
            raise refusal

    def _stream_requests(
        self, end: threading.Event, duration: float, brought: Sequence[Delivery]
    ) -> Iterator[Any]:
        """Open a stream, and half-close it when its time is over, or at `end`."""
        max_messages, max_bytes = self._inbox.room()
        yield StreamingPullRequest(
            subscription=self._subscription.path,
            stream_ack_deadline_seconds=LEASE_SECONDS,
            client_id=self._client_id,
            max_outstanding_messages=max_messages,
            max_outstanding_bytes=max_bytes,
        )
        if end.wait(duration):
            return
        at_the_latest = time.monotonic() + STREAM_EXTENSION_SECONDS
        while any(_is_held(delivery) for delivery in tuple(brought)):
            if end.wait(ACKNOWLEDGED_CHECK_SECONDS) or time.monotonic() > at_the_latest:
                return

    def _take_from_stream(self, response: Any, started: float, brought: list[Delivery]) -> None:
        messages = self._admit(response, started, STREAM_TIMEOUT_SECONDS, LEASE_SECONDS)
        brought += [message.delivery for message in messages if message.key is not None]
        with self._lock:
            if _has_keys(messages):
                self._streaming = self._keyed = True
            elif messages and not self._keyed:
                self._streaming = False
                self._end_of_streams.set()
        self._inbox.put(messages)
        # The service counts what one stream brought, the emulator nothing: several streams, one
        # after another, would bring without end what a busy application does not take.
        if self._inbox.full:
            self.end_streams()

    # ------------------------------------------------------------------ what both bring

    def _admit(self, response: Any, started: float, timeout: float, lease: int) -> list[Message]:
        """Make messages of an answer, and see to their leases."""
        self._inbox.note_answer()
        now = boot_time()
        until = max(started, now - TRANSIT_SECONDS) + lease
        received = type(response).pb(response).received_messages
        topic = self._subscription.topic
        messages = [decode(each.message, topic, Lease(each.ack_id, until)) for each in received]
        deliveries = [message.delivery for message in messages]
        if now - started > timeout + OVERRUN_SECONDS:
            self._leases.try_to_give_back(deliveries)
            return []
        if not self._subscription.ordered and _has_keys(messages):
            self._leases.try_to_give_back(deliveries)
            raise self._not_ordered()
        if lease > MAX_LEASE_SECONDS:
            self._shorten(deliveries)
        return messages

    def _shorten(self, deliveries: list[Delivery]) -> None:
        try:
            self._leases.start(deliveries)
        except BrokerUnavailableError:
            # Dropped, they would be nobody's until their long leases end. The next renewal, within
            # a second, takes leases for due that seem to end soon.
            soon = boot_time() + RENEW_BELOW_SECONDS / 2
            for delivery in deliveries:
                delivery.handle.until = soon

    def _not_ordered(self) -> ConfigurationError:
        name = self._subscription.id
        return ConfigurationError(
            f"Pub/Sub: the subscription {name!r} has messages with keys, but no message ordering, "
            "which cannot be switched on later: delete it and make it again with "
            f"`gcloud pubsub subscriptions delete {name}` and `gcloud pubsub subscriptions create "
            f"{name} --topic={self._subscription.topic} --enable-message-ordering "
            f"--ack-deadline={LEASE_SECONDS} --expiration-period=never`"
        )


def _is_held(delivery: Delivery) -> bool:
    return delivery.state in IN_HAND or delivery.state is DeliveryState.HELD


def _has_keys(messages: list[Message]) -> bool:
    return any(message.key is not None for message in messages)
