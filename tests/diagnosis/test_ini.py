"""INI files and environment variables as people write them: understood, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from MessageBroker import ConfigurationError, MessageBrokerFactory
from MessageBroker.kafka_handler import KafkaHandler
from MessageBroker.local_handler import LocalHandler
from tests.diagnosis.walls import expect, meet


def kafka(folder: Path, text: str) -> dict[str, str]:
    """Return what a producer gets of an INI file."""
    (folder / "kafka_config.ini").write_text(text)
    with MessageBrokerFactory.get_broker("kafka", config_dir=folder) as broker:
        assert isinstance(broker, KafkaHandler)
        return broker._settings.for_producer()


# ---------------------------------------------------------------------- understood


def test_a_byte_order_mark_is_understood(tmp_path: Path) -> None:
    text = "\ufeff[default]\nbootstrap.servers = one:9092\n"
    assert kafka(tmp_path, text)["bootstrap.servers"] == "one:9092"


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_a_value_are_none_of_it(tmp_path: Path, quote: str) -> None:
    text = f"[default]\nbootstrap.servers = {quote}one:9092{quote}\n"
    assert kafka(tmp_path, text)["bootstrap.servers"] == "one:9092"


@pytest.mark.parametrize("comment", ["# ours", "; ours"])
def test_a_comment_behind_a_value_is_none_of_it(tmp_path: Path, comment: str) -> None:
    text = f"[default]\nbootstrap.servers = one:9092  {comment}\n"
    assert kafka(tmp_path, text)["bootstrap.servers"] == "one:9092"


@pytest.mark.parametrize("password", ["a#b;c", "#at-the-start", '"quotes#inside"x', "p%rcent"])
def test_a_password_may_hold_what_begins_a_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("OUR_SECRET", password)
    text = (
        "[default]\nbootstrap.servers = one:9092\nsecurity.protocol = SASL_SSL\n"
        "sasl.mechanisms = PLAIN\nsasl.username = me\nsasl.password = ${OUR_SECRET}\n"
    )
    assert kafka(tmp_path, text)["sasl.password"] == password


def test_a_quoted_password_may_hold_a_comment_sign(tmp_path: Path) -> None:
    text = (
        "[default]\nbootstrap.servers = one:9092\nsecurity.protocol = SASL_SSL\n"
        'sasl.mechanisms = PLAIN\nsasl.username = me\nsasl.password = "a # b"\n'
    )
    assert kafka(tmp_path, text)["sasl.password"] == "a # b"


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").touch()
    text = "[default]\nbootstrap.servers = one:9092\nssl.ca.location = ~/ca.pem\n"
    assert kafka(tmp_path, text)["ssl.ca.location"] == str(tmp_path / "ca.pem")


def test_a_path_of_a_file_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    text = "[default]\nbootstrap.servers = one:9092\nssl.ca.location = ca.pem\n"
    assert kafka(tmp_path, text)["ssl.ca.location"] == str(tmp_path / "ca.pem")


def test_the_embedded_brokers_folder_may_be_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "local_config.ini").write_text("[default]\npath = ~/broker\n")
    with MessageBrokerFactory.get_broker("local", config_dir=tmp_path) as broker:
        assert isinstance(broker, LocalHandler)
    assert (tmp_path / "home" / "broker").is_dir()


def test_the_environment_names_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broker_config.ini").write_text("[broker]\nname = local\n")
    (tmp_path / "local_config.ini").write_text("[default]\npath = here\n")
    monkeypatch.setenv("MESSAGE_BROKER_CONFIG_DIR", str(tmp_path))
    with MessageBrokerFactory.get_broker() as broker:
        assert isinstance(broker, LocalHandler)
    assert (tmp_path / "here").is_dir()


def test_a_folder_may_hold_only_the_files_that_differ(tmp_path: Path) -> None:
    (tmp_path / "broker_config.ini").write_text("[delivery]\nmax_delivery_attempts = 7\n")
    with MessageBrokerFactory.get_broker("kafka", config_dir=tmp_path) as broker:
        assert isinstance(broker, KafkaHandler)
        assert broker.delivery.max_delivery_attempts == 7
        assert broker._settings.servers == "localhost:9092"


def test_a_secured_cluster_is_reached_by_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret \n")
    authority = tmp_path / "ca.pem"
    authority.touch()
    for name, value in {
        "BOOTSTRAP_SERVERS": "one:9093",
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": "me",
        "SASL_PASSWORD_FILE": str(secret),
        "SSL_CA_LOCATION": str(authority),
    }.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    with MessageBrokerFactory.get_broker("kafka") as broker:
        assert isinstance(broker, KafkaHandler)
        found = broker._settings.for_consumer("group")
    assert {
        name: found.get(name)
        for name in sorted(found)
        if name[:4] in ("boot", "sasl", "secu", "ssl.")
    } == {
        "bootstrap.servers": "one:9093",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.password": "s3cret ",
        "sasl.username": "me",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(authority),
    }


# ---------------------------------------------------------------------- refused by name

SECOND_NAMES = {
    "metadata.broker.list": "bootstrap.servers",
    "sasl.mechanism": "sasl.mechanisms",
    "delivery.timeout.ms": "message.timeout.ms",
    "request.required.acks": "acks",
    "queue.buffering.max.ms": "linger.ms",
    "compression.codec": "compression.type",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
    "message.send.max.retries": "retries",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "auto.commit.enable": "enable.auto.commit",
}


@pytest.mark.parametrize(("second", "first"), SECOND_NAMES.items())
def test_a_second_name_of_a_property_is_refused_by_name(
    tmp_path: Path, second: str, first: str
) -> None:
    text = f"[default]\nbootstrap.servers = one:9092\n{second} = 1\n"
    (tmp_path / "kafka_config.ini").write_text(text)
    expect(meet("kafka", tmp_path), ConfigurationError, second, first, "kafka_config.ini")


def test_credentials_that_no_protocol_would_send_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kafka_config.ini").write_text("[default]\nbootstrap.servers = one:9092\n")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret")
    met = meet("kafka", tmp_path)
    expect(met, ConfigurationError, "security.protocol", "KAFKA_SECURITY_PROTOCOL")
    assert "s3cret" not in met.shown


def test_a_variable_together_with_its_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("s3cret")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret-too")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "secret"))
    met = meet("kafka")
    expect(met, ConfigurationError, "KAFKA_SASL_PASSWORD", "KAFKA_SASL_PASSWORD_FILE")
    assert "s3cret" not in met.shown


@pytest.mark.parametrize("kind", ["missing", "folder", "no text", "empty", "the secret itself"])
def test_a_file_of_a_secret_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "secret"
    if kind == "folder":
        file.mkdir()
    elif kind == "no text":
        file.write_bytes(b"s3cret\xff")
    elif kind == "empty":
        file.touch()
    value = "s3cret-in-the-variable" if kind == "the secret itself" else str(file)
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", value)
    met = meet("kafka")
    expect(met, ConfigurationError, "KAFKA_SASL_PASSWORD_FILE")
    assert "s3cret" not in met.shown
    assert (str(file) in met.text) is (kind != "the secret itself")


LOGIN = "security.protocol = SASL_SSL\nsasl.mechanisms = PLAIN\n"
# Further lines of an INI file with a server, and what is said of them.
INCOMPLETE = {
    "security.protocol = SASL_SSL\n": ("sasl.mechanisms", "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
    LOGIN: ("sasl.username", "KAFKA_SASL_USERNAME"),
    LOGIN + "sasl.username = me\n": ("sasl.password", "KAFKA_SASL_PASSWORD"),
    "security.protocol = SASL_SSL\nsasl.mechanisms = OAUTHBEARER\n"
    "sasl.oauthbearer.method = oidc\n": ("sasl.oauthbearer.method", "token.endpoint.url"),
    "security.protocol = SASL_SSL\nsasl.mechanisms = GSSAPI\n": ("sasl.mechanisms",),
}


@pytest.mark.parametrize("lines", INCOMPLETE)
def test_a_login_of_which_something_is_missing_names_it(tmp_path: Path, lines: str) -> None:
    text = f"[default]\nbootstrap.servers = one:9092\n{lines}"
    (tmp_path / "kafka_config.ini").write_text(text)
    expect(meet("kafka", tmp_path), ConfigurationError, *INCOMPLETE[lines])


@pytest.mark.parametrize("name", ["linger.ms", "acks", "socket.timeout.ms", "compression.type"])
def test_a_value_that_the_client_library_does_not_take_is_named_as_it_was_written(
    tmp_path: Path, name: str
) -> None:
    text = f"[default]\nbootstrap.servers = one:9092\n{name} = s3cret\n"
    (tmp_path / "kafka_config.ini").write_text(text)
    met = meet("kafka", tmp_path)
    expect(met, ConfigurationError, f"[default] {name}:")
    assert "s3cret" not in met.shown


@pytest.mark.parametrize("servers", ["one:0", "one:65536", "https://one:9092", "SSL://one:9092"])
def test_an_address_that_would_be_ignored_is_refused(tmp_path: Path, servers: str) -> None:
    (tmp_path / "kafka_config.ini").write_text(f"[default]\nbootstrap.servers = {servers}\n")
    expect(meet("kafka", tmp_path), ConfigurationError, "bootstrap.servers", "host:port")


def test_a_password_of_two_lines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s3cret\n# of the test cluster\n")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "secret"))
    met = meet("kafka")
    expect(met, ConfigurationError, "KAFKA_SASL_PASSWORD", "more than one line")
    assert "s3cret" not in met.shown


def test_a_user_and_password_in_the_address_are_refused(tmp_path: Path) -> None:
    (tmp_path / "kafka_config.ini").write_text(
        "[default]\nbootstrap.servers = me:s3cret@one:9092\n"
    )
    met = meet("kafka", tmp_path)
    expect(met, ConfigurationError, "bootstrap.servers", "sasl.username")
    assert "s3cret" not in met.shown


def test_a_variable_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret\udce4")
    met = meet("kafka")
    expect(met, ConfigurationError, "KAFKA_SASL_PASSWORD", "UTF-8")
    assert "s3cret" not in met.shown


@pytest.mark.parametrize("name", ["nowhere", "a file"])
def test_a_folder_of_the_environment_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("MESSAGE_BROKER_CONFIG_DIR", str(tmp_path / name))
    state = "is not there" if name == "nowhere" else "is no folder"
    expect(meet("kafka"), ConfigurationError, "MESSAGE_BROKER_CONFIG_DIR", name, state)
