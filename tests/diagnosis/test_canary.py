"""A secret is planted wherever one may come from, each configuration is broken, all is searched."""

from __future__ import annotations

import itertools
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from MessageBroker import BrokerError, MessageBrokerFactory
from tests.diagnosis.walls import ROOT, run_process
from tests.servers import free_port

CANARY = "CANARYsecret31415"
Environment = dict[str, str]
Plant = Callable[[Path], Environment]


def _ini(section: str, **values: str) -> Plant:
    """Plant it in an INI file."""

    def plant(folder: Path) -> Environment:
        named = {name.replace("__", "."): value for name, value in values.items()}
        lines = [f"{name} = {value}\n" for name, value in named.items()]
        (folder / "kafka_config.ini").write_text(f"[{section}]\n" + "".join(lines))
        return {}

    return plant


def _default(**values: str) -> Plant:
    login = {"security__protocol": "SASL_PLAINTEXT", "sasl__mechanisms": "PLAIN"}
    login |= {"sasl__username": "me", "sasl__password": "s"}
    return _ini("default", bootstrap__servers="127.0.0.1:{port}", **{**login, **values})


def _environment(**values: str) -> Plant:
    return lambda folder: {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:{port}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "me",
        **values,
    }


def _text(text: str) -> Plant:
    def plant(folder: Path) -> Environment:
        (folder / "kafka_config.ini").write_text(text)
        return {}

    return plant


def _file(name: str, data: bytes, **more: str) -> Plant:
    def plant(folder: Path) -> Environment:
        (folder / "secret").write_bytes(data)
        return {**_environment(**more)(folder), name: str(folder / "secret")}

    return plant


SERVERS = "[default]\nbootstrap.servers = 127.0.0.1:{port}\n"
KAFKA: dict[str, Plant] = {
    # right in itself: only the broker is away
    "password in the INI": _default(sasl__password=CANARY),
    "password in the environment": _environment(KAFKA_SASL_PASSWORD=CANARY),
    "password in a file": _file("KAFKA_SASL_PASSWORD_FILE", CANARY.encode()),
    "user in a file": _file(
        "KAFKA_SASL_USERNAME_FILE",
        CANARY.encode(),
        KAFKA_SASL_USERNAME="",
        KAFKA_SASL_PASSWORD="s",
    ),
    "key password": _default(ssl__key__password=CANARY),
    "keystore password": _default(ssl__keystore__password=CANARY),
    "debug": _default(sasl__password=CANARY, debug="all"),
    # where it does not belong
    "servers with userinfo": _text(f"[default]\nbootstrap.servers = me:{CANARY}@127.0.0.1:1\n"),
    "servers in the environment with userinfo": _environment(
        KAFKA_BOOTSTRAP_SERVERS=f"SASL_SSL://me:{CANARY}@127.0.0.1:1"
    ),
    "protocol": _default(security__protocol=CANARY),
    "protocol in the environment": _environment(KAFKA_SECURITY_PROTOCOL=CANARY),
    "mechanism": _default(sasl__mechanisms=CANARY),
    "mechanism in the environment": _environment(KAFKA_SASL_MECHANISM=CANARY),
    "an enum": _default(acks=CANARY),
    "a number": _default(linger__ms=CANARY),
    "a truth": _default(enable__ssl__certificate__verification=CANARY),
    "a fixed one": _default(enable__idempotence=CANARY),
    "debug of": _default(debug=CANARY),
    "authority": _default(security__protocol="SASL_SSL", ssl__ca__location=CANARY),
    "authority in the environment": _environment(
        KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_SSL_CA_LOCATION=CANARY
    ),
    "certificate": _default(security__protocol="SSL", ssl__certificate__pem=CANARY),
    "key": _default(security__protocol="SSL", ssl__key__pem=CANARY),
    "pem": _default(security__protocol="SASL_SSL", ssl__ca__pem=CANARY),
    "oauth": _default(sasl__mechanisms="OAUTHBEARER", sasl__oauthbearer__config=CANARY),
    "oauth secret": _default(
        sasl__mechanisms="OAUTHBEARER",
        sasl__oauthbearer__method="oidc",
        sasl__oauthbearer__client__secret=CANARY,
    ),
    "partitions": _text(SERVERS + f"[topic]\nnum_partitions = {CANARY}\n"),
    "second name": _default(sasl__password=CANARY, sasl__mechanism="PLAIN"),
    "twice": _text(SERVERS + f"sasl.password = {CANARY}\nsasl.password = {CANARY}2\n"),
    "no section": _text(f"sasl.password = {CANARY}\n"),
    "no value": _text(SERVERS + f"{CANARY}\n"),
    "an unset variable": _text(SERVERS + f"sasl.password = {CANARY}${{NO_SUCH}}\n"),
    "a comment sign": _default(sasl__password=f"{CANARY} # x"),
    "file and variable": _file(
        "KAFKA_SASL_PASSWORD_FILE", CANARY.encode(), KAFKA_SASL_PASSWORD=CANARY
    ),
    "the secret for its file": _environment(KAFKA_SASL_PASSWORD_FILE=CANARY),
    "no text": _file("KAFKA_SASL_PASSWORD_FILE", CANARY.encode() + b"\xff"),
    "a zero": _file("KAFKA_SASL_PASSWORD_FILE", CANARY.encode() + b"\0"),
    "two lines": _file("KAFKA_SASL_PASSWORD_FILE", CANARY.encode() + b"\n\nx\n"),
    "the folder": lambda _: {"MESSAGE_BROKER_CONFIG_DIR": CANARY},
    "the broker": lambda _: {"MESSAGE_BROKER": CANARY},
    "the broker in the INI": lambda folder: (
        (folder / "broker_config.ini").write_text(f"[broker]\nname = {CANARY}\n"),
        {"MESSAGE_BROKER": ""},
    )[1],
}
PUBSUB: dict[str, Plant] = {
    "emulator": lambda _: {"PUBSUB_EMULATOR_HOST": f"me:{CANARY}@127.0.0.1:1"},
    "emulator's path": lambda _: {"PUBSUB_EMULATOR_HOST": f"http://127.0.0.1:1/{CANARY}"},
    "project": lambda _: {"GOOGLE_CLOUD_PROJECT": json.dumps({"private_key": CANARY})},
    "the JSON": lambda _: {"GOOGLE_APPLICATION_CREDENTIALS": json.dumps({"private_key": CANARY})},
    "a value": lambda _: {"GOOGLE_APPLICATION_CREDENTIALS": CANARY},
    "a file": _file("GOOGLE_APPLICATION_CREDENTIALS", CANARY.encode() + b"\xff"),
    "a file of a key": _file(
        "GOOGLE_APPLICATION_CREDENTIALS",
        json.dumps({"type": "service_account", "private_key": CANARY}).encode(),
    ),
    # right in themselves: asking for a token fails
    "a login": _file(
        "GOOGLE_APPLICATION_CREDENTIALS",
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": f"{CANARY}.apps",
                "client_secret": CANARY,
                "refresh_token": CANARY,
            }
        ).encode(),
    ),
    "a foreign account": _file(
        "GOOGLE_APPLICATION_CREDENTIALS",
        json.dumps(
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/x",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": "https://sts.googleapis.com/v1/token",
                "credential_source": {
                    "url": f"http://127.0.0.1:1/{CANARY}",
                    "headers": {"Authorization": CANARY},
                },
            }
        ).encode(),
    ),
}
PLANTED = {
    **{f"kafka: {name}": plant for name, plant in KAFKA.items()},
    **{f"pubsub: {name}": plant for name, plant in PUBSUB.items()},
}


def plant(name: str, folder: Path) -> Environment:
    """Plant the canary; return the environment that leads to it."""
    port = str(free_port())
    environment = PLANTED[name](folder)
    for file in folder.glob("*.ini"):
        file.write_text(file.read_text().replace("{port}", port))
    broker = name.partition(":")[0]
    return {
        "MESSAGE_BROKER": broker,
        "MESSAGE_BROKER_CONFIG_DIR": str(folder),
        **({"GOOGLE_CLOUD_PROJECT": "project-of-tests"} if broker == "pubsub" else {}),
        **{key: value.replace("{port}", port) for key, value in environment.items()},
    }


@pytest.mark.parametrize("name", PLANTED)
def test_no_planted_secret_shows_in_errors_logs_or_reprs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for key, value in plant(name, tmp_path).items():
        monkeypatch.setenv(key, value)
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    def note(attempt: Callable[[], Any]) -> None:
        try:
            shown.append(repr(attempt()))
        except BrokerError as error:
            shown.extend(traceback.format_exception(error))
            shown.append(repr(error) + repr(vars(error)))

    with ExitStack() as stack:
        opened: list[Any] = []
        note(lambda: opened.append(stack.enter_context(MessageBrokerFactory.get_broker())))
        for broker in opened:
            shown.append(repr(broker) + repr(vars(broker)))
            note(lambda broker=broker: broker.ping(0.6))  # type: ignore[misc]
            note(lambda broker=broker: broker.list_topics)  # type: ignore[misc]

    logs = [record.getMessage() + repr(vars(record)) for record in caplog.records]
    everything = "".join([*shown, *logs, caplog.text, *capfd.readouterr()])
    assert everything
    assert CANARY not in everything


# The processes: what a person sees, and what a collector of logs gets.
COMMANDS = {
    "ping": ("-m", "MessageBroker", "ping", "--timeout", "0.5"),
    "ping in JSON": ("-m", "MessageBroker", "ping", "--timeout", "0.5", "--json"),
    "app_1": ("app_1.py", "--count", "1", "--wait-for-broker", "0", "--log-level", "debug"),
    "app_1 in JSON": (
        *("app_1.py", "--count", "1", "--wait-for-broker", "0"),
        *("--log-level", "debug", "--log-format", "json"),
    ),
}
IN_TESTS = {
    "kafka: debug": "app_1 in JSON",
    "kafka: an enum": "ping",
    "pubsub: the JSON": "ping in JSON",
}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param(name, command, marks=() if IN_TESTS.get(name) == command else pytest.mark.soak)
        for name, command in itertools.product(PLANTED, COMMANDS)
    ],
)
def test_no_planted_secret_shows_in_what_a_process_says(
    name: str, command: str, tmp_path: Path
) -> None:
    environment = plant(name, tmp_path)

    ended = run_process(*COMMANDS[command], environment=environment, folder=ROOT)

    assert ended.code in (1, 2), ended.output
    assert CANARY not in ended.output
    assert "Traceback" not in ended.output, ended.output
    assert ended.output.strip()
