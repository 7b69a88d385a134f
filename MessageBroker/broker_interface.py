"""The contract: what every broker promises, whichever handler stands behind it.

What a consumer does with its messages is `subscription_interface`'s part of it.

One conformance suite (`MessageBroker/conformance`) states these behaviours and runs them against
every handler. A behaviour that differs is a bug in a handler, never a footnote.

**Delivery** is at least once. Each subscription gets every message published after it was
created; the consumers of one subscription share its messages. `<topic>-sub`, made together with
the topic, therefore gets all of them.

**Order.** Messages of the same key arrive in the order of their publication. After the death of
a consumer, messages of its keys may come again. Messages without a key have no order.

**Attempts** count nacks only, in the process where they happened. Deliveries and crashes do not
count: a consumer that is killed five times must not cost a good message. At
`max_delivery_attempts` a message goes to the dead-letter topic.

**Failover.** The messages of a consumer that was killed, stopped or lost its host go to others
within 15 seconds. A live process keeps its messages while it works on them, up to
`max_lease_seconds`; until then time alone redelivers nothing.

**Outage.** A broker that goes away in mid-run is waited for without limit: nothing is lost and
nothing fails. One that is not there at the start is a `BrokerUnavailableError`.

**Limits** are the same everywhere and are checked before anything is sent; see
`MessageBroker.limits`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from DurableText.program.closing import ClosedAtExit
from MessageBroker.subscription_interface import Subscription

DEAD_LETTER_SUFFIX = "-dead-letter"
SUBSCRIPTION_SUFFIX = "-sub"

# Long enough for what is in flight on a healthy broker, short enough for a person at a terminal.
CLOSE_TIMEOUT_SECONDS = 30.0


def dead_letter_topic(topic: str) -> str:
    """Name the topic that takes the messages of `topic` that nobody could process."""
    return topic + DEAD_LETTER_SUFFIX


def is_dead_letter_topic(topic: str) -> bool:
    """Tell whether `topic` holds dead letters. Such a topic has no dead letters of its own."""
    return topic.endswith(DEAD_LETTER_SUFFIX)


def default_subscription(topic: str) -> str:
    """Name the subscription that is made together with `topic`, and misses nothing."""
    return topic + SUBSCRIPTION_SUFFIX


class OutgoingMessage(NamedTuple):
    """One message to publish with `BrokerInterface.publish_batch`. A tuple: there are very many."""

    data: bytes
    key: str | None = None
    attributes: Mapping[str, str] | None = None


class BrokerInterface(ClosedAtExit):
    """A message broker. All methods may be called from any thread.

    It is a context manager: leaving it closes it.
    """

    name: str
    """`kafka`, `pubsub` or `local`."""

    cloudevents_prefix: str
    """What stands before CloudEvents attributes in this broker's protocol binding."""

    @abstractmethod
    def create_topic(self, topic: str, *, subscription_id: str | None = None) -> bool:
        """Create a topic, its default subscription, and its dead-letter topic with subscription.

        Returns when all of them can be used. Calling it again, or from two processes at once, is
        fine. Where all names exist already, no right to create is needed.

        Args:
            topic: `[A-Za-z][A-Za-z0-9._-]{2,229}`, not beginning with `goog`.
            subscription_id: the default subscription's name; None is `<topic>-sub`.

        Returns:
            True if the topic is new.

        Raises:
            ConfigurationError: a name that not every broker takes, or a subscription that
                belongs to another topic.
            AuthenticationError, BrokerUnavailableError: within 10 seconds.
        """

    @abstractmethod
    def delete_topic(self, topic: str) -> bool:
        """Delete a topic with its subscriptions. Its dead-letter topic stays.

        Returns:
            True if it was there.
        """

    @abstractmethod
    def list_topics(self) -> list[str]:
        """List all topics by name, dead-letter topics too, the broker's internal ones not."""

    def prepare_publishing(self, topic: str) -> None:
        """Get ready, so that the first message to `topic` takes no longer than those that follow.

        Publishing does so by itself. This is for a program that rather waits before its first
        message than with it: half a second, or one where the broker is away, which it does not
        tell. A topic that is not known yet is looked up before, as `publish` does.

        Raises:
            TopicNotFoundError: as `publish`.
            ClosedError: after `close`.
        """

    @abstractmethod
    def publish(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Future[str]:
        """Publish one message, asynchronously and batched with others.

        Blocks while the client's buffer is full (back-pressure); never drops.

        Args:
            topic: an existing topic.
            data: the body.
            key: messages of one key keep their order; "" is None.
            attributes: at most 90.

        Returns:
            A future with the message's id, once the broker has it durably. It fails only with an
            error that trying again cannot cure, or with `ClosedError` when `close` gave up
            waiting. Its callbacks run in the thread that confirms: they may publish more, but
            should not wait.

        Raises:
            TopicNotFoundError: within 10 seconds, also where a broker creates topics by itself.
            MessageTooLargeError: the message is over a limit.
            ConfigurationError: a name that not every broker takes, or a dead-letter topic.
            PublishError: an attribute that not every broker takes.
            ClosedError: after `close`.
        """

    @abstractmethod
    def publish_batch(self, topic: str, messages: Sequence[OutgoingMessage]) -> list[str]:
        """Publish many messages and wait until the broker has all of them durably.

        Returns:
            Their ids, in the order of `messages`.

        Raises:
            PublishError: `failures` names those that failed; all others are published. What is
                wrong with a message's size or names is raised before anything is sent.
            TopicNotFoundError, MessageTooLargeError, ConfigurationError, ClosedError: as
                `publish`.
        """

    @abstractmethod
    def publish_dead_letter(
        self,
        topic: str,
        data: bytes,
        *,
        reason: str,
        error: BaseException | str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> Future[str]:
        """Publish to `<topic>-dead-letter` what cannot become a message of `topic`.

        For what was found before it was published: a damaged line of a queue, say. What was
        received goes there with `Subscription.dead_letter`.

        Args:
            topic: the topic to which it would have gone.
            data: the original bytes.
            reason: as in `Subscription.dead_letter`.
            error: the details; cut to fit an attribute.
            attributes: what else is known of it; the limits are those of `publish`.

        Returns:
            As `publish`.

        Raises:
            TypeError, MessageTooLargeError, PublishError: as `publish`; or the reason or the error
                is of another type.
        """

    @abstractmethod
    def flush(self, timeout: float) -> None:
        """Wait until all that was published so far is confirmed.

        Raises:
            BrokerUnavailableError: some was not, after `timeout` seconds. It is still being tried.
        """

    @abstractmethod
    def subscribe(self, topic: str, subscription_id: str | None = None) -> Subscription:
        """Begin to consume a subscription; create it if it is missing.

        Returns once nothing that is published from now on can be missed.

        Args:
            topic: an existing topic.
            subscription_id: the Kafka consumer group, the Pub/Sub subscription id. None is
                `<topic>-sub`. An id belongs to one topic.

        Raises:
            TopicNotFoundError: within 10 seconds.
            ConfigurationError: the id belongs to another topic.
        """

    @abstractmethod
    def delete_subscription(self, topic: str, subscription_id: str) -> bool:
        """Delete a subscription, and what it had still to get. Nobody consumes it any more.

        Returns:
            True if it was there.

        Raises:
            TopicNotFoundError: there is no such topic.
            ConfigurationError: the id belongs to another topic.
        """

    @abstractmethod
    def backlog(self, topic: str, subscription_id: str | None = None) -> int | None:
        """Count the messages not yet acknowledged; None where the broker cannot tell.

        Raises:
            TopicNotFoundError, SubscriptionNotFoundError: the name does not exist.
        """

    @abstractmethod
    def ping(self, timeout: float) -> None:
        """Check that the broker answers and takes the credentials.

        Raises:
            BrokerUnavailableError, AuthenticationError, ConfigurationError: within `timeout`
                seconds, with one line that says what to do.
        """

    @abstractmethod
    def close(self, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Flush what was published, for up to `timeout` seconds, and give back what is un-acked.

        Where the broker does not answer, giving back takes up to 20 seconds more; the log says so
        then. Twice is fine; any other call afterwards raises `ClosedError`.
        """
