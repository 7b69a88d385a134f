"""Bad input and bad days: each has its class and one line that says what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from MessageBroker import (
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    MessageBrokerFactory,
)
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.brokers.harness import clean_environment
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("no_broker_of_ours")

# ---------------------------------------------------------------------- nobody there


def test_an_emulator_variable_that_points_nowhere_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    with PubSubHandler("some-project") as broker:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match="make pubsub"):
            broker.ping(10.0)
        assert time.monotonic() - started < 5
        with pytest.raises(BrokerUnavailableError):
            broker.publish("some-topic", b"x")
        with pytest.raises(BrokerUnavailableError):
            broker.create_topic("some-topic")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:abc",
        ":",
        "https://localhost:8085/",
        "8085",
        "a..b:8085",
        "x" * 70 + ":1",
    ],
)
def test_an_emulator_variable_that_is_no_address_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    with (
        PubSubHandler("some-project") as broker,
        pytest.raises(ConfigurationError, match="HOST:PORT"),
    ):
        broker.ping(5.0)


def test_a_port_that_takes_connections_and_never_answers_is_told_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, PubSubHandler("some-project") as broker:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        broker = PubSubHandler("some-project")
        started = time.monotonic()
        with pytest.raises(BrokerUnavailableError):
            broker.subscribe("some-topic")
        assert time.monotonic() - started < 10
        broker.close()


# ---------------------------------------------------------------------- configuration


def factory(folder: Path, text: str | None) -> BrokerError | str:
    """Write the INI files, and return the error of the factory, or the project."""
    (folder / "broker_config.ini").write_text("[broker]\nname = pubsub\n")
    if text is not None:
        (folder / "pubsub_config.ini").write_text(text)
    try:
        broker = MessageBrokerFactory.get_broker(config_dir=folder)
    except BrokerError as error:
        return error
    assert isinstance(broker, PubSubHandler)
    with broker:
        return broker._connection.project_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default]\nproject_id = <YOUR PROJECT ID>\n", "GOOGLE_CLOUD_PROJECT"),
        ("[default]\n", "project_id is missing"),
        ("[default]\nproject = some-project\n", "project is unknown"),
        ("[project]\nid = some-project\n", "unknown section"),
        ("[default]\nproject_id = My First Project\n", "not the name"),
        ("[default]\nproject_id = ${NO_SUCH_VARIABLE}\n", "NO_SUCH_VARIABLE"),
        (None, "pubsub_config.ini"),
    ],
)
def test_a_wrong_configuration_says_what_to_change(
    tmp_path: Path, text: str | None, said: str
) -> None:
    error = factory(tmp_path, text)
    assert isinstance(error, ConfigurationError)
    assert said in str(error)


def test_the_environment_names_the_project_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert factory(tmp_path, "[default]\nproject_id = of-the-file\n") == "of-the-file"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-the-environment")
    assert factory(tmp_path, "[default]\nproject_id = of-the-file\n") == "of-the-environment"


# ---------------------------------------------------------------------- manners


def run_python(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script, with nothing set that would make the client libraries quiet."""
    environment = {key: value for key, value in environment.items() if key != "GRPC_VERBOSITY"}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_but_our_own_words_reaches_the_terminal() -> None:
    """gRPC and google-auth write to the terminal by themselves, unless they are told not to."""
    script = (
        "from MessageBroker import *\n"
        "broker = MessageBrokerFactory.get_broker('pubsub')\n"
        "try: broker.ping(3)\n"
        "except BrokerUnavailableError: print('away')\n"
        "broker.close()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **clean_environment(),
            "GOOGLE_CLOUD_PROJECT": "some-project",
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{silent.getsockname()[1]}",
        }
        finished = run_python(script, environment)
        finished.check_returncode()
    assert (finished.stdout, finished.stderr) == ("away\n", "")


def test_the_client_libraries_are_told_to_be_quiet_before_they_are_imported() -> None:
    """They go by the environment when they are imported, and some warn, as of a Python's end."""
    script = (
        "import os, sys, warnings\n"
        "class Watch:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name in ('grpc', 'google.api_core', 'google.auth'):\n"
        "            warnings.warn('the end of support', FutureWarning)\n"
        "            assert os.environ['GRPC_VERBOSITY'] == 'NONE'\n"
        "            print(name)\n"
        "sys.meta_path.insert(0, Watch)\n"
        "import MessageBroker.google_pubsub_handler\n"
    )
    finished = run_python(script, clean_environment())
    assert finished.stderr == ""
    assert set(finished.stdout.split()) == {"grpc", "google.api_core", "google.auth"}
