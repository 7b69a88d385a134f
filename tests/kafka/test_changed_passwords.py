"""A password that is changed while programs run: waited for as long as at the start, then told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from MessageBroker import AuthenticationError, DeliverySettings
from MessageBroker.kafka import events, publisher
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_server import find_or_skip
from tests.brokers.secured_kafka import ADMIN, SecuredKafka
from tests.conformance.stories import receive_one

REFUSED_SECONDS = 8.0
PATIENCE_SECONDS = 60.0
TOPIC = "new_image_topic"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    find_or_skip()
    with SecuredKafka(["writer", "reader"]) as running:
        with KafkaHandler(running.login(ADMIN)) as broker:
            broker.create_topic(TOPIC)
        running.shell(
            'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN" --add '
            "--allow-principal User:writer --allow-principal User:reader --operation ALL "
            "--topic '*' --group '*'"
        )
        yield running


@pytest.fixture
def change(secured: SecuredKafka) -> Iterator[Callable[[str, str], None]]:
    """Change a password, and break all connections as a broker does that is replaced."""
    admin = AdminClient({"bootstrap.servers": secured.server("PLAIN"), "log_level": 0})

    def to(name: str, password: str) -> None:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        update = UserScramCredentialUpsertion(name, info, password.encode())
        for future in admin.alter_user_scram_credentials([update]).values():
            future.result(20)
        time.sleep(0.5)
        secured.restart()

    yield to
    for name in ("writer", "reader"):
        to(name, secured.passwords[name])


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REFUSED_LOGIN_SECONDS", REFUSED_SECONDS)
    monkeypatch.setattr(publisher, "SURE_SECONDS", 1.0)


def test_a_publisher_whose_password_is_changed_ends_its_waiting(
    secured: SecuredKafka, change: Callable[[str, str], None]
) -> None:
    with KafkaHandler(secured.login("writer")) as broker:
        assert broker.publish(TOPIC, b"before").result(PATIENCE_SECONDS)
        change("writer", "another one")
        began = time.monotonic()

        with pytest.raises(AuthenticationError, match="user or password"):
            broker.publish(TOPIC, b"refused").result(PATIENCE_SECONDS)

        assert time.monotonic() - began > REFUSED_SECONDS / 2
        change("writer", secured.passwords["writer"])
        assert broker.publish(TOPIC, b"after").result(PATIENCE_SECONDS)


def test_a_consumer_whose_password_is_changed_waits_and_is_told(
    secured: SecuredKafka, change: Callable[[str, str], None]
) -> None:
    settings = DeliverySettings(min_backoff=0.05, max_backoff=0.2)
    with (
        KafkaHandler(secured.login("writer")) as writer,
        KafkaHandler(secured.login("reader"), delivery=settings) as broker,
        broker.subscribe(TOPIC) as subscription,
    ):
        writer.publish(TOPIC, b"before").result(PATIENCE_SECONDS)
        subscription.ack([receive_one(subscription)])
        change("reader", "another one")
        deadline = time.monotonic() + PATIENCE_SECONDS

        with pytest.raises(AuthenticationError, match="user or password"):
            while time.monotonic() < deadline:
                subscription.ack(subscription.receive(10, 0.5))
