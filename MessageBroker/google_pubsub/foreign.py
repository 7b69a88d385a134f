"""Subscriptions that somebody else made: what of their settings breaks a promise of ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from google.pubsub_v1 import Subscription, Topic

from MessageBroker.errors import ConfigurationError

# Ours keep messages for so long: a consumer may be away for a week-end and a Monday.
SHORT_RETENTION = timedelta(days=1)

# What is made by hand expires after 31 days, which is nobody's holiday; one day is the least.
SHORT_EXPIRY = timedelta(days=31)

# Whoever delivers elsewhere answers no pull. Fields of a subscription, and how each is ended.
_DELIVERED_ELSEWHERE = {
    "push_config": ("push_endpoint", "pushed to an endpoint", "--push-endpoint="),
    "bigquery_config": ("table", "written to BigQuery", "--clear-bigquery-config"),
    "bigtable_config": ("table", "written to Bigtable", "--clear-bigtable-config"),
    "cloud_storage_config": ("bucket", "written to Cloud Storage", "--clear-cloud-storage-config"),
}


def require_pull(subscription_id: str, found: Subscription) -> None:
    """Make sure that messages of a subscription come to whoever pulls, and late acks are harmless.

    Raises:
        ConfigurationError: they do not; it says what to change.
    """
    update = f"gcloud pubsub subscriptions update {subscription_id}"
    for field, (within, said, option) in _DELIVERED_ELSEWHERE.items():
        if getattr(getattr(found, field, None), within, ""):
            raise ConfigurationError(
                f"Pub/Sub: the messages of the subscription {subscription_id!r} are {said}, not "
                f"pulled: change it with `{update} {option}`, or choose another id"
            )
    if found.detached:
        raise ConfigurationError(
            f"Pub/Sub: the subscription {subscription_id!r} was detached from its topic: delete it "
            f"with `gcloud pubsub subscriptions delete {subscription_id}`; the next start makes it "
            "again"
        )
    if found.enable_exactly_once_delivery:
        # With it the service answers INVALID_ARGUMENT to requests that hold a lease that is
        # over, and acks and renewals that are late have to be harmless.
        raise ConfigurationError(
            f"Pub/Sub: the subscription {subscription_id!r} has exactly-once delivery, with which "
            f"late acks are errors: switch it off with `{update} "
            "--no-enable-exactly-once-delivery`"
        )


def remarks(subscription_id: str, found: Subscription) -> Iterator[str]:
    """Say which messages a subscription will not bring, though it can be used."""
    update = f"gcloud pubsub subscriptions update {subscription_id}"
    beginning = f"Pub/Sub: the subscription {subscription_id!r}"
    if found.filter:
        yield (
            f"{beginning} has a filter: messages that do not fit it never come. A filter cannot be "
            f"changed: delete it with `gcloud pubsub subscriptions delete {subscription_id}`, and "
            "the next start makes it again without one"
        )
    if found.dead_letter_policy.dead_letter_topic:
        yield (
            f"{beginning} has a dead-letter policy of its own: it counts deliveries, crashes too, "
            "and takes good messages away without a reason beside them: remove it with "
            f"`{update} --clear-dead-letter-policy`"
        )
    if found.message_transforms:
        yield (
            f"{beginning} changes or drops messages by functions of its own: remove them with "
            f"`{update} --clear-message-transforms`"
        )
    retention = found.message_retention_duration
    if retention and retention < SHORT_RETENTION:
        minutes = round(retention.total_seconds() / 60)
        yield (
            f"{beginning} keeps messages for {minutes} minutes only: what a consumer is away for "
            f"longer is lost: `{update} --message-retention-duration=7d`"
        )
    expiry = found.expiration_policy.ttl
    if expiry and expiry < SHORT_EXPIRY:
        yield (
            f"{beginning} is deleted after {expiry.days} days without a consumer, and what it "
            f"holds with it: `{update} --expiration-period=never`"
        )


def remarks_of_topic(topic: str, found: Topic) -> Iterator[str]:
    """Say what cannot be brought back of a topic, though it can be used."""
    if not found.message_retention_duration:
        yield (
            f"Pub/Sub: the topic {topic!r} keeps nothing that was acknowledged: the bytes of a "
            "message too large for its dead-letter topic are gone then: `gcloud pubsub topics "
            f"update {topic} --message-retention-duration=7d`"
        )
