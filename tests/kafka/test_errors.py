"""Bad input: each has its class and one line that says what to do, within 10 s, and no secret."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    NewTopic,
    ResourceType,
)

from MessageBroker import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    DeliverySettings,
    MessageTooLargeError,
    OutgoingMessage,
)
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_server import KafkaCluster
from tests.diagnosis.rights import Right
from tests.kafka.conftest import PASSWORD, Connect
from tests.servers import free_port

START_UP_SECONDS = 10.0
AsUser = Callable[[str, str], dict[str, str]]


def assert_in_time(began: float) -> None:
    assert time.monotonic() - began < START_UP_SECONDS


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "no-such-host.invalid:9092"])
def test_a_broker_that_is_not_there_is_unavailable(connect: Connect, address: str) -> None:
    broker = connect({"bootstrap.servers": address.format(port=free_port())})
    began = time.monotonic()

    with pytest.raises(BrokerUnavailableError, match="KAFKA_BOOTSTRAP_SERVERS"):
        broker.create_topic("topic")

    assert_in_time(began)


def test_a_ping_takes_no_longer_than_it_may(connect: Connect) -> None:
    broker = connect({"bootstrap.servers": f"127.0.0.1:{free_port()}"})
    began = time.monotonic()

    with pytest.raises(BrokerUnavailableError, match="make kafka"):
        broker.ping(1.0)

    assert time.monotonic() - began < 5.0


def test_tls_to_a_plain_port_is_told_at_once(connect: Connect) -> None:
    broker = connect({"security.protocol": "SSL"})

    with pytest.raises(ConfigurationError, match=r"does not speak TLS: set security\.protocol"):
        broker.ping(9.0)


def test_a_password_without_tls_to_a_plain_port_is_an_error_in_time(
    connect: Connect, as_user: AsUser, cluster: KafkaCluster
) -> None:
    properties = {**as_user("alice", PASSWORD), "bootstrap.servers": cluster.bootstrap_servers}
    began = time.monotonic()

    with pytest.raises(ConfigurationError, match="takes no login"):
        connect(properties).subscribe("topic")

    assert_in_time(began)


@pytest.mark.parametrize("call", ["ping", "create_topic", "publish", "subscribe", "backlog"])
def test_a_wrong_password_is_refused_at_once(connect: Connect, as_user: AsUser, call: str) -> None:
    broker = connect(as_user("alice", "wrong-passw0rd"))
    arguments = {"ping": (9.0,), "publish": ("topic", b"")}.get(call, ("topic",))
    began = time.monotonic()

    with pytest.raises(AuthenticationError, match="KAFKA_SASL_PASSWORD"):
        getattr(broker, call)(*arguments)

    assert_in_time(began)


def test_the_right_password_is_taken(connect: Connect, as_user: AsUser) -> None:
    connect(as_user("alice", PASSWORD)).ping(5.0)


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"sasl.mechanisms": PASSWORD, "security.protocol": "SASL_SSL"}, "SASL"),
        ({"acks": PASSWORD}, "acks"),
        ({"no.such.property": "1"}, "no.such.property"),
        ({"enable.auto.offset.store": "true"}, "enable.auto.offset.store"),
        ({"group.id": "mine"}, "group.id"),
        ({"group.instance.id": "mine"}, "group.instance.id"),
        ({"transactional.id": "mine"}, "transactional.id"),
        ({"enable.partition.eof": "true"}, "enable.partition.eof"),
        ({"auto.commit.interval.ms": "0"}, "auto.commit.interval.ms"),
        ({"bootstrap.servers": ""}, "bootstrap.servers"),
    ],
)
def test_a_property_that_cannot_be_used_is_named(
    connect: Connect, properties: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        connect({"sasl.password": PASSWORD, **properties}).publish("topic", b"").result(10)

    assert PASSWORD not in str(caught.value)


def test_what_could_not_even_be_sent_does_not_hold_up_the_close(
    connect: Connect, topic: str
) -> None:
    connect().create_topic(topic)
    broker = connect(producer={"no.such.property": "1"})
    for publish in (
        broker.publish,
        lambda *one: broker.publish_batch(topic, [OutgoingMessage(b"")]),
    ):
        with pytest.raises(ConfigurationError, match=r"no\.such\.property"):
            publish(topic, b"")
    began = time.monotonic()

    broker.close(60.0)

    assert time.monotonic() - began < 30.0


def test_the_environment_wins_over_every_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kafka_config.ini").write_text(
        "[default]\nbootstrap.servers = one:9092\n[producer]\nbootstrap.servers = two:9092\n"
        "[consumer]\nbootstrap.servers = three:9092\n"
    )
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "four:9092")

    settings = KafkaHandler.from_config(tmp_path, DeliverySettings())._settings

    for properties in (settings.for_admin(), settings.for_producer(), settings.for_consumer("g")):
        assert properties["bootstrap.servers"] == "four:9092"


@pytest.mark.parametrize("value", ["six", "0", "-2"])
def test_a_partition_number_that_cannot_be_is_named(tmp_path: Path, value: str) -> None:
    (tmp_path / "kafka_config.ini").write_text(
        f"[default]\nbootstrap.servers = localhost:9092\n[topic]\nnum_partitions = {value}\n"
    )

    with pytest.raises(ConfigurationError, match=r"\[topic\] num_partitions"):
        KafkaHandler.from_config(tmp_path, DeliverySettings())


def test_more_replicas_than_brokers_is_a_configuration_error(connect: Connect, topic: str) -> None:
    from MessageBroker.kafka.admin import TopicSettings

    broker = connect(topic=TopicSettings(num_partitions=1, replication_factor=3))

    with pytest.raises(ConfigurationError, match="replication_factor"):
        broker.create_topic(topic)


def test_a_message_over_a_foreign_topics_limit_names_the_setting(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    small = NewTopic(topic, 1, config={"max.message.bytes": "100000"})
    admin.create_topics([small])[topic].result()
    broker = connect(producer={"compression.type": "none"})

    with pytest.raises(MessageTooLargeError, match=r"max\.message\.bytes"):
        broker.publish(topic, b"x" * 200_000).result(10)


# ---------------------------------------------------------------------- rights


def allow(
    admin: AdminClient, kind: ResourceType, name: str, operation: AclOperation, user: str = "bob"
) -> None:
    Right(user, operation.name, kind.name.lower(), name).grant(admin)


def test_a_missing_right_is_an_authentication_error_that_names_the_page(
    connect: Connect, as_user: AsUser, topic: str
) -> None:
    connect().create_topic(topic)
    bob = connect(as_user("bob", "bob-has-another-one"))

    with pytest.raises(AuthenticationError, match=r"docs/kafka\.md"):
        bob.create_topic(topic + "-new")
    with pytest.raises(AuthenticationError, match=r"docs/kafka\.md"):
        bob.publish(topic, b"")


def test_the_documented_rights_of_a_publisher_suffice(
    connect: Connect, as_user: AsUser, admin: AdminClient, topic: str
) -> None:
    connect().create_topic(topic)
    for name in (topic, f"{topic}-dead-letter"):
        allow(admin, ResourceType.TOPIC, name, AclOperation.WRITE)
    bob = connect(as_user("bob", "bob-has-another-one"))

    assert bob.create_topic(topic) is False
    assert bob.publish(topic, b"body").result(10)


def test_the_documented_rights_of_a_consumer_suffice(
    connect: Connect, as_user: AsUser, admin: AdminClient, topic: str
) -> None:
    owner = connect()
    owner.create_topic(topic)
    owner.publish(topic, b"body").result(10)
    allow(admin, ResourceType.TOPIC, topic, AclOperation.READ)
    allow(admin, ResourceType.TOPIC, f"{topic}-dead-letter", AclOperation.WRITE)
    allow(admin, ResourceType.GROUP, f"{topic}-sub", AclOperation.READ)
    bob = connect(as_user("bob", "bob-has-another-one"))

    assert bob.create_topic(topic) is False
    with bob.subscribe(topic) as subscription:
        messages = subscription.receive(1, 10.0)
        assert subscription.dead_letter(messages, "test") == 1


def test_a_missing_right_to_the_group_is_an_authentication_error(
    connect: Connect, as_user: AsUser, admin: AdminClient, topic: str
) -> None:
    connect().create_topic(topic)
    allow(admin, ResourceType.TOPIC, topic, AclOperation.READ)
    began = time.monotonic()

    with pytest.raises(AuthenticationError, match="group"):
        connect(as_user("bob", "bob-has-another-one")).subscribe(topic)

    assert_in_time(began)


# ---------------------------------------------------------------------- secrets


def test_no_secret_shows_in_a_log_an_error_a_repr_or_a_traceback(
    cluster: KafkaCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    secret = "wrong%s3cr3t"
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", secret)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    (tmp_path / "kafka_config.ini").write_text(
        f"[default]\nbootstrap.servers = {cluster.sasl_bootstrap_servers}\n"
        "security.protocol = SASL_PLAINTEXT\nsasl.mechanisms = PLAIN\nsasl.username = alice\n"
        "sasl.password = ${KAFKA_SASL_PASSWORD}\ndebug = all\n"
    )
    shown = []
    with (
        caplog.at_level(logging.DEBUG),
        KafkaHandler.from_config(tmp_path, DeliverySettings()) as broker,
    ):
        shown.append(repr(broker) + repr(vars(broker)))
        try:
            broker.ping(9.0)
        except BrokerError:
            shown.append(traceback.format_exc())

    assert "AuthenticationError" in shown[-1]
    everything = "".join([*shown, caplog.text, *capfd.readouterr()])
    assert secret not in everything
