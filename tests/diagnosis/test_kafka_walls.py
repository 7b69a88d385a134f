"""Kafka: what a person meets who sets up a secured cluster; each wall names its own cause."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from MessageBroker import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
)
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.settings import KafkaSettings
from tests.brokers.secured_kafka import SecuredKafka
from tests.diagnosis.walls import SPARE_SECONDS, expect, meet, run_process

Properties = dict[str, str]
CLIENT_FILES = ("ssl.certificate.location", "ssl.key.location")
LOGIN = ("sasl.mechanisms", "sasl.username", "sasl.password")
PATIENCE_SECONDS = 2.0


def without(properties: Properties, *names: str) -> Properties:
    return {name: value for name, value in properties.items() if name not in names}


@dataclass(frozen=True)
class Wall:
    """A way to be wrong, and what is said of it.

    Attributes:
        properties: of a cluster, those that are wrong.
        kind: the error's class.
        says: words of its text.
        passes: whether waiting may cure it.
    """

    properties: Callable[[SecuredKafka], Properties]
    kind: type[BrokerError]
    says: tuple[str, ...]
    passes: bool = False


def _ours(kafka: SecuredKafka, **changes: str) -> Properties:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return {**kafka.login("app_1"), **named}


def _tls(kafka: SecuredKafka, listener: str) -> Properties:
    certified = without(kafka.certified("app_1"), *CLIENT_FILES)
    return {**certified, "bootstrap.servers": kafka.server(listener)}


def _foreign_certificate(kafka: SecuredKafka) -> Properties:
    issued = kafka.stranger.issue("app_1")
    files = (str(issued.certificate), str(issued.key))
    return {**kafka.certified("app_1"), **dict(zip(CLIENT_FILES, files, strict=True))}


WALLS: Mapping[str, Wall] = {
    "port": Wall(
        lambda kafka: _ours(kafka, bootstrap__servers=f"127.0.0.1:{kafka.port_of_nobody}"),
        BrokerUnavailableError,
        ("nobody listens", "make kafka"),
        passes=True,
    ),
    "host": Wall(
        lambda kafka: _ours(kafka, bootstrap__servers="no-such-host.invalid:9093"),
        BrokerUnavailableError,
        ("no-such-host.invalid", "not known here"),
        passes=True,
    ),
    "host name in the certificate": Wall(
        lambda kafka: _tls(kafka, "MISNAMED"),
        ConfigurationError,
        ("another host name", "elsewhere.example"),
    ),
    "expired certificate": Wall(
        lambda kafka: _tls(kafka, "EXPIRED"), ConfigurationError, ("has expired", "renew")
    ),
    "authority": Wall(
        lambda kafka: _ours(kafka, ssl__ca__location=str(kafka.stranger.file)),
        ConfigurationError,
        ("authority", "ssl.ca.location", "KAFKA_SSL_CA_LOCATION"),
    ),
    "no authority": Wall(
        lambda kafka: without(kafka.login("app_1"), "ssl.ca.location"),
        ConfigurationError,
        ("authority", "ssl.ca.location", "KAFKA_SSL_CA_LOCATION"),
    ),
    "plaintext to TLS": Wall(
        lambda kafka: {"bootstrap.servers": kafka.server("CERTIFICATES")},
        ConfigurationError,
        ("speaks TLS", "security.protocol", "SSL"),
    ),
    "a password without TLS to TLS": Wall(
        lambda kafka: _ours(kafka, security__protocol="SASL_PLAINTEXT"),
        ConfigurationError,
        ("speaks TLS", "SASL_SSL"),
    ),
    "TLS to plaintext": Wall(
        lambda kafka: _tls(kafka, "PLAIN"),
        ConfigurationError,
        ("does not speak TLS", "PLAINTEXT"),
    ),
    "a password under TLS to one without": Wall(
        lambda kafka: _ours(kafka, bootstrap__servers=kafka.server("UNLOCKED")),
        ConfigurationError,
        ("does not speak TLS", "SASL_PLAINTEXT"),
    ),
    "no login": Wall(
        lambda kafka: _tls(kafka, "PASSWORDS"),
        ConfigurationError,
        ("wants a login", "SCRAM-SHA-512", "SASL_SSL"),
    ),
    "a login where there is none": Wall(
        lambda kafka: _ours(
            kafka, security__protocol="SASL_PLAINTEXT", bootstrap__servers=kafka.server("PLAIN")
        ),
        ConfigurationError,
        ("takes no login", "security.protocol"),
    ),
    "password": Wall(
        lambda kafka: _ours(kafka, sasl__password="not-this-one"),
        AuthenticationError,
        ("user or password", "KAFKA_SASL_PASSWORD"),
    ),
    "user": Wall(
        lambda kafka: _ours(kafka, sasl__username="not-this-one"),
        AuthenticationError,
        ("user or password", "KAFKA_SASL_USERNAME"),
    ),
    "mechanism": Wall(
        lambda kafka: _ours(kafka, sasl__mechanisms="SCRAM-SHA-256"),
        ConfigurationError,
        ("mechanism", "SCRAM-SHA-512", "KAFKA_SASL_MECHANISM"),
    ),
    "no such mechanism": Wall(
        lambda kafka: _ours(kafka, sasl__mechanisms="SCRAM-SHA"),
        ConfigurationError,
        ("sasl.mechanisms", "SCRAM-SHA-512"),
    ),
    "no such protocol": Wall(
        lambda kafka: _ours(kafka, security__protocol="TLS"),
        ConfigurationError,
        ("security.protocol", "SASL_SSL"),
    ),
    "no certificate of the client": Wall(
        lambda kafka: _tls(kafka, "CERTIFICATES"),
        ConfigurationError,
        ("wants a certificate", "ssl.certificate.location"),
    ),
    "a foreign certificate of the client": Wall(
        _foreign_certificate,
        AuthenticationError,
        ("does not take the certificate", "ssl.certificate.location"),
    ),
    "the authority's file is missing": Wall(
        lambda kafka: _ours(kafka, ssl__ca__location="/nowhere/ca.pem"),
        ConfigurationError,
        ("ssl.ca.location", "/nowhere/ca.pem"),
    ),
    "the key is no key": Wall(
        lambda kafka: {**kafka.certified("app_1"), "ssl.key.location": str(kafka.authority.file)},
        ConfigurationError,
        ("ssl.key.location", "cannot use the file", "ssl.key.password"),
    ),
    "an address that it tells its clients": Wall(
        lambda kafka: {"bootstrap.servers": kafka.server("ASTRAY")},
        BrokerUnavailableError,
        ("advertised.listeners", "nobody listens"),
        passes=True,
    ),
}
# The others of a kind are in the soak.
ONE_OF_EACH = ("password", "plaintext to TLS", "port")


def write_ini(folder: Path, properties: Properties) -> Path:
    lines = [f"{name} = {value}\n" for name, value in properties.items()]
    (folder / "kafka_config.ini").write_text("[default]\n" + "".join(lines))
    return folder


@pytest.mark.parametrize("name", WALLS)
def test_a_wall_names_its_cause(secured: SecuredKafka, tmp_path: Path, name: str) -> None:
    wall = WALLS[name]
    folder = write_ini(tmp_path, wall.properties(secured))

    met = meet("kafka", folder, PATIENCE_SECONDS)

    expect(met, wall.kind, *wall.says)
    assert met.seconds < PATIENCE_SECONDS + SPARE_SECONDS
    assert "not-this-one" not in met.shown
    if wall.passes:
        assert met.seconds >= PATIENCE_SECONDS


@pytest.mark.parametrize("login", ["SCRAM-SHA-512", "PLAIN", "certificate"])
def test_what_is_right_is_taken(secured: SecuredKafka, tmp_path: Path, login: str) -> None:
    by_certificate = login == "certificate"
    properties = secured.certified("ping") if by_certificate else secured.login("ping", login)
    write_ini(tmp_path, properties)

    outcome = run_process(
        "-m", "MessageBroker", "ping", "--broker", "kafka", "--config-dir", str(tmp_path)
    )

    assert outcome.code == 0, outcome.output


@contextlib.contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """Listen at an address, and answer whoever comes; nothing: close the connection."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(64)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_what_is_no_kafka_is_said_to_be_none(tmp_path: Path, protocol: str) -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        write_ini(tmp_path, {"bootstrap.servers": address, "security.protocol": protocol})
        met = meet("kafka", tmp_path, PATIENCE_SECONDS)
    if protocol == "PLAINTEXT":
        expect(met, ConfigurationError, "is no Kafka", "host and port")
    else:  # it may be anything that does not speak TLS just now
        expect(met, BrokerUnavailableError, address, "does not speak TLS", at_once=False)
        assert "make kafka" not in met.text


def test_a_port_that_is_forwarded_to_nothing_yet_is_waited_for(tmp_path: Path) -> None:
    with listening(b"") as address:
        write_ini(tmp_path, {"bootstrap.servers": address})
        met = meet("kafka", tmp_path, PATIENCE_SECONDS)
    expect(met, BrokerUnavailableError, "closes the connection", "security.protocol", at_once=False)
    assert met.seconds >= PATIENCE_SECONDS


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_a_broker_that_is_frozen_is_waited_for(tmp_path: Path, protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers nothing
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        write_ini(tmp_path, {"bootstrap.servers": address, "security.protocol": protocol})
        met = meet("kafka", tmp_path, PATIENCE_SECONDS)
    expect(met, BrokerUnavailableError, "nothing answers there", at_once=False)
    assert met.seconds < PATIENCE_SECONDS + SPARE_SECONDS


def test_in_mid_run_a_certificate_that_expired_is_waited_for_and_named(
    secured: SecuredKafka,
) -> None:
    events = ClientEvents(KafkaSettings(_tls(secured, "EXPIRED"), {}, {}))
    properties = {**_tls(secured, "EXPIRED"), "error_cb": events._on_error, "log_level": 0}
    client = AdminClient(properties)
    while events._cause is None or events._cause.code() != KafkaError._SSL:
        client.poll(0.1)

    error = events.unavailable()

    assert type(error) is BrokerUnavailableError
    assert "its certificate has expired" in str(error)


def test_make_kafka_is_no_advice_for_another_machine(tmp_path: Path) -> None:
    write_ini(tmp_path, {"bootstrap.servers": "192.0.2.1:9092"})

    met = meet("kafka", tmp_path, 1.0)

    expect(met, BrokerUnavailableError, "192.0.2.1:9092", at_once=False)
    assert "make kafka" not in met.text


PROCESSES = [
    pytest.param(name, marks=() if name in ONE_OF_EACH else pytest.mark.soak) for name in WALLS
]


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("command", ["ping", "app_1"])
def test_a_process_ends_with_one_line_and_its_code(
    secured: SecuredKafka, tmp_path: Path, name: str, command: str
) -> None:
    wall = WALLS[name]
    folder = str(write_ini(tmp_path, wall.properties(secured)))
    programs = {
        "ping": ["-m", "MessageBroker", "ping", "--timeout", "2"],
        "app_1": ["app_1.py", "--count", "1", "--wait-for-broker", "2"],
    }

    outcome = run_process(*programs[command], "--broker", "kafka", "--config-dir", folder)

    assert outcome.code == (2 if wall.kind is ConfigurationError else 1), outcome.output
    for words in wall.says:
        assert words in outcome.line, outcome.output
    assert "Traceback" not in outcome.output
