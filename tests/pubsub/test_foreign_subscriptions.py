"""Subscriptions that others made: what they would not bring is told when they are subscribed to."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from google.pubsub_v1 import Topic

from MessageBroker import ConfigurationError
from MessageBroker.google_pubsub.foreign import remarks_of_topic
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.pubsub.fake_service import FakeService

POLICY = {"dead_letter_topic": "projects/p/topics/others", "max_delivery_attempts": 5}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"filter": 'attributes.kind = "cat"'}, "has a filter"),
        ({"dead_letter_policy": POLICY}, "--clear-dead-letter-policy"),
        ({"message_retention_duration": "600s"}, "--message-retention-duration=7d"),
        ({"message_transforms": [{"disabled": False}]}, "--clear-message-transforms"),
    ],
    ids=["filter", "dead-letter policy", "short retention", "transforms"],
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


def test_a_topic_that_keeps_nothing_is_remarked() -> None:
    (told,) = remarks_of_topic("some-topic", Topic())
    assert "gcloud pubsub topics update some-topic --message-retention-duration=7d" in told
