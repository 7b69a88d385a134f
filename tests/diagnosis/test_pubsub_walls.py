"""Pub/Sub: projects, key files and addresses as people get them wrong."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from MessageBroker import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
)
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.diagnosis.walls import expect, meet, run_process
from tests.pubsub.fake_service import FakeService
from tests.servers import free_port

SECRET = "CANARYSECRETMATERIAL"
KEY = {
    "type": "service_account",
    "project_id": "x",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n",
    "client_email": "a@b.iam.gserviceaccount.com",
    "token_uri": "http://127.0.0.1:1/token",
    "note": "café",
}
TEXT = json.dumps(KEY, ensure_ascii=False)
ENCODED = base64.b64encode(SECRET.encode()).decode()[:20]


def _file(contents: bytes | None) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        path = folder / "key.json"
        if contents is None:
            path.mkdir()
        else:
            path.write_bytes(contents)
        return str(path)

    return make


def _pipe(folder: Path) -> str:
    path = folder / "key.json"
    os.mkfifo(path)
    return str(path)


# What GOOGLE_APPLICATION_CREDENTIALS holds, and what is said of it.
KEY_FILES: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda folder: str(folder / "key.json"), "is not there"),
    "a folder": (_file(None), "is a folder"),
    "a pipe": (_pipe, "a pipe, not a file"),
    "empty": (_file(b""), "is empty"),
    "no JSON": (_file(SECRET.encode()), "is no JSON"),
    "cut off": (_file(TEXT.encode()[:-9]), "is no JSON"),
    "a zero behind it": (_file(TEXT.encode() + b"\0"), "is no JSON"),
    "a list": (_file(json.dumps([SECRET]).encode()), "holds no JSON object"),
    "a text": (_file(json.dumps(SECRET).encode()), "holds no JSON object"),
    "Latin-1": (_file(TEXT.encode("latin-1")), "is not UTF-8"),
    "UTF-16": (_file(TEXT.encode("utf-16")), "is not UTF-8"),
    "another type": (_file(json.dumps({**KEY, "type": SECRET}).encode()), "type"),
    "no type": (_file(json.dumps({"private_key": SECRET}).encode()), "type"),
    "a key that is none": (_file(json.dumps(KEY).encode()), "cannot be used"),
    "fields missing": (
        _file(json.dumps({"type": "service_account", "private_key": SECRET}).encode()),
        "cannot be used",
    ),
    "deep": (_file(b"[" * 100_000), "is no JSON"),
    "in a home that no shell has filled in": (lambda _: "~/key.json", "begins with '~'"),
    "the JSON itself": (lambda _: TEXT, "the JSON itself"),
    "the JSON in base64": (lambda _: base64.b64encode(TEXT.encode()).decode(), "no path"),
    "three times the JSON": (lambda _: TEXT * 3, "the JSON itself"),
}


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project-of-tests")


def assert_no_secret(shown: str) -> None:
    assert SECRET not in shown
    assert ENCODED not in shown
    assert TEXT[:40] not in shown


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", KEY_FILES)
def test_a_key_file_that_is_wrong_is_told_without_a_word_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    make, says = KEY_FILES[name]
    value = make(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", value)

    met = meet("pubsub")

    expect(met, AuthenticationError, "GOOGLE_APPLICATION_CREDENTIALS", says)
    assert_no_secret(met.shown)
    assert (str(tmp_path) in met.text) is value.startswith(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.soak) for each in KEY_FILES if each != "a folder"]
    + ["a folder"],
)
@pytest.mark.parametrize(
    "command",
    [("-m", "MessageBroker", "ping"), ("app_1.py", "--count", "1", "--log-format", "json")],
    ids=["ping", "app_1"],
)
def test_a_process_with_a_wrong_key_file_ends_with_one_line(
    tmp_path: Path, name: str, command: tuple[str, ...]
) -> None:
    make, says = KEY_FILES[name]
    outcome = run_process(
        *command,
        environment={
            "MESSAGE_BROKER": "pubsub",
            "GOOGLE_CLOUD_PROJECT": "project-of-tests",
            "GOOGLE_APPLICATION_CREDENTIALS": make(tmp_path),
        },
    )
    assert outcome.code == 1, outcome.output
    assert says in outcome.line
    assert "Traceback" not in outcome.output
    assert_no_secret(outcome.output)


@pytest.mark.parametrize("address", ["http://localhost:8085", "http://localhost:8085/"])
def test_http_before_the_emulators_address_is_understood(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
    assert PubSubHandler("some-project")._connection.emulator == "localhost:8085"


PROJECTS = ("my project", "My-Project", "12345", "s3cret/../project", "x" * 80)


@pytest.mark.parametrize("project", PROJECTS)
def test_what_cannot_be_a_project_is_refused(monkeypatch: pytest.MonkeyPatch, project: str) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    met = meet("pubsub")
    expect(met, ConfigurationError, "GOOGLE_CLOUD_PROJECT", "project_id")


def test_no_project_is_told(tmp_path: Path) -> None:
    expect(meet("pubsub"), ConfigurationError, "project_id", "GOOGLE_CLOUD_PROJECT")


ADDRESSES: dict[str, tuple[Callable[[], str], type[BrokerError], str]] = {
    "port": (lambda: f"127.0.0.1:{free_port()}", BrokerUnavailableError, "make pubsub"),
    "host": (lambda: "no-such-host.invalid:8085", BrokerUnavailableError, "no-such-host.invalid"),
    "no port": (lambda: "localhost", ConfigurationError, "HOST:PORT"),
    "no number": (lambda: "localhost:port", ConfigurationError, "HOST:PORT"),
    "userinfo": (lambda: f"me:{SECRET}@localhost:8085", ConfigurationError, "HOST:PORT"),
    "a path": (lambda: f"http://localhost:8085/{SECRET}", ConfigurationError, "HOST:PORT"),
    "https": (lambda: "https://localhost:8085", ConfigurationError, "https"),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ADDRESSES)
def test_an_emulators_address_that_is_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    address, kind, says = ADDRESSES[name]
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address())
    met = meet("pubsub", timeout=2.0)
    expect(met, kind, "PUBSUB_EMULATOR_HOST", says)
    assert SECRET not in met.shown


@pytest.mark.usefixtures("project")
def test_make_pubsub_is_no_advice_for_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "no-such-host.invalid:8085")
    assert "make pubsub" not in meet("pubsub").text


REFUSALS: dict[grpc.StatusCode, type[BrokerError]] = {
    grpc.StatusCode.PERMISSION_DENIED: AuthenticationError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.INVALID_ARGUMENT: ConfigurationError,
    grpc.StatusCode.UNAVAILABLE: BrokerUnavailableError,
}


@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
def test_the_text_of_the_service_is_not_repeated(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode
) -> None:
    """It may hold what was sent to it, or what the client library put around it."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project-of-tests")
    service.refuse("*", code, f"you sent {SECRET}")
    met = meet("pubsub", timeout=1.0)
    expect(met, REFUSALS[code], code.name)
    assert SECRET not in met.shown


def test_a_project_without_pubsub_is_told_how_to_switch_it_on(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project-of-tests")
    detail = Any()
    detail.Pack(ErrorInfo(reason="SERVICE_DISABLED", domain="googleapis.com"))
    status = Status(code=grpc.StatusCode.PERMISSION_DENIED.value[0], details=[detail])

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort raises")

    service.answer("*", refuse)
    expect(meet("pubsub"), ConfigurationError, "gcloud services enable pubsub.googleapis.com")
