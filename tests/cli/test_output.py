"""Where the commands' output goes may be full, or gone."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from DB.text.database import TextDatabase
from DurableText import command_line
from tests.queue.of_dicts import FileQueue

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    monkeypatch.setenv("LOCAL_BROKER_PATH", str(tmp_path))
    with FileQueue(tmp_path / "log.txt") as queue, TextDatabase(tmp_path / "db.txt") as db:
        queue.put([{"id": "a"}])
        db.insert([{"id": "a", "label": "7"}])
    return {
        "Queue": ["status", "--queue", str(tmp_path / "log.txt")],
        "DB": ["summary", "--db", str(tmp_path / "db.txt")],
        "MessageBroker": ["ping", "--broker", "local"],
    }


def run(command: str, arguments: list[str], output: int) -> subprocess.CompletedProcess[str]:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", command, *arguments],
        cwd=ROOT,
        env=buffered,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("command", ["Queue", "DB", "MessageBroker"])
def test_a_full_disk_behind_the_output_is_one_line(
    command: str, commands: dict[str, list[str]]
) -> None:
    with FULL.open("w") as full:
        done = run(command, commands[command], full.fileno())

    assert done.returncode == 1
    assert done.stderr.strip().endswith("the output cannot be written: No space left on device")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    "program",
    [
        "-m Modelling.predict_cnn Modelling/plots/loss_plot.png",
        "-m Pipeline.watch --interval 0.1 1",
        "-m Pipeline.watch --once 1",
        "-m Pipeline.watch --help",
        "app_1.py --count 1",
    ],
)
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_disk_behind_any_programs_output_is_one_line_and_1(
    program: str, buffered: str, tmp_path: Path
) -> None:
    own = {"LOCAL_BROKER_PATH": str(tmp_path), "MESSAGE_BROKER": "local"}
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, *program.split()],
            cwd=ROOT,
            env=os.environ | own | {"PYTHONUNBUFFERED": buffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.count("the output cannot be written: No space left on device") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["Queue", "DB", "MessageBroker"])
def test_a_reader_that_has_seen_enough_is_no_failure(
    command: str, commands: dict[str, list[str]]
) -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)

    done = run(command, commands[command], writing_end)
    os.close(writing_end)

    assert done.stderr == ""
    assert done.returncode == 0


# What ends with which code, whether or not somebody reads its output to the end.
PROGRAMS = {
    "-m MessageBroker backlog no-such-topic": 1,
    "-m DB get a --db {folder}/db.txt": 0,
    "-m DB get no-such-id --db {folder}/db.txt": 1,
    "-m Modelling.predict_cnn {picture}": 0,
    "-m Modelling.predict_cnn {picture} {folder}/db.txt": 1,
    "-m Pipeline.watch --once --interval 0.1 1": 1,
    "-m Pipeline.watch --interval 0.1 1": 0,  # it would go on for ever
    "app_1.py --count 1": 0,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_with_its_own_code_though_nobody_reads_its_output(
    program: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    assert commands  # they made the files
    picture = tmp_path / "picture.png"
    one = Image.new("L", (28, 28))
    ImageDraw.Draw(one).line([(14, 5), (14, 23)], fill=255, width=3)
    one.save(picture)
    arguments = program.format(folder=tmp_path, picture=picture).split()
    reading_end, writing_end = os.pipe()
    os.close(reading_end)

    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "LOCAL_BROKER_PATH": str(tmp_path / "broker"),
            "MESSAGE_BROKER": "local",
        },
        stdout=writing_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing_end)

    assert done.returncode == PROGRAMS[program], done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_an_error_of_the_system_names_its_file_and_not_the_output(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.set_defaults(run=lambda _options: (tmp_path / "nowhere").read_bytes())

    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert command_line.run(parser, [], ValueError) == 1

    assert said.getvalue() == f"{tmp_path / 'nowhere'} cannot be used: No such file or directory\n"
