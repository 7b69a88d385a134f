"""`BrokerInterface`, written once for every broker over the handler's hooks.

A handler subclasses `BrokerCore`, sets `name` and `cloudevents_prefix`, and fills in the hooks
(`core.hooks`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NoReturn

from DurableText.program.forks import Opener
from MessageBroker import limits
from MessageBroker.broker_interface import (
    CLOSE_TIMEOUT_SECONDS,
    BrokerInterface,
    OutgoingMessage,
    dead_letter_topic,
    default_subscription,
    is_dead_letter_topic,
)
from MessageBroker.configuration import DeliverySettings
from MessageBroker.core.dead_letter import dead_letter_attributes, text_of
from MessageBroker.core.driver import AwaitedBatch, Batch
from MessageBroker.core.ending import Ending
from MessageBroker.core.hooks import HandlerHooks
from MessageBroker.core.outage import Outage
from MessageBroker.core.subscription import CLOSE_SECONDS, SubscriptionCore
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    PublishError,
    TopicNotFoundError,
    topic_not_found,
)
from MessageBroker.subscription_interface import Subscription

if TYPE_CHECKING:
    from MessageBroker.message import Message

logger = logging.getLogger(__name__)

# A year: as good as for ever, and no client reckons beyond what it can (s).
LONGEST_WAIT_SECONDS = 365 * 24 * 3600.0


class BrokerCore(HandlerHooks, BrokerInterface):
    """Argument checks, limits, confirmation of publications, dead letters and life cycle."""

    def __init__(self, delivery: DeliverySettings | None = None) -> None:
        """Prepare the shared part.

        Args:
            delivery: how messages are delivered; None for the defaults.
        """
        self.delivery = delivery or DeliverySettings()
        # Those of the pipeline, which the factory knows: `ping` asks whoever serves them, too.
        self.configured_topics: Sequence[str] = ()
        self._opener = Opener(f"the {self.name} broker", ConfigurationError)
        self._lock = threading.Lock()
        self._confirmed = threading.Condition(self._lock)
        self._in_flight: set[Batch] = set()
        self._known_topics: set[str] = set()
        self._subscriptions: set[SubscriptionCore] = set()
        self._outage = Outage()  # of publishers and consumers together
        self._closed = False

    # ------------------------------------------------------------------ topics

    def create_topic(self, topic: str, *, subscription_id: str | None = None) -> bool:
        self._require_open()
        limits.check_name(topic, "topic")
        subscription_id = subscription_id or default_subscription(topic)
        limits.check_name(subscription_id, "subscription")
        wanted = {topic: subscription_id}
        if not is_dead_letter_topic(topic):
            letters = dead_letter_topic(topic)
            # Made first: whoever sees the topic may rely on its dead-letter topic.
            wanted = {letters: default_subscription(letters), **wanted}
        created = self._create_topics(wanted)
        self._known_topics.update(wanted)
        return topic in created

    def delete_topic(self, topic: str) -> bool:
        self._require_open()
        limits.check_name(topic, "topic")
        self._known_topics.discard(topic)
        return self._delete_topic(topic)

    def list_topics(self) -> list[str]:
        self._require_open()
        return sorted(self._list_topics())

    # ------------------------------------------------------------------ publishing

    def prepare_publishing(self, topic: str) -> None:
        self._require_topic(topic)
        self._prepare_publishing(topic)

    def publish(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Future[str]:
        limits.check_publishable(topic)
        size = limits.check_message(data, key, attributes or {})
        # The caller may change its attributes before they are sent.
        return self._publish(topic, OutgoingMessage(data, key, dict(attributes or {})), size)

    def publish_batch(self, topic: str, messages: Sequence[OutgoingMessage]) -> list[str]:
        limits.check_publishable(topic)
        check = limits.check_message
        sizes = [check(each.data, each.key, each.attributes or {}) for each in messages]
        self._require_topic(topic)
        if not messages:
            return []
        batch = AwaitedBatch(topic, messages, sizes)
        self._begin(batch)
        try:
            self._send(batch)
            self._await(batch)
        finally:
            self._end(batch)
        if batch.errors:
            self._raise_errors(batch)
        return batch.ids

    def publish_dead_letter(
        self,
        topic: str,
        data: bytes,
        *,
        reason: str,
        error: BaseException | str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> Future[str]:
        limits.check_publishable(topic)
        limits.check_message(data, None, attributes or {})
        text = text_of(reason, error)
        letter = dead_letter_attributes(
            attributes or {}, topic=topic, message_id="", attempts=0, reason=reason, error=text
        )
        return self.publish_unchecked(dead_letter_topic(topic), data, None, letter)

    def publish_unchecked(
        self, topic: str, data: bytes, key: str | None, attributes: Mapping[str, str]
    ) -> Future[str]:
        """Publish what passed the limits once: dead letters, and those that are replayed."""
        message = OutgoingMessage(data, key, dict(attributes))
        return self._publish(topic, message, limits.size_of(message))

    def _publish(self, topic: str, message: OutgoingMessage, size: int) -> Future[str]:
        self._require_topic(topic)
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()  # what was given to the broker cannot be cancelled

        def settled() -> None:
            self._end(batch)
            error = batch.errors.get(0)
            if error is None:
                future.set_result(batch.ids[0])
            else:
                self._look_up_again(topic, error)
                future.set_exception(error)

        batch = Batch(topic, [message], [size], settled)
        self._begin(batch)
        try:
            self._send(batch)
        except BaseException:
            self._end(batch)
            raise
        return future

    def flush(self, timeout: float) -> None:
        self._require_open()
        if not self._wait_for_confirmations(timeout):
            with self._lock:
                waiting = sum(len(batch.messages) for batch in self._in_flight)
            raise BrokerUnavailableError(
                f"{self.name}: {waiting} messages are not confirmed after "
                f"{timeout:g} seconds; they are still being tried"
            )

    def _begin(self, batch: Batch) -> None:
        with self._lock:
            if self._closed:
                raise self._closed_error()
            self._in_flight.add(batch)

    def _end(self, batch: Batch) -> None:
        with self._lock:
            self._in_flight.discard(batch)
            self._confirmed.notify_all()

    def _look_up_again(self, topic: str, error: BrokerError) -> None:
        if isinstance(error, TopicNotFoundError):
            self._known_topics.discard(topic)

    def _raise_errors(self, batch: Batch) -> NoReturn:
        topic, size = batch.topic, len(batch.messages)
        failures = dict(sorted(batch.errors.items()))
        for error in failures.values():
            self._look_up_again(topic, error)
        first: BrokerError = next(iter(failures.values()))
        whole = (TopicNotFoundError, ClosedError, AuthenticationError)
        if isinstance(first, whole) and len(failures) == size:
            raise first
        raise PublishError(
            f"{len(failures)} of {size} messages were not published to {topic!r}; "
            f"the first error: {first}",
            failures,
        )

    def _wait_for_confirmations(self, timeout: float) -> bool:
        with self._lock:
            awaited = set(self._in_flight)
            return self._confirmed.wait_for(
                lambda: awaited.isdisjoint(self._in_flight), _bounded(timeout)
            )

    def _require_topic(self, topic: str) -> None:
        self._require_open()
        if topic not in self._known_topics:
            if not self._has_topic(topic):
                raise topic_not_found(f"{self.name}: there is no topic {topic!r}", topic)
            self._known_topics.add(topic)

    # ------------------------------------------------------------------ consuming

    def subscribe(self, topic: str, subscription_id: str | None = None) -> Subscription:
        self._require_open()
        limits.check_name(topic, "topic")
        subscription_id = subscription_id or default_subscription(topic)
        limits.check_name(subscription_id, "subscription")
        self._require_topic(topic)
        stream = self._open_stream(topic, subscription_id)
        subscription = SubscriptionCore(
            topic,
            subscription_id,
            stream,
            self.delivery,
            self.publish_unchecked,
            self._subscriptions.discard,
            self._outage,
        )
        with self._lock:
            closed = self._closed
            if not closed:
                self._subscriptions.add(subscription)
        if closed:  # while the stream was being opened
            subscription.close()
            raise self._closed_error()
        return subscription

    def delete_subscription(self, topic: str, subscription_id: str) -> bool:
        self._require_open()
        limits.check_name(topic, "topic")
        limits.check_name(subscription_id, "subscription")
        self._require_topic(topic)
        return self._delete_subscription(topic, subscription_id)

    def backlog(self, topic: str, subscription_id: str | None = None) -> int | None:
        self._require_open()
        limits.check_name(topic, "topic")
        subscription_id = subscription_id or default_subscription(topic)
        limits.check_name(subscription_id, "subscription")
        self._require_topic(topic)
        return self._backlog(topic, subscription_id)

    def read_place(self, place: str) -> list[Message]:
        """Read what stands at the place that a letter without a body names.

        Args:
            place: the letter's `dead_letter_place`.

        Returns:
            The message, or those of a batch. They are none of a subscription's.

        Raises:
            MessageNotFoundError: it is there no longer, or this broker cannot read it from there.
        """
        self._require_open()
        return self._read_place(place)

    def published_since_now(self, topic: str) -> Callable[[Message], bool]:
        """Return a test that is true of messages that were published after this call."""
        self._require_open()
        return self._published_since_now(topic)

    # ------------------------------------------------------------------ life cycle

    @property
    def _topics_to_ping(self) -> list[str]:
        """The configured topics and their dead-letter topics, be they there or not."""
        return [*self.configured_topics, *map(dead_letter_topic, self.configured_topics)]

    def ping(self, timeout: float) -> None:
        self._require_open()
        self._ping(_bounded(timeout))

    def close(self, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        if self._opener.is_another_process:
            return  # a child that ends: it is still in use by the parent
        with self._lock:
            if self._closed:
                return
            self._closed = True
        deadline = time.monotonic() + _bounded(timeout)
        self._wait_for_confirmations(timeout)
        self._close_subscriptions()
        left = max(0.0, deadline - time.monotonic())
        if not Ending(lambda: self._shutdown(left), "closing").wait(left + CLOSE_SECONDS):
            logger.warning(
                "%s: the clients were not let go within %g s: the broker does not answer",
                self.name,
                left + CLOSE_SECONDS,
            )
        with self._lock:
            unconfirmed = list(self._in_flight)
        for batch in unconfirmed:
            batch.fail_rest(ClosedError(f"{self.name} was closed before it had the message"))

    def _close_subscriptions(self) -> None:
        """Close them side by side: all of them may wait for the same broker."""
        closing = [(each, each.begin_to_close()) for each in list(self._subscriptions)]
        deadline = time.monotonic() + CLOSE_SECONDS
        for subscription, ending in closing:
            subscription.await_closed(ending, max(0.0, deadline - time.monotonic()))

    def _require_open(self) -> None:
        self._opener.require()
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the {self.name} broker was closed")


def _bounded(timeout: float) -> float:
    """Make seconds that every lock and every client takes: infinity, say, is none of them."""
    return min(max(0.0, timeout), LONGEST_WAIT_SECONDS)
