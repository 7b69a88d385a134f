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

from MessageBroker import AuthenticationError
from MessageBroker.kafka import events, publisher
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_server import find_or_skip
from tests.brokers.secured_kafka import ADMIN, SecuredKafka
from tests.conformance.stories import receive_one

REFUSED_SECONDS = 8.0
PATIENCE_SECONDS = 60.0
TOPIC = "new_image_topic"
USER = "somebody"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    find_or_skip()
    with SecuredKafka([USER]) as running:
        with KafkaHandler(running.login(ADMIN)) as broker:
            broker.create_topic(TOPIC)
        running.shell(
            'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN" --add '
            f"--allow-principal User:{USER} --operation ALL "
            "--topic '*' --group '*'"
        )
        yield running


@pytest.fixture
def change(secured: SecuredKafka) -> Callable[[str], None]:
    """Change the user's password, and break all connections as a broker does that crashes."""
    admin = AdminClient({"bootstrap.servers": secured.server("PLAIN"), "log_level": 0})

    def to(password: str) -> None:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        update = UserScramCredentialUpsertion(USER, info, password.encode())
        for future in admin.alter_user_scram_credentials([update]).values():
            future.result(20)
        secured.kill()
        secured.restart()

    return to


def test_a_changed_password_is_waited_for_and_told_and_the_next_call_works(
    secured: SecuredKafka, change: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "REFUSED_LOGIN_SECONDS", REFUSED_SECONDS)
    monkeypatch.setattr(publisher, "SURE_SECONDS", 1.0)
    with KafkaHandler(secured.login(USER)) as broker, broker.subscribe(TOPIC) as subscription:
        broker.publish(TOPIC, b"before").result(PATIENCE_SECONDS)
        subscription.ack([receive_one(subscription)])
        change("another one")
        began = time.monotonic()

        with pytest.raises(AuthenticationError, match="user or password"):
            broker.publish(TOPIC, b"refused").result(PATIENCE_SECONDS)
        assert time.monotonic() - began > REFUSED_SECONDS / 2
        with pytest.raises(AuthenticationError, match="user or password"):
            while time.monotonic() - began < PATIENCE_SECONDS:
                subscription.ack(subscription.receive(10, 0.5))

        change(secured.passwords[USER])
        assert broker.publish(TOPIC, b"after").result(PATIENCE_SECONDS)
