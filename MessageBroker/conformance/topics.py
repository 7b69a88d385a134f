"""Topics and subscriptions."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from MessageBroker import (
    ConfigurationError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)
from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    PATIENCE_SECONDS,
    assert_nothing_comes,
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_bodies,
    receive_one,
    wait_until,
    wait_until_ready,
)


def test_a_topic_is_created_once(under_test: BrokerUnderTest) -> None:
    """`create_topic` is True for a new topic, and False, changing nothing, for one that exists."""
    broker = under_test.connect()
    topic = under_test.unused_name()

    assert broker.create_topic(topic) is True
    broker.publish_batch(topic, numbered(5))
    assert broker.create_topic(topic) is False

    assert in_order(bodies(receive(broker.subscribe(topic), 5))) == numbers(5)


def test_a_topic_is_created_by_many_at_once(under_test: BrokerUnderTest) -> None:
    """Two processes and four threads that create one topic at once all succeed; one made it."""
    topic = under_test.unused_name()
    workers = [under_test.worker() for _ in range(2)]
    brokers = [under_test.connect() for _ in range(4)]
    for worker in workers:
        worker.send("create_topic", topic=topic)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda broker: broker.create_topic(topic), brokers))
    answers += [worker.reply() for worker in workers]

    # Where the broker tells two creators that each was first, nobody is harmed.
    assert answers.count(True) >= 1
    brokers[0].publish_batch(topic, numbered(5))
    receive_bodies([brokers[1].subscribe(topic)], numbers(5))


def test_a_topic_comes_with_its_dead_letter_topic(under_test: BrokerUnderTest) -> None:
    """`create_topic` makes the dead-letter topic and its subscription too."""
    broker, topic = under_test.connect_with_topic()

    assert {topic, dead_letter_topic(topic)} <= set(broker.list_topics())
    assert_nothing_comes(broker.subscribe(dead_letter_topic(topic)))


def test_a_subscription_that_is_deleted_begins_anew(under_test: BrokerUnderTest) -> None:
    """A deleted subscription keeps nothing; made again, it gets what is published from then on."""
    broker, topic = under_test.connect_with_topic()
    name = under_test.unused_name("sub")
    assert broker.delete_subscription(topic, name) is False

    with broker.subscribe(topic, name) as subscription:
        wait_until_ready(subscription)
        broker.publish_batch(topic, numbered(3))
        receive(subscription, 3)  # un-acked: it would come again
    assert broker.delete_subscription(topic, name) is True
    assert broker.delete_subscription(topic, name) is False
    with pytest.raises(SubscriptionNotFoundError):
        broker.backlog(topic, name)

    with broker.subscribe(topic, name) as subscription:
        wait_until_ready(subscription)
        broker.publish(topic, b"later").result()
        assert bodies(receive(subscription, 1)) == ["later"]
    receive_bodies([broker.subscribe(topic)], [*numbers(3), "later"])


def test_a_subscription_that_nobody_has_used_can_be_deleted(under_test: BrokerUnderTest) -> None:
    """A topic's default subscription is there from the start, and gone once it is deleted."""
    broker, topic = under_test.connect_with_topic()
    name = default_subscription(topic)
    broker.publish_batch(topic, numbered(3))

    assert broker.delete_subscription(topic, name) is True
    assert broker.delete_subscription(topic, name) is False
    with pytest.raises(SubscriptionNotFoundError):
        broker.backlog(topic)

    broker.create_topic(topic)
    assert broker.delete_subscription(topic, name) is True


def test_the_default_subscription_can_be_named(under_test: BrokerUnderTest) -> None:
    """`create_topic` can give the default subscription another name; it misses nothing."""
    broker = under_test.connect()
    topic, subscription_id = under_test.unused_name(), under_test.unused_name("named")
    broker.create_topic(topic, subscription_id=subscription_id)

    broker.publish_batch(topic, numbered(10))

    named = broker.subscribe(topic, subscription_id)
    assert in_order(bodies(receive(named, 10))) == numbers(10)


def test_a_default_subscription_of_another_name_takes_the_place_of_the_usual_one(
    under_test: BrokerUnderTest,
) -> None:
    """Of a topic made with a named subscription, `<topic>-sub` is not there until it is asked for.

    A second `create_topic` or a `subscribe` asks for it. That of the dead letters is there.
    """
    broker = under_test.connect()
    topic, named = under_test.unused_name(), under_test.unused_name("named")
    usual = default_subscription(topic)
    broker.create_topic(topic, subscription_id=named)
    broker.publish_batch(topic, numbered(3))

    with pytest.raises(SubscriptionNotFoundError):
        broker.backlog(topic)
    assert broker.delete_subscription(topic, usual) is False
    broker.backlog(topic, named)
    broker.backlog(dead_letter_topic(topic))

    broker.create_topic(topic)
    broker.backlog(topic)
    assert broker.delete_subscription(topic, usual) is True
    with broker.subscribe(topic):
        broker.backlog(topic)
    assert broker.delete_subscription(topic, usual) is True


def test_a_second_subscription_can_be_made_by_create_topic(under_test: BrokerUnderTest) -> None:
    """`create_topic` of an existing topic with a new subscription makes that subscription."""
    broker, topic = under_test.connect_with_topic()
    subscription_id = under_test.unused_name("second")

    assert broker.create_topic(topic, subscription_id=subscription_id) is False
    broker.publish_batch(topic, numbered(10))

    second = broker.subscribe(topic, subscription_id)
    assert in_order(bodies(receive(second, 10))) == numbers(10)


def test_topics_are_listed(under_test: BrokerUnderTest) -> None:
    """`list_topics` names every topic, sorted, and nothing that the broker keeps for itself."""
    broker, topic = under_test.connect_with_topic()

    topics = broker.list_topics()

    assert topics == sorted(topics)
    assert topic in topics
    assert not [name for name in topics if name.startswith("_")]


def test_a_deleted_topic_is_gone(under_test: BrokerUnderTest) -> None:
    """`delete_topic` is True once; then the topic is not listed and takes nothing."""
    broker, topic = under_test.connect_with_topic()

    assert broker.delete_topic(topic) is True

    wait_until(lambda: topic not in broker.list_topics(), "the topic is not listed any more")
    assert broker.delete_topic(topic) is False
    with pytest.raises(TopicNotFoundError):
        broker.publish(topic, b"body").result(20)


def test_a_deletion_elsewhere_is_noticed(under_test: BrokerUnderTest) -> None:
    """A publisher whose topic was deleted by another gets a TopicNotFoundError."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"body").result()
    under_test.connect().delete_topic(topic)

    with pytest.raises(TopicNotFoundError):
        broker.publish(topic, b"body").result(30)


def test_a_consumer_of_a_deleted_topic_is_told(under_test: BrokerUnderTest) -> None:
    """A consumer whose topic is deleted gets a TopicNotFoundError from `receive`."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    wait_until_ready(subscription)

    under_test.connect().delete_topic(topic)

    with pytest.raises(TopicNotFoundError):
        assert_nothing_comes(subscription, seconds=PATIENCE_SECONDS)


def test_a_topic_made_again_starts_empty(under_test: BrokerUnderTest) -> None:
    """Deleting a topic takes its subscriptions: made again, it brings nothing of its first life."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(10))
    with broker.subscribe(topic) as subscription:
        subscription.ack(receive(subscription, 5))
    broker.delete_topic(topic)

    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(20)[10:])

    again = broker.subscribe(topic)
    assert in_order(bodies(receive(again, 10))) == numbers(20)[10:]
    assert_nothing_comes(again)


def test_a_consumer_that_was_open_takes_nothing_from_a_topic_made_again(
    under_test: BrokerUnderTest,
) -> None:
    """A consumer that is open while its topic is made again settles nothing in the new one."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(60))
    old = broker.subscribe(topic)
    old.ack(receive(old, 60))
    other = under_test.connect()
    other.delete_topic(topic)
    other.create_topic(topic)
    with contextlib.suppress(TopicNotFoundError, SubscriptionNotFoundError):
        assert_nothing_comes(old, seconds=2)
    old.close()

    other.publish_batch(topic, numbered(200))

    assert in_order(bodies(receive(other.subscribe(topic), 200))) == numbers(200)


def test_a_topic_made_again_elsewhere_takes_messages(under_test: BrokerUnderTest) -> None:
    """A topic that others delete and make again takes the messages of whoever published before."""
    broker, topic = under_test.connect_with_topic()
    broker.publish(topic, b"before").result()
    other = under_test.connect()
    other.delete_topic(topic)
    wait_until(lambda: topic not in other.list_topics(), "the topic is gone")
    other.create_topic(topic)

    broker.publish(topic, b"after").result(30)

    assert receive_one(other.subscribe(topic)).data == b"after"


def test_a_subscription_belongs_to_one_topic(under_test: BrokerUnderTest) -> None:
    """A subscription id that belongs to another topic is a ConfigurationError."""
    broker, topic = under_test.connect_with_topic()
    other = under_test.unused_name()
    broker.create_topic(other)

    with pytest.raises(ConfigurationError, match=default_subscription(topic)):
        broker.subscribe(other, default_subscription(topic))


def test_a_subscription_is_deleted_by_its_own_topic_alone(under_test: BrokerUnderTest) -> None:
    """Deleting a subscription that belongs to another topic is a ConfigurationError: it stays."""
    broker, topic = under_test.connect_with_topic()
    other, name = under_test.unused_name(), under_test.unused_name("sub")
    broker.create_topic(other)
    with broker.subscribe(topic, name) as subscription:
        wait_until_ready(subscription)
    broker.publish_batch(topic, numbered(3))

    with pytest.raises(ConfigurationError, match=name):
        broker.delete_subscription(other, name)

    assert in_order(bodies(receive(broker.subscribe(topic, name), 3))) == numbers(3)


def test_an_unknown_topic_is_an_error_and_is_not_created(under_test: BrokerUnderTest) -> None:
    """Publishing to, subscribing to or counting an unknown topic is a TopicNotFoundError."""
    broker = under_test.connect()
    topic = under_test.unused_name("unknown")

    with pytest.raises(TopicNotFoundError, match="topics create"):
        broker.publish(topic, b"body").result(10)
    with pytest.raises(TopicNotFoundError):
        broker.publish_batch(topic, numbered(3))
    with pytest.raises(TopicNotFoundError):
        broker.subscribe(topic)
    with pytest.raises(TopicNotFoundError):
        broker.backlog(topic)

    assert topic not in broker.list_topics()
