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


def test_an_error_of_the_system_names_its_file_and_not_the_output(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.set_defaults(run=lambda _options: (tmp_path / "nowhere").read_bytes())

    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert command_line.run(parser, [], ValueError) == 1

    assert said.getvalue() == f"{tmp_path / 'nowhere'} cannot be used: No such file or directory\n"
