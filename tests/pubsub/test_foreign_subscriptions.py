"""Subscriptions that others made: what they would not bring is told when they are subscribed to."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from google.pubsub_v1 import Topic

from MessageBroker import ConfigurationError
from MessageBroker.google_pubsub.foreign import remarks_of_topic
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.brokers.harness import BrokerUnderTest
from tests.pubsub.bare_client import BareClient
from tests.pubsub.fake_service import FakeService

POLICY = {"dead_letter_topic": "projects/p/topics/others", "max_delivery_attempts": 5}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"filter": 'attributes.kind = "cat"'}, "has a filter"),
        ({"dead_letter_policy": POLICY}, "--clear-dead-letter-policy"),
        ({"message_retention_duration": "600s"}, "--message-retention-duration=7d"),
        ({"expiration_policy": {"ttl": "86400s"}}, "--expiration-period=never"),
        ({"message_transforms": [{"disabled": False}]}, "--clear-message-transforms"),
    ],
    ids=["filter", "dead-letter policy", "short retention", "expiry", "transforms"],
)
def test_what_a_subscription_would_not_bring_is_told_by_name(
    service: FakeService, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], says: str
) -> None:
    service.have_subscription("some-topic", **settings)
    with PubSubHandler("some-project") as broker:
        broker.subscribe("some-topic", "theirs")
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(told) == 1
    assert "'theirs'" in told[0]
    assert says in told[0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"push_config": {"push_endpoint": "https://example.com"}}, "--push-endpoint="),
        ({"bigquery_config": {"table": "p.d.t"}}, "--clear-bigquery-config"),
        ({"cloud_storage_config": {"bucket": "b"}}, "--clear-cloud-storage-config"),
        ({"detached": True}, "was detached"),
    ],
    ids=["push", "BigQuery", "Cloud Storage", "detached"],
)
def test_a_subscription_that_cannot_be_pulled_is_refused_by_name(
    service: FakeService, settings: dict[str, Any], says: str
) -> None:
    service.have_subscription("some-topic", **settings)
    with (
        PubSubHandler("some-project") as broker,
        pytest.raises(ConfigurationError, match="'theirs'") as caught,
    ):
        broker.subscribe("some-topic", "theirs")
    assert says in str(caught.value)


def test_a_subscription_of_ours_is_no_news(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.have_subscription("some-topic", message_retention_duration="604800s")
    with PubSubHandler("some-project") as broker:
        broker.subscribe("some-topic", "ours")
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("running_broker", ["pubsub"], indirect=True)
def test_what_somebody_else_set_is_told_on_the_emulator_too(
    under_test: BrokerUnderTest, bare: BareClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The fake service answers as the test says; the emulator knows what a subscription is."""
    topic = under_test.unused_name()
    bare.create(topic)
    bare.subscribe(
        topic,
        f"told-{topic}",
        filter='attributes.kind = "cat"',
        dead_letter_policy={"dead_letter_topic": bare.topic(topic), "max_delivery_attempts": 5},
        message_retention_duration=timedelta(minutes=10),
    )
    bare.subscribe(topic, f"push-{topic}", push_config={"push_endpoint": "http://127.0.0.1:1/"})
    broker = under_test.connect()

    broker.subscribe(topic, f"told-{topic}").close()
    with pytest.raises(ConfigurationError, match="--push-endpoint="):
        broker.subscribe(topic, f"push-{topic}")

    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    words = ("has a filter", "dead-letter policy", "for 10 minutes only")
    assert [word for word in words for each in told if word in each] == [*words]


def test_a_topic_that_keeps_nothing_is_remarked() -> None:
    (told,) = remarks_of_topic("some-topic", Topic())
    assert "gcloud pubsub topics update some-topic --message-retention-duration=7d" in told
