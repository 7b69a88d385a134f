"""Topics and subscriptions: making, finding and deleting them.

Everything is looked up before it is made: whoever may only publish or consume needs no right to
create. Two processes may do all of it at once.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.pubsub_v1 import (
    DeleteSubscriptionRequest,
    DeleteTopicRequest,
    ExpirationPolicy,
    GetSubscriptionRequest,
    GetTopicRequest,
    ListTopicsRequest,
    ListTopicSubscriptionsRequest,
    Subscription,
    Topic,
)

from MessageBroker.broker_interface import is_dead_letter_topic
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
    topic_not_found,
)
from MessageBroker.google_pubsub.connection import ADMIN_TIMEOUT_SECONDS, Connection
from MessageBroker.google_pubsub.errors import ResourceExistsError, ResourceNotFoundError
from MessageBroker.google_pubsub.foreign import remarks, remarks_of_topic, require_pull
from MessageBroker.google_pubsub.leases import LEASE_SECONDS

logger = logging.getLogger(__name__)

RETENTION = timedelta(days=7)
# The longest that Pub/Sub keeps anything.
DEAD_LETTER_RETENTION = timedelta(days=31)
# What Pub/Sub puts in the place of a topic that was deleted.
DELETED_TOPIC = "_deleted-topic_"
# Rounds of looking and making, when others make and delete at the same time.
ROUNDS = 5


def retention_of(topic: str, *, emulated: bool) -> timedelta | None:
    """Tell for how long a topic keeps its messages, so that a seek brings acknowledged ones back.

    The emulator cannot seek, and gives a new subscription all that a topic keeps.
    """
    if is_dead_letter_topic(topic):
        return DEAD_LETTER_RETENTION
    return None if emulated else RETENTION


@dataclass(frozen=True)
class PubSubSubscription:
    """What a consumer has to know of its subscription; `found` is all that the service tells."""

    id: str
    path: str
    topic_path: str
    ack_deadline_seconds: int
    ordered: bool
    found: Subscription

    @property
    def topic(self) -> str:
        """The topic's name, without its project."""
        return self.topic_path.rpartition("/")[2]


class Topics:
    """The topics and subscriptions of one project."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ------------------------------------------------------------------ topics

    def has(self, topic: str) -> bool:
        """Look a topic up.

        Raises:
            ConfigurationError: there is no such project.
        """
        try:
            self._get_topic(topic)
        except ResourceNotFoundError:
            self._check_project()
            return False
        return True

    def _get_topic(self, topic: str) -> Topic:
        request = GetTopicRequest(topic=self._connection.topic_path(topic))
        rpc = self._connection.publisher.get_topic
        found: Topic = self._connection.administrate(
            rpc, request, f"looking up the topic {topic!r}"
        )
        return found

    def create(self, topic: str) -> bool:
        """Create a topic if it is missing; True if it was."""
        if self.has(topic):
            return False
        request = Topic(name=self._connection.topic_path(topic))
        request.message_retention_duration = retention_of(
            topic, emulated=bool(self._connection.emulator)
        )
        rpc = self._connection.publisher.create_topic
        try:
            self._connection.administrate(rpc, request, f"creating the topic {topic!r}")
        except ResourceExistsError:
            return False
        return True

    def delete(self, topic: str) -> bool:
        """Delete a topic, then its subscriptions: one that is left over is of no topic.

        Raises:
            BrokerError: of the first subscription that could not be deleted; all were tried.
        """
        path = self._connection.topic_path(topic)
        rpc = self._connection.publisher.list_topic_subscriptions
        tried = f"deleting the topic {topic!r}"
        try:
            subscriptions = self._connection.administrate(
                _all_pages(rpc), ListTopicSubscriptionsRequest(topic=path), tried
            )
            self._connection.administrate(
                self._connection.publisher.delete_topic, DeleteTopicRequest(topic=path), tried
            )
        except ResourceNotFoundError:
            return False
        failures: list[BrokerError] = []
        for subscription in subscriptions:
            try:
                self._delete_subscription(subscription)
            except BrokerError as error:  # the topic is gone: the others have to go too
                failures.append(error)
        if failures:
            raise failures[0]
        return True

    def list_names(self) -> list[str]:
        """Name all topics.

        Raises:
            ConfigurationError: there is no such project.
        """
        listed = self._list(_all_pages(self._connection.publisher.list_topics))
        return [topic.name.rpartition("/")[2] for topic in listed]

    def ping(self, timeout: float) -> None:
        """Ask for the first of the topics: the least that shows that the service answers.

        Raises:
            ConfigurationError: there is no such project.
        """
        deadline = time.monotonic() + timeout
        self._connection.prepare(timeout)
        left = max(0.1, deadline - time.monotonic())
        self._list(self._connection.publisher.list_topics, left)

    def _list(self, rpc: Callable[..., Any], timeout: float = ADMIN_TIMEOUT_SECONDS) -> Any:
        project = self._connection.project_id
        request = ListTopicsRequest(project=f"projects/{project}")
        try:
            return self._connection.administrate(rpc, request, "listing the topics", timeout)
        except ResourceNotFoundError as error:
            raise ConfigurationError(
                f"{error}: there is no project {project!r}: correct project_id in "
                "pubsub_config.ini, or GOOGLE_CLOUD_PROJECT"
            ) from None

    def _check_project(self) -> None:
        """NOT_FOUND may mean the topic or the project: only the list of topics tells."""
        with suppress(AuthenticationError):  # it may not list topics: so there is a project
            self.ping(ADMIN_TIMEOUT_SECONDS)

    # ------------------------------------------------------------------ subscriptions

    def check_subscription(self, topic: str, subscription_id: str) -> PubSubSubscription:
        """Look a subscription of `topic` up.

        Raises:
            SubscriptionNotFoundError: there is none.
            ConfigurationError: it belongs to another topic.
        """
        found = self._get(subscription_id, ADMIN_TIMEOUT_SECONDS)
        if found.topic_path == DELETED_TOPIC:
            raise SubscriptionNotFoundError(
                f"Pub/Sub: the topic of the subscription {subscription_id!r} was deleted: "
                f"`python -m MessageBroker topics create {topic}` makes it again"
            )
        if found.topic_path != self._connection.topic_path(topic):
            raise ConfigurationError(
                f"Pub/Sub: the subscription {subscription_id!r} belongs to "
                f"{found.topic_path!r}, not to {topic!r}: choose another id"
            )
        return found

    def require_subscription(self, topic: str, subscription_id: str) -> None:
        """Make sure that a topic has a subscription.

        Raises:
            TopicNotFoundError: the topic is gone.
            SubscriptionNotFoundError: it has none of this id; another topic may have.
        """
        try:
            found = self._get(subscription_id, ADMIN_TIMEOUT_SECONDS)
        except SubscriptionNotFoundError:
            if self.has(topic):
                raise
            raise self._no_topic(topic) from None
        if found.topic_path == self._connection.topic_path(topic):
            return
        if not self.has(topic):
            raise self._no_topic(topic)
        raise SubscriptionNotFoundError(
            f"Pub/Sub: the topic {topic!r} has no subscription {subscription_id!r}, which belongs "
            f"to {found.topic_path!r}"
        )

    def ensure_subscription(self, topic: str, subscription_id: str) -> PubSubSubscription:
        """Look a subscription of `topic` up, and create it if it is missing.

        Raises:
            TopicNotFoundError: the topic is gone.
            ConfigurationError: the subscription belongs to another topic, or cannot be pulled.
        """
        for _ in range(ROUNDS):
            try:
                found = self._get(subscription_id, ADMIN_TIMEOUT_SECONDS)
            except SubscriptionNotFoundError:
                self._create_subscription(topic, subscription_id)
                continue
            if found.topic_path != DELETED_TOPIC:
                break
            logger.warning(
                "the topic of the subscription %s was deleted: making the subscription again for "
                "%s; what it had not delivered is lost",
                subscription_id,
                topic,
            )
            self._delete_subscription(self._connection.subscription_path(subscription_id))
        subscription = self.check_subscription(topic, subscription_id)
        require_pull(subscription_id, subscription.found)
        return subscription

    def subscribe(self, topic: str, subscription_id: str) -> PubSubSubscription:
        """Do what `ensure_subscription` does, and say what messages it would not bring."""
        subscription = self.ensure_subscription(topic, subscription_id)
        for remark in remarks(subscription_id, subscription.found):
            logger.warning("%s", remark)
        if self._connection.emulator:
            return subscription  # see `retention_of`
        with suppress(AuthenticationError):  # whoever may only consume may not look at a topic
            for remark in remarks_of_topic(topic, self._get_topic(topic)):
                logger.warning("%s", remark)
        return subscription

    def delete_subscription(self, topic: str, subscription_id: str) -> bool:
        """Delete a subscription of `topic`; False if it was not there.

        Raises:
            ConfigurationError: it belongs to another topic.
        """
        try:
            found = self.check_subscription(topic, subscription_id)
        except SubscriptionNotFoundError:
            return False
        self._delete_subscription(found.path)
        return True

    def probe(self, subscription: PubSubSubscription, timeout: float) -> None:
        """Ask for a subscription, to see whether the service answers and it is still there.

        Raises:
            BrokerUnavailableError: it does not answer.
            TopicNotFoundError, SubscriptionNotFoundError: one of them was deleted.
        """
        try:
            found = self._get(subscription.id, timeout)
        except AuthenticationError:
            return  # an answer, all the same
        if found.topic_path == DELETED_TOPIC:
            topic = subscription.topic
            raise topic_not_found(f"Pub/Sub: the topic {topic!r} was deleted", topic)

    def _get(self, subscription_id: str, timeout: float) -> PubSubSubscription:
        request = GetSubscriptionRequest(
            subscription=self._connection.subscription_path(subscription_id)
        )
        rpc = self._connection.subscriber.get_subscription
        tried = f"looking up the subscription {subscription_id!r}"
        try:
            found: Subscription = self._connection.administrate(rpc, request, tried, timeout)
        except ResourceNotFoundError as error:
            raise SubscriptionNotFoundError(
                f"{error}: subscribe to it, or create its topic with `python -m MessageBroker "
                "topics create`, which makes its default subscription"
            ) from None
        return PubSubSubscription(
            subscription_id,
            request.subscription,
            found.topic,
            found.ack_deadline_seconds,
            found.enable_message_ordering,
            found,
        )

    def _create_subscription(self, topic: str, subscription_id: str) -> None:
        # The emulator takes no more than 7 days.
        is_long = is_dead_letter_topic(topic) and not self._connection.emulator
        request = Subscription(
            name=self._connection.subscription_path(subscription_id),
            topic=self._connection.topic_path(topic),
            # What is on its way to a consumer that dies is leased for so long.
            ack_deadline_seconds=LEASE_SECONDS,
            enable_message_ordering=True,  # cannot be switched on later
            message_retention_duration=DEAD_LETTER_RETENTION if is_long else RETENTION,
            expiration_policy=ExpirationPolicy(),  # without a time: never
        )
        rpc = self._connection.subscriber.create_subscription
        tried = f"creating the subscription {subscription_id!r}"
        try:
            self._connection.administrate(rpc, request, tried)
        except ResourceExistsError:
            pass  # somebody else did
        except ResourceNotFoundError:
            raise self._no_topic(topic) from None

    def _no_topic(self, topic: str) -> TopicNotFoundError:
        where = self._connection.where
        return topic_not_found(f"Pub/Sub: there is no topic {topic!r} in {where}", topic)

    def _delete_subscription(self, path: str) -> None:
        rpc = self._connection.subscriber.delete_subscription
        tried = f"deleting the subscription {path.rpartition('/')[2]!r}"
        with suppress(ResourceNotFoundError):  # somebody else did
            self._connection.administrate(rpc, DeleteSubscriptionRequest(subscription=path), tried)


def _all_pages(rpc: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Make a listing ask for all pages at once, so that an error in any of them is caught."""

    @functools.wraps(rpc)  # its name tells the permission that it needs
    def all_pages(**arguments: Any) -> list[Any]:
        return list(rpc(**arguments))

    return all_pages
