"""One consumer of one subscription, as the core sees it.

The core waits for messages a tenth of a second at a time. Threads pull meanwhile, and are never
cut short (`pulls`); what they bring waits in an inbox (`inbox`), its leases renewed like all others
(`leases`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from MessageBroker.configuration import DeliverySettings
from MessageBroker.core.driver import Stream
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    SubscriptionNotFoundError,
    topic_not_found,
)
from MessageBroker.google_pubsub.admin import PubSubSubscription, Topics
from MessageBroker.google_pubsub.connection import Connection
from MessageBroker.google_pubsub.errors import ResourceNotFoundError
from MessageBroker.google_pubsub.inbox import Inbox
from MessageBroker.google_pubsub.leases import Leases
from MessageBroker.google_pubsub.pulls import Pulls
from MessageBroker.message import Delivery, Message

# Nobody fetched for so long: others may have what was pulled ahead.
UNUSED_SECONDS = 2.0
# No answer to anything for so long: ask for one.
SILENCE_SECONDS = 3.0
PROBE_TIMEOUT_SECONDS = 3.0


class PubSubStream(Stream):
    """Fetches from the inbox, and settles deliveries with Pub/Sub."""

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        subscription: PubSubSubscription,
        delivery: DeliverySettings,
    ) -> None:
        """Begin to pull once something is fetched.

        Args:
            connection: to the project.
            topics: asked whether the subscription and its topic are there still.
            subscription: an existing one that can be pulled.
            delivery: the limits of what may be un-acked.
        """
        self._subscription = subscription
        self._topics = topics
        self._leases = Leases(connection, subscription.id)
        self._inbox = Inbox(delivery.max_outstanding_messages, delivery.max_outstanding_bytes)
        self._pulls = Pulls(connection, subscription, self._leases, self._inbox, self._explain)

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """Take from the inbox; the pulls run ahead by `max_messages`."""
        return self._inbox.fetch(max_messages, max_bytes, timeout)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge; those whose lease was over by our clock are late."""
        self._inbox.note_settled()
        late = self._leases.acknowledge(deliveries)
        self._inbox.note_answer()
        return late

    def renew(self, deliveries: Sequence[Delivery]) -> None:
        """Renew leases, also in the inbox, and find out whether the broker is there."""
        # A consumer without a stream would not keep others from later messages of its keys.
        if self._inbox.unused_seconds > UNUSED_SECONDS and not self._pulls.keyed:
            unused = self._inbox.clear()
            self._pulls.end_streams()
            self._leases.try_to_give_back(unused)
        self._inbox.note_settled()  # what the core has given up makes room too
        try:
            lapsed = self._leases.renew([*deliveries, *self._inbox.deliveries()])
            if self._inbox.silent_seconds > SILENCE_SECONDS:
                self._topics.probe(self._subscription, PROBE_TIMEOUT_SECONDS)
                self._inbox.note_answer()
        except BrokerUnavailableError as error:
            self._inbox.note_absence(error)
            raise
        except BrokerError as error:
            self._inbox.fail(self._explain(error))
            return
        if lapsed:
            self.on_lost(lapsed)

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back; where that fails, the messages come again when their leases end."""
        self._leases.try_to_give_back(deliveries)

    def way_back(self, message: Message) -> str:
        """See `Stream.way_back`: the topic keeps messages for a seek."""
        # The service takes a message's time from its own clock; a second before it is early enough.
        moment = message.publish_time - timedelta(seconds=1)
        return (
            f"its bytes come again with `gcloud pubsub subscriptions seek {self._subscription.id} "
            f"--time={moment.isoformat(timespec='seconds')}`, and all messages after it with them"
        )

    @property
    def ready(self) -> bool:
        """True while the broker answers."""
        return self._inbox.ready

    def close(self, deliveries: Sequence[Delivery]) -> None:
        """End the pulls, and give back all that they brought."""
        self._inbox.close()
        self._pulls.close()
        self._leases.give_back([*deliveries, *self._inbox.clear()])

    def _explain(self, error: BrokerError) -> BrokerError:
        """Say what was deleted: the topic, or the subscription alone."""
        if not isinstance(error, (ResourceNotFoundError, SubscriptionNotFoundError)):
            return error
        with suppress(BrokerError):
            topic = self._subscription.topic
            if not self._topics.has(topic):
                return topic_not_found(f"Pub/Sub: the topic {topic!r} was deleted", topic)
        return SubscriptionNotFoundError(
            f"Pub/Sub: the subscription {self._subscription.id!r} was deleted: start again to "
            "make it anew"
        )
