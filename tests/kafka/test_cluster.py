"""Three nodes, of which one at a time is killed in mid-stream."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from MessageBroker import DeliverySettings, OutgoingMessage
from MessageBroker.conformance.stories import receive
from MessageBroker.core import letters
from MessageBroker.kafka.admin import KafkaAdmin, TopicSettings
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect
from tests.kafka.whereabouts import whereabouts
from tests.waiting import wait_until

PATIENCE_SECONDS = 60.0
ROUNDS = 30
PER_ROUND = 100


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[KafkaCluster]:
    find_or_skip()
    with KafkaCluster(nodes=3) as cluster:
        yield cluster


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_fails_when_nodes_are_killed_in_turn(
    three_nodes: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    properties = {"bootstrap.servers": three_nodes.bootstrap_servers}
    with KafkaHandler(properties) as broker:
        broker.create_topic("stream")
        published: set[str] = set()
        arrived: set[str] = set()
        with broker.subscribe("stream") as subscription:

            def take() -> bool:
                messages = subscription.receive(500, 0.2)
                arrived.update(message.id for message in messages)
                subscription.ack(messages)
                return bool(messages)

            for number in range(ROUNDS):
                if number == ROUNDS // 3:
                    three_nodes.kill(0)
                elif number == 2 * ROUNDS // 3:
                    three_nodes.restart(0)
                    three_nodes.kill(1)
                batch = [OutgoingMessage(b"body", key=str(each)) for each in range(PER_ROUND)]
                published.update(broker.publish_batch("stream", batch))
                take()
            # Kafka hands out what two nodes have, and the group is back once its coordinator is:
            # that takes as long as it takes. Patience counts from when all is there.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not published <= arrived and time.monotonic() < deadline:
                if take() or not (subscription.ready and is_copied(broker, "stream")):
                    deadline = time.monotonic() + PATIENCE_SECONDS
            missing = sorted(published - arrived)
            others = sorted(arrived - published)  # an id that nobody was told, if there is one
            assert not missing, (
                f"{whereabouts(subscription, three_nodes.bootstrap_servers, 'stream', missing)}\n"
                f"arrived, and nobody was told: {others}"
            )

    assert len(published) == ROUNDS * PER_ROUND
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


def is_copied(broker: KafkaHandler, topic: str) -> bool:
    """Tell whether two nodes have all of each partition: with fewer Kafka hands nothing out."""
    try:
        client = AdminClient({"bootstrap.servers": broker._settings.servers, "log_level": 0})
        partitions = client.list_topics(topic, timeout=1.0).topics[topic].partitions
    except KafkaException:
        return False
    return all(len(each.isrs) >= 2 and each.leader >= 0 for each in partitions.values())


@pytest.mark.timeout(240)
def test_partitions_without_a_leader_are_waited_for_and_the_others_flow(
    three_nodes: KafkaCluster,
) -> None:
    """One copy of each partition, a node that is lost, and a group that is dealt anew meanwhile."""
    three_nodes.restart(1)
    topic = TopicSettings(num_partitions=6, replication_factor=1)
    properties = {"bootstrap.servers": three_nodes.bootstrap_servers}
    with KafkaHandler(properties, topic=topic) as broker:
        broker.create_topic("single-copies")
        leaver = broker.subscribe("single-copies")
        stayer = broker.subscribe("single-copies")
        arrived: set[bytes] = set()

        def take_until(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not condition():
                assert time.monotonic() < deadline, f"{len(arrived)} arrived"
                messages = stayer.receive(500, 0.2)
                arrived.update(message.data for message in messages)
                stayer.ack(messages)

        take_until(lambda: stayer.ready)
        three_nodes.kill(2)
        take_until(lambda: len(broker._admin.with_leaders("single-copies")) < 6)
        leaver.close()  # its partitions come to the other, those without a leader too
        take_until(lambda: not stayer.ready)
        # With keys, so that each partition gets some: others go where there is a leader.
        published = [
            broker.publish("single-copies", str(each).encode(), key=str(each))
            for each in range(600)
        ]
        take_until(lambda: bool(arrived))
        three_nodes.restart(2)
        take_until(lambda: len(arrived) == 600 and stayer.ready)

        assert all(future.result(PATIENCE_SECONDS) for future in published)


@pytest.mark.timeout(240)
def test_good_messages_flow_while_the_dead_letter_topic_has_no_leader(
    three_nodes: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "PATIENCE_SECONDS", 2.0)
    admin = AdminClient({"bootstrap.servers": three_nodes.bootstrap_servers})
    made = [
        NewTopic(topic, 1, replica_assignment=[[0]]),
        NewTopic(f"{topic}-dead-letter", 1, replica_assignment=[[2]]),
    ]
    for future in admin.create_topics(made).values():
        future.result(30)
    settings = DeliverySettings(max_outstanding_messages=50)
    with KafkaHandler(
        {"bootstrap.servers": three_nodes.bootstrap_servers}, delivery=settings
    ) as broker:
        broker.create_topic(topic)
        broker.publish_batch(topic, [OutgoingMessage(b"x") for _ in range(220)])
        with broker.subscribe(topic) as subscription:
            bad = receive(subscription, 20)
            three_nodes.kill(2)
            assert subscription.dead_letter(bad, "no image") == 0
            for _ in range(200):
                subscription.ack(receive(subscription, 1))
            three_nodes.restart(2)
            wait_until(lambda: subscription.letters_waiting == 0, "its letters are sent")
            wait_until(lambda: broker.backlog(topic) == 0, "all is acked")


@pytest.mark.timeout(240)
def test_messages_of_a_batch_that_was_sent_twice_have_the_ids_that_were_told(
    three_nodes: KafkaCluster, topic: str
) -> None:
    """Kafka has it, but not from all copies, and does not say so in time."""
    servers = {"bootstrap.servers": three_nodes.bootstrap_servers}
    admin = AdminClient(servers)
    made = NewTopic(topic, 1, replica_assignment=[[0, 1, 2]])
    for future in admin.create_topics([made]).values():
        future.result(30)
    patience = {"request.timeout.ms": "500", "linger.ms": "100"}
    with KafkaHandler(servers, producer=patience) as broker:
        broker.create_topic(topic)
        told = broker.publish_batch(topic, [OutgoingMessage(b"before")])
        three_nodes.kill(2)  # it is waited for, for seconds
        published = []
        for _ in range(20):
            published.append(broker.publish(topic, b"body"))
            time.sleep(0.002)  # in one batch, but not at one time
        told += [future.result(PATIENCE_SECONDS) for future in published]
        three_nodes.restart(2)
        with broker.subscribe(topic) as subscription:
            assert [message.id for message in receive(subscription, 21)] == told


def test_a_topic_that_was_just_created_is_there_though_one_broker_has_not_heard_of_it(
    connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three brokers one learned of a new topic a moment later, in 1 of 18 starts."""
    broker = connect()
    broker.create_topic(topic)
    for name in ("partitions", "topic_id"):
        not_heard_of_it(monkeypatch, broker._admin, name)

    with broker.subscribe(topic) as subscription:
        assert subscription.ready


def not_heard_of_it(monkeypatch: pytest.MonkeyPatch, admin: KafkaAdmin, name: str) -> None:
    """Two answers of a method come from a broker that does not know the topic."""
    ask, missed = getattr(admin, name), [None, None]
    monkeypatch.setattr(admin, name, lambda *all_: missed.pop() if missed else ask(*all_))
