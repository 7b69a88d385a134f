"""A long command says how far it is, and a signal breaks it off with a line and a code."""

from __future__ import annotations

import argparse
import functools
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from DB import __main__ as command
from DB import open_database
from DB.sqlite import connection, database
from DB.text.database import TextDatabase
from DurableText import command_line
from DurableText.progress import Progress
from tests.cli.commands import ROOT

# Stores a batch and is never heard of again, as on a disk or a server that hangs.
STANDS_STILL = """
import sys, time
from DB.__main__ import main
from DB.text.database import TextDatabase

take_over = TextDatabase.take_over

def stand_still(self, rows):
    take_over(self, rows)
    print("stored", file=sys.stderr, flush=True)
    time.sleep(60)

TextDatabase.take_over = stand_still
sys.exit(main())
"""


class Clock:
    """Lets a progress look so many times, with something done before each look."""

    def __init__(self, *done: int) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.lines: list[str] = []
        self.ended = threading.Event()
        self.progress = Progress(self.lines.append, self.wait, lambda: self.now)
        self._done = list(done)

    def wait(self, _ended: threading.Event, seconds: float) -> bool:
        if not self._done:
            self.ended.set()
            return True
        self.pauses.append(seconds)
        self.now += seconds
        self.progress.advance(self._done.pop(0))
        return False


def test_lines_come_more_and_more_seldom_and_tell_where_the_work_stands() -> None:
    clock = Clock(1000, 500, 0, 1, 1, 1)
    clock.progress.counting("rows read")
    with clock.progress:
        assert clock.ended.wait(10)
    assert clock.lines == [
        "at work for 5 s: 1,000 rows read",
        "at work for 15 s: 1,500 rows read",
        "at work for 35 s: 1,500 rows read, none since the last line",
        "at work for 75 s: 1,501 rows read",
        "at work for 135 s: 1,502 rows read",
        "at work for 195 s: 1,503 rows read",
    ]


def test_what_counts_nothing_is_still_seen_to_be_at_work() -> None:
    clock = Clock(0, 0)
    with clock.progress:
        assert clock.ended.wait(10)
    assert clock.lines == ["at work for 5 s", "at work for 15 s"]


def test_a_quick_command_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.set_defaults(run=lambda options: options.progress.advance(1) or 0)
    assert command_line.run(parser, [], ValueError) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_that_is_broken_off_says_so_and_the_next_one_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    with TextDatabase(tmp_path / "old.txt") as old:
        old.insert([{"id": str(n), "label": "7"} for n in range(1200)])
    arguments = ["import", str(tmp_path / "old.txt"), "--db", str(tmp_path / "new.txt")]
    process = subprocess.Popen(
        [sys.executable, "-c", STANDS_STILL, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "stored\n"
    process.send_signal(number)
    output, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output == ""
    assert said == "broken off before its end; nothing is lost, and the same again is right\n"

    done = subprocess.run(
        [sys.executable, "-m", "DB", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "200 new, 1,000 already there" in done.stdout


@pytest.mark.parametrize("url", ["{}/db.txt", "sqlite:///{}/db.sqlite"])
def test_commands_of_the_db_count_rows_for_whoever_waits(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = url.format(tmp_path)
    with open_database(place) as db:
        db.insert([{"id": str(n), "label": "7"} for n in range(1200)])
        db.insert_shadow([{"id": str(n), "label": "7", "model": "m"} for n in range(5)])
    counted: list[tuple[str, int]] = []

    class Noted(Progress):
        def __exit__(self, *_: object) -> None:
            super().__exit__(None, None, None)
            counted.append((self.what, self.done))

    monkeypatch.setattr(command_line, "Progress", Noted)
    for name in ("summary", "verify", "compare"):
        assert command.main([name, "--db", place]) == 0
    assert command.main(["import", place, "--db", str(tmp_path / "other.txt")]) == 0
    of_all = 1205 if place.endswith(".txt") else 1200
    assert counted == [
        ("rows read", 1200),
        ("rows read", of_all),
        ("rows read", 1205),
        ("rows taken over", 1205),
    ]


def test_a_signal_breaks_off_what_sqlite_checks_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a large file its `integrity_check` takes minutes, in which Python runs no handler."""

    class Signalled(sqlite3.Connection):
        def set_progress_handler(self, handler: Any, steps: int) -> None:
            def signalled() -> int:
                signal.raise_signal(signal.SIGINT)
                return int(handler())

            super().set_progress_handler(handler and signalled, steps and 1)

    def open_file(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connect = functools.partial(sqlite3.connect, factory=Signalled)
        return connection.open_file(*arguments, **{**named, "connect": connect})

    place = f"sqlite:///{tmp_path}/db.sqlite"
    with open_database(place) as db:
        db.insert([{"id": "a", "label": "7"}])
    monkeypatch.setattr(database, "open_file", open_file)
    assert command.main(["verify", "--db", place]) == 128 + signal.SIGINT
    assert capfd.readouterr() == ("", f"{command_line.RIGHT_AGAIN}\n")
