"""One Kafka for what only Kafka has: users with passwords, ACLs, retention in seconds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from MessageBroker import DeliverySettings
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.kafka_server import KafkaCluster

PASSWORD = "s3cr3t-Passw0rd%"
USERS = {"alice": PASSWORD, "bob": "bob-has-another-one"}

Connect = Callable[..., KafkaHandler]


@pytest.fixture(scope="session")
def cluster() -> Iterator[KafkaCluster]:
    find_or_skip()
    properties = {
        "log.retention.check.interval.ms": "500",
        "log.segment.delete.delay.ms": "100",
        "log.initial.task.delay.ms": "100",
    }
    with KafkaCluster(users=USERS, extra_properties=properties) as running:
        yield running


@pytest.fixture(scope="session")
def admin(cluster: KafkaCluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})


@pytest.fixture
def connect(cluster: KafkaCluster) -> Iterator[Connect]:
    """Handlers of the cluster, closed after the test."""
    opened: list[KafkaHandler] = []

    def open_handler(properties: dict[str, str] | None = None, **options: object) -> KafkaHandler:
        servers = {"bootstrap.servers": cluster.bootstrap_servers}
        options.setdefault("delivery", DeliverySettings(min_backoff=0.05, max_backoff=0.2))
        opened.append(KafkaHandler({**servers, **(properties or {})}, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_handler
    for handler in opened:
        handler.close(1.0)


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def as_user(cluster: KafkaCluster) -> Callable[[str, str], dict[str, str]]:
    """Properties with which a user of the cluster logs in."""

    def properties(name: str, password: str) -> dict[str, str]:
        return {
            "bootstrap.servers": cluster.sasl_bootstrap_servers,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": name,
            "sasl.password": password,
        }

    return properties
