"""The wheel alone, in an empty folder: the commands, their state, their types, what is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from DurableText.installation import NAME, __version__, places
from DurableText.installation.commands import TOOLS
from DurableText.installation.extras import EXTRA_OF
from MessageBroker.kafka.diagnosis import advice_where_away
from tests.package.conftest import ROOT, Installed

COMMANDS = ("edms-app-1", "edms-model-server-sub", "edms-model-server-pub", "edms-app-2", "edms")

# What a program of a user's does with the library; its types are to be found, strictly.
PROGRAM = """
from pathlib import Path

from DB import open_database
from MessageBroker import BrokerInterface, Message, MessageBrokerFactory
from Modelling.predict_cnn import Classifier, load_classifier
from Queue import Record, open_queue


def relay(broker: BrokerInterface, messages: list[Message]) -> list[str]:
    return [broker.publish("orders", each.data, key=each.key).result() for each in messages]


def classify(path: Path) -> str:
    classifier: Classifier = load_classifier(threads=1)
    return classifier.predict(classifier.prepare_batch([path.read_bytes()])[0]).labels[0]


with MessageBrokerFactory.get_broker("local") as broker:
    with broker.subscribe("orders") as subscription:
        subscription.ack(subscription.receive(max_messages=10, timeout=1.0))
with open_queue(Path("log.txt")) as queue:
    queue.put([Record("1", b"{}")])
with open_database("db.txt") as db:
    count: int = db.count()
"""


def test_the_commands_say_their_version(installed: Installed) -> None:
    for command in COMMANDS:
        assert installed.must(command, "--version") == f"{command} {__version__}\n"
    for tool in TOOLS:
        assert installed.must("edms", tool, "--version") == f"edms {tool} {__version__}\n"


def test_the_wheel_alone_runs_the_pipeline_in_an_empty_folder(installed: Installed) -> None:
    installed.must("edms-app-1", "--count", 20)
    idle = "--exit-when-idle", 0.5
    for command in ("edms-model-server-sub", "edms-model-server-pub", "edms-app-2"):
        installed.must(command, *idle)

    assert json.loads(installed.must("edms", "db", "summary", "--json"))["rows"] == 20
    state = installed.home / ".local" / "state" / NAME
    assert {each.name for each in state.iterdir()} == {".local_broker", "DB", "Queue"}
    assert not [*installed.folder.iterdir()]
    assert installed.run("python", "-c", "import tensorflow").returncode != 0


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("edms-app-1", "--broker", "kafka"), "kafka"),
        (("edms", "broker", "ping", "--broker", "pubsub"), "pubsub"),
        (("edms-app-2", "--db", "postgresql://host/results"), "postgres"),
        (("edms-model-server-pub", "--queue", "redis://host/0"), "redis"),
        (("edms", "train"), "training"),
        (("edms-model-server-sub", "--checkpoint", "SHIPPED.h5"), "training"),
        (("edms", "predict", "--checkpoint", "SHIPPED.h5", "a.png"), "training"),
        (("edms-model-server-sub", "--checkpoint", "some.onnx"), "onnx"),
        (("edms", "page"), "page"),
    ],
    # Without a broker's name in brackets: tests/shared_out.py takes that for one that needs it.
    ids=lambda value: f"its {value}" if isinstance(value, str) else " ".join(value),
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(
    installed: Installed, tmp_path: Path, command: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "some.onnx").write_bytes(b"\x08\x07")
    # Without its side file, and so without a compiled form.
    shutil.copy(ROOT / "Modelling/model_checkpoints/mnist_cnn_model.h5", tmp_path / "SHIPPED.h5")
    files = {"some.onnx": tmp_path / "some.onnx", "SHIPPED.h5": tmp_path / "SHIPPED.h5"}
    done = installed.run(*(files.get(each, each) for each in command))
    assert done.returncode in (1, 2), done.stderr
    assert f"pip install '{NAME}[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        *(("edms", tool) for tool in ("demo", "together", "db summary", "queue status")),
        *((each, "--exit-when-idle", "1") for each in COMMANDS[1:4]),
        ("edms-app-1", "--count", "1"),
    ],
    ids="-".join,
)
def test_a_home_that_cannot_be_written_is_told_in_one_line(
    installed: Installed, command: tuple[str, ...]
) -> None:
    name, *arguments = " ".join(command).split()
    done = installed.run(name, *arguments, HOME=os.devnull)
    assert done.returncode in (1, 2), done.stdout
    assert os.devnull in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_and_a_trace_name_what_they_miss(installed: Installed, tmp_path: Path) -> None:
    picture = ROOT / "tests" / "modelling" / "pictures" / "corner.heic"
    assert f"pip install '{NAME}[heic]'" in installed.run("edms", "predict", picture).stdout
    told = installed.run(
        "edms-model-server-pub", "--exit-when-idle", 0.1, OTEL_TRACES_EXPORTER="otlp",
        RESULT_QUEUE=str(tmp_path / "log.txt"),
    )  # fmt: skip
    assert f"pip install '{NAME}[tracing]'" in told.stderr


def test_the_demo_names_what_there_is_without_a_makefile(installed: Installed) -> None:
    told = installed.must("edms", "demo", "--count", 20, "--picture", installed.home / "demo.png")
    assert "Next: `edms together` " in told


def test_without_a_makefile_a_broker_is_started_by_other_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "`make kafka`" in advice_where_away("localhost:9092")
    monkeypatch.setattr(places, "in_checkout", lambda: False)
    assert "start one with `docker run " in advice_where_away("localhost:9092")


def test_every_extra_is_named_where_it_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == set(EXTRA_OF.values())


def test_the_ini_files_of_the_user_are_found_without_an_option(installed: Installed) -> None:
    folder = installed.home / ".config" / NAME
    folder.mkdir(parents=True)
    try:
        (folder / "local_config.ini").write_text("[default]\npath = elsewhere\n")
        installed.must("edms", "broker", "topics", "create")
        assert (folder / "elsewhere").is_dir()
    finally:
        (folder / "local_config.ini").unlink()


def test_a_folder_of_the_user_that_may_not_be_looked_at_is_not_there(installed: Installed) -> None:
    # As /home under systemd's ProtectHome; root may look everywhere, but at no name so long.
    hidden = f"/{'a' * 300}"
    installed.must("edms", "broker", "ping", XDG_CONFIG_HOME=hidden)


def test_a_users_program_has_strict_types(installed: Installed, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    python = installed.environment / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
