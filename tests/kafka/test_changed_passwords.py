"""A password that is changed while programs run: waited for as long as at the start, then told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from MessageBroker import AuthenticationError
from MessageBroker.conformance.stories import receive_one
from MessageBroker.kafka import events, publisher
from MessageBroker.kafka_handler import KafkaHandler
from Queue import open_queue
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.secured_kafka import ADMIN, SecuredKafka
from tests.diagnosis.secured_pipeline import Running, secured_pipeline
from tests.pipeline.runner import ROOT
from tests.queue.of_dicts import FileQueue
from tests.waiting import wait_until

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


# The rule is the same as with 60 seconds.
IMPATIENT = f"""
from MessageBroker.kafka import events, publisher
events.REFUSED_LOGIN_SECONDS, publisher.SURE_SECONDS = {REFUSED_SECONDS}, 1.0
"""


@pytest.mark.soak
def test_a_publisher_whose_password_is_changed_ends_with_1_and_the_standby_takes_over(
    secured: SecuredKafka, change: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    path = tmp_path / "Queue" / "log.txt"
    with secured_pipeline(secured, tmp_path) as pipeline:
        environment = {**pipeline.environment_of(USER), "PYTHONPATH": f"{tmp_path}:{ROOT}"}

        def publisher_with(password: str) -> Running:
            login = {**environment, "KAFKA_SASL_PASSWORD": password}
            log = tmp_path / f"{len(password)}-{password[:3]}.log"
            return Running("model_server_pub", log, ["--queue", str(path)], login)

        def put(number: int) -> None:
            with FileQueue(path) as queue:
                queue.put([{"id": f"{number}-{i}", "label": "7"} for i in range(5)])

        def wait_until_published() -> None:
            with open_queue(path, read_only=True) as queue:
                wait_until(lambda: queue.status().depth == 0, "all is published")

        put(1)
        first = publisher_with(secured.passwords[USER]).ready()
        wait_until_published()
        change("another one")
        standby = publisher_with("another one")
        wait_until(lambda: "at work: " in standby.output, "it stands by")
        put(2)
        ended = first.end()
        assert ended.code == 1, ended.output
        assert "user or password" in ended.output
        assert ended.output.count(" ERROR ") == 1
        wait_until_published()
        assert "taken over" in standby.output
        assert standby.terminate().code == 0
    change(secured.passwords[USER])
