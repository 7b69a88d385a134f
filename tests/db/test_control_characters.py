"""What comes from strangers forges no line of a summary, and no stranger reads the state."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from DB import open_database
from DB.__main__ import main
from DB.report import as_text
from Queue import FileQueue


def test_a_label_and_a_model_with_a_line_break_stay_on_their_line(tmp_path: Path) -> None:
    bad = "7\nrows         1,000,000\x1b[2K"
    with open_database(tmp_path / "db.txt") as db:
        db.insert([{"id": "a", "label": bad, "model": bad, "expected_label": f"x{bad}"}])
        text = as_text(db.summary())
    assert not any(line.startswith("rows         1,000") for line in text.splitlines())
    assert "\x1b" not in text
    assert text.count(r"7\nrows") == 4


def test_a_row_is_printed_without_control_characters_and_is_the_same_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = "7\n\x1b[2K\x7f\x9b2J\u202e\u2028\U000e0041ä"
    with open_database(tmp_path / "db.txt") as db:
        db.insert([{"id": "a", "label": bad, "model": bad}])
    assert main(["get", "a", "--db", str(tmp_path / "db.txt")]) == 0
    printed = capsys.readouterr().out
    assert all(each.isprintable() for each in printed.split("\n"))
    assert json.loads(printed)["label"] == bad
    assert "ä" in printed


def test_state_is_not_for_everybody(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with open_database(tmp_path / "DB/db.txt"), FileQueue(tmp_path / "Queue/log.txt") as queue:
            queue.take(1, timeout=0)
    finally:
        os.umask(before)
    for folder in ("DB", "Queue"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o750
        for path in (tmp_path / folder).iterdir():
            assert path.stat().st_mode & 0o007 == 0, path
