"""How topics and subscriptions are made, and what happens to those that others made or deleted."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest

from MessageBroker import (
    ConfigurationError,
    Subscription,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)
from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.conformance.stories import bodies, numbered, numbers, receive, receive_one
from MessageBroker.google_pubsub.admin import retention_of
from tests.brokers.harness import BrokerUnderTest
from tests.pubsub.bare_client import BareClient

pytestmark = pytest.mark.parametrize("running_broker", ["pubsub"], indirect=True)

FAILOVER_SECONDS = 15.0


def receive_until_an_error(subscription: Subscription) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        subscription.receive(10, 1.0)


def test_subscriptions_are_made_for_order_and_quick_failover(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    _, topic = under_test.connect_with_topic()
    made = bare.subscriber.get_subscription(
        subscription=bare.subscription(default_subscription(topic))
    )
    assert made.enable_message_ordering
    # What is on its way to a consumer that dies is its for so long.
    assert 10 <= made.ack_deadline_seconds < FAILOVER_SECONDS
    assert made.message_retention_duration == timedelta(days=7)
    assert not made.expiration_policy.ttl
    assert not made.dead_letter_policy.dead_letter_topic


def test_a_topic_keeps_what_was_acknowledged_for_7_days_but_on_the_emulator(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """The emulator would give a new subscription all of it."""
    _, topic = under_test.connect_with_topic()
    made = bare.publisher.get_topic(topic=bare.topic(topic))
    assert not made.message_retention_duration
    assert retention_of(topic, emulated=False) == timedelta(days=7)


def test_a_dead_letter_topic_keeps_its_messages_for_31_days(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    _, topic = under_test.connect_with_topic()
    made = bare.publisher.get_topic(topic=bare.topic(dead_letter_topic(topic)))
    assert made.message_retention_duration == timedelta(days=31)


@pytest.mark.timeout(120)
def test_a_foreign_subscription_with_short_leases_keeps_its_messages(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """Ten seconds are the default of the console."""
    broker, topic = under_test.connect_with_topic()
    name = under_test.unused_name("subscription")
    bare.subscribe(topic, name, ack_deadline_seconds=10)
    broker.publish(topic, b"x").result()
    with broker.subscribe(topic, name) as subscription:
        message = receive_one(subscription)
        assert bare.pull(name, timeout=FAILOVER_SECONDS) == []
        subscription.ack([message])
        assert subscription.late_acks == 0


@pytest.mark.timeout(120)
def test_a_foreign_subscription_with_long_leases_fails_over_soon(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    broker, topic = under_test.connect_with_topic()
    name = under_test.unused_name("subscription")
    bare.subscribe(topic, name, ack_deadline_seconds=600)
    broker.publish(topic, b"first").result()
    worker = under_test.worker()
    worker.call("subscribe", topic=topic, subscription_id=name)
    assert worker.call("receive", count=1) == ["first"]  # it came by a stream, and turns to pulls
    worker.call("ack")
    broker.publish_batch(topic, numbered(3))
    assert len(worker.call("receive", count=3)) == 3
    with broker.subscribe(topic, name) as subscription:
        worker.kill()
        killed = time.monotonic()
        assert sorted(bodies(receive(subscription, 3))) == numbers(3)
    assert time.monotonic() - killed < FAILOVER_SECONDS


def test_keys_on_a_foreign_subscription_without_ordering_are_refused_with_the_command(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    broker, topic = under_test.connect_with_topic()
    name = under_test.unused_name("subscription")
    bare.subscribe(topic, name)
    with broker.subscribe(topic, name) as subscription:
        broker.publish(topic, b"without").result()
        subscription.ack([receive_one(subscription)])
        broker.publish(topic, b"with", key="k").result()
        with pytest.raises(ConfigurationError, match="gcloud pubsub subscriptions create"):
            receive_until_an_error(subscription)
    # It was given back, for a consumer that does not care.
    assert [each.message.data for each in bare.pull_until_something_comes(name)] == [b"with"]


def test_exactly_once_delivery_is_refused_with_the_command_that_switches_it_off(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """It answers INVALID_ARGUMENT to late acks and renewals, which must be harmless."""
    broker, topic = under_test.connect_with_topic()
    name = under_test.unused_name("subscription")
    bare.subscribe(topic, name, enable_exactly_once_delivery=True)
    with pytest.raises(ConfigurationError, match=f"update {name} --no-enable-exactly-once"):
        broker.subscribe(topic, name)


def test_a_subscription_whose_topic_was_deleted_is_made_again_with_a_warning(
    under_test: BrokerUnderTest, bare: BareClient, caplog: pytest.LogCaptureFixture
) -> None:
    broker, topic = under_test.connect_with_topic()
    bare.publisher.delete_topic(topic=bare.topic(topic))  # leaves the subscription of nothing
    caplog.set_level(logging.WARNING)

    broker.create_topic(topic)

    assert f"the topic of the subscription {topic}-sub was deleted" in caplog.text
    broker.publish(topic, b"x").result()
    assert bodies(receive(broker.subscribe(topic), 1)) == ["x"]


@pytest.mark.parametrize("keyed", [False, True], ids=["pulls", "streams"])
def test_a_subscription_that_is_deleted_in_mid_run_is_told(
    under_test: BrokerUnderTest, bare: BareClient, keyed: bool
) -> None:
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, b"x", key="k" if keyed else None).result()
    subscription.ack([receive_one(subscription)])
    bare.subscriber.delete_subscription(subscription=bare.subscription(f"{topic}-sub"))
    with pytest.raises(SubscriptionNotFoundError):
        receive_until_an_error(subscription)


def test_a_topic_that_somebody_deletes_in_mid_run_is_told(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """The subscription is still there, and pulling from it would wait for ever."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    assert subscription.receive(1, 0.2) == []
    bare.publisher.delete_topic(topic=bare.topic(topic))
    with pytest.raises(TopicNotFoundError):
        receive_until_an_error(subscription)


def test_only_rights_that_are_needed_are_used(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """Topics and subscriptions that were made by command are not made again."""
    topic = under_test.unused_name()
    for name in (topic, dead_letter_topic(topic)):
        bare.publisher.create_topic(name=bare.topic(name))
        bare.subscribe(name, default_subscription(name), enable_message_ordering=True)
    broker = under_test.connect()
    calls: list[str] = []
    for client in (broker._connection.publisher, broker._connection.subscriber):
        for method in ("create_topic", "create_subscription", "delete_subscription"):
            if hasattr(client, method):
                setattr(client, method, lambda method=method, **_: calls.append(method))
    assert broker.create_topic(topic) is False
    broker.subscribe(topic).close()
    assert calls == []
