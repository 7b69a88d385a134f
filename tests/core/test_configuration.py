"""The INI files, and the switch between brokers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MessageBroker import ConfigurationError, DeliverySettings, MessageBrokerFactory
from MessageBroker.configuration import read_broker_config
from MessageBroker.ini_file import IniFile
from MessageBroker.local_handler import LocalHandler
from tests.brokers.harness import FOREIGN_VARIABLES

SECRET = "s3cr3t%40 with ${dollar} = and ; and #"


@pytest.fixture(autouse=True)
def no_broker_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the INI files of the embedded broker."""
    (tmp_path / "broker_config.ini").write_text("[broker]\nname = local\n")
    (tmp_path / "local_config.ini").write_text("[default]\npath = state\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "broker_config.ini"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_argument_wins_over_the_variable_over_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MessageBrokerFactory.get_broker(config_dir=folder) as by_file:
        assert isinstance(by_file, LocalHandler)
    monkeypatch.setenv("MESSAGE_BROKER", "carrier-pigeon")
    with pytest.raises(ConfigurationError, match=r"variable MESSAGE_BROKER names .*carrier-pigeon"):
        MessageBrokerFactory.get_broker(config_dir=folder)
    with MessageBrokerFactory.get_broker("local", config_dir=folder) as by_argument:
        assert isinstance(by_argument, LocalHandler)


def test_an_empty_variable_is_no_choice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGE_BROKER", "")

    with MessageBrokerFactory.get_broker(config_dir=folder) as broker:
        assert broker.name == "local"


def test_paths_in_a_file_are_relative_to_it(folder: Path) -> None:
    MessageBrokerFactory.get_broker(config_dir=folder).close()

    assert (folder / "state").is_dir()


def test_delivery_settings_are_read(folder: Path) -> None:
    write(folder, "[delivery]\nmax_delivery_attempts = 7\nmin_backoff = 0.25\n")

    delivery = read_broker_config(folder).delivery

    assert delivery == DeliverySettings(max_delivery_attempts=7, min_backoff=0.25)


def test_kafka_is_the_default(folder: Path) -> None:
    write(folder, "")

    assert read_broker_config(folder).name == "kafka"


def test_the_shipped_files_are_right() -> None:
    config = read_broker_config()

    assert (config.topics.images, config.topics.inferences) == (
        "new_image_topic",
        "inference_topic",
    )
    assert config.delivery == DeliverySettings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[brokers]\n", r"unknown section \[brokers\]: .*\[broker\], \[topics\], \[delivery\]"),
        ("[broker]\nnames = local\n", r"\[broker\] names is unknown"),
        ("[broker]\nname = <YOUR BROKER>\n", r"\[broker\] name is still '<YOUR BROKER>'"),
        ("[broker]\nname = <YOUR BROKER>.net\n", r"\[broker\] name is still '<YOUR BROKER>'"),
        ("[broker]\nname =\n", r"\[broker\] name is empty"),
        ("[broker]\nname = ${NOT_SET_ANYWHERE}\n", r"NOT_SET_ANYWHERE, which is not set"),
        ("name = local\n", "before the first"),
        ("[broker]\nname = local\nname = kafka\n", "stands there twice"),
        ("[broker]\nname = local\n[broker]\n", "stands there twice"),
        ("[broker]\nthis is not a setting\n", "neither a .section. nor"),
        ("[topics]\nimages = one\ninferences = one\n", "images and inferences are both 'one'"),
        ("[delivery]\nmax_backoff = long\n", r"\[delivery\] max_backoff is 'long': .* a number"),
        ("[delivery]\nmax_delivery_attempts = 1.5\n", "must be a whole number"),
        ("[delivery]\nmin_backoff = 9\nmax_backoff = 3\n", "is more than max_backoff"),
        ("[delivery]\nmax_lease_seconds = 0\n", "must be more than 0"),
        ("[delivery]\nmax_backoff = nan\n", "must be"),
        ("[delivery]\nmax_backoff = inf\n", "must be"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    folder: Path, text: str, complaint: str
) -> None:
    path = write(folder, text)

    with pytest.raises(ConfigurationError, match=complaint) as raised:
        read_broker_config(folder)

    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config-dir"):
        MessageBrokerFactory.get_broker("local", config_dir=tmp_path / "nowhere")


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "broker_config.ini").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_broker_config(folder)


@given(
    st.text(
        alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Zs"]),
        min_size=1,
    )
)
def test_a_secret_from_the_environment_arrives_unchanged(secret: str) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setenv("A_SECRET", secret)
        path = Path(name) / "secret.ini"
        path.write_text("[default]\npassword = ${A_SECRET}\n", encoding="utf-8")

        assert IniFile(path, ["default"]).section("default") == {"password": secret}


def test_a_secret_never_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a repr, nor in an error about its own line, nor in the traceback."""
    monkeypatch.setenv("A_SECRET", SECRET)
    path = folder / "kafka_config.ini"
    path.write_text(f"[default]\nsasl.password = {SECRET}\n", encoding="utf-8")
    shown = [repr(IniFile(path, ["default"])), str(vars(IniFile(path, ["default"])))]
    for wrong in (
        f"sasl.password = {SECRET}\n",
        f"[default]\n{SECRET.replace('=', '').replace(':', '')}\n",
        f"[default]\nsasl.password = {SECRET}\nsasl.password = {SECRET}\n",
        f"[default]\nsasl.passwort = {SECRET}\n",
    ):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ConfigurationError) as raised:
            IniFile(path, ["default"]).section("default", {"sasl.password"})
        shown += ["".join(traceback.format_exception(raised.value)), repr(raised.value)]

    assert not [text for text in shown if "s3cr3t" in text]


@pytest.mark.parametrize("broker", ["kafka", "pubsub"])
def test_asking_for_one_broker_loads_no_other(folder: Path, broker: str) -> None:
    """Nobody needs the client library of a broker that they do not use."""
    (folder / "kafka_config.ini").write_text("[default]\nbootstrap.servers = 127.0.0.1:1\n")
    (folder / "pubsub_config.ini").write_text("[default]\nproject_id = nowhere\n")
    program = (
        "import sys; from MessageBroker import MessageBrokerFactory as factory\n"
        "libraries = {'confluent_kafka', 'grpc', 'google.cloud.pubsub_v1'}\n"
        "assert not libraries & set(sys.modules)\n"
        f"factory.get_broker({broker!r}, config_dir={str(folder)!r}).close(0)\n"
        "print(sorted(libraries & set(sys.modules)))"
    )

    outcome = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PUBSUB_EMULATOR_HOST": "127.0.0.1:1", "PATH": "/usr/bin"},
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )

    others = {"kafka": ["grpc", "google.cloud.pubsub_v1"], "pubsub": ["confluent_kafka"]}[broker]
    assert outcome.returncode == 0, outcome.stderr
    assert not [each for each in others if each in outcome.stdout]
