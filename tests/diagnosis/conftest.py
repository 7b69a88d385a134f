"""A secured Kafka with the documented rights, and nothing of a person's own environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.harness import FOREIGN_VARIABLES
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.secured_kafka import SecuredKafka
from tests.diagnosis.rights import PRINCIPALS, documented_rights, grant
from tests.pubsub.conftest import no_broker_of_ours, service

__all__ = ["no_broker_of_ours", "service"]

TOPICS = ("new_image_topic", "inference_topic")


@pytest.fixture(scope="session")
def secured() -> Iterator[SecuredKafka]:
    """The cluster, with the pipeline's topics and without any right."""
    find_or_skip()
    with SecuredKafka(PRINCIPALS) as kafka:
        with KafkaHandler({"bootstrap.servers": kafka.bootstrap_servers}) as broker:
            for topic in TOPICS:
                broker.create_topic(topic)
        yield kafka


@pytest.fixture(scope="session")
def rights(secured: SecuredKafka) -> AdminClient:
    """Grant the documented rights; return who may change them.

    Not by the commands of the docs, each of which starts a JVM: a test runs those.
    """
    admin = AdminClient({"bootstrap.servers": secured.bootstrap_servers, "log_level": 0})
    grant(admin, documented_rights())
    return admin


@pytest.fixture(autouse=True)
def nothing_of_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
