"""What stands behind a path or a URL: the factory, and a text DB that was opened to read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from DB import (
    DatabaseClosedError,
    DatabaseConfigurationError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
    default_database,
    open_database,
)
from DB.text.database import TextDatabase

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.txt"


def test_a_path_is_a_text_file(path: Path) -> None:
    with open_database(path) as db:
        assert isinstance(db, TextDatabase)
        assert (db.name, db.shared) == (str(path), False)


@pytest.mark.parametrize("url", ["mysql://host/db", "HTTP://host", "redis://host/0"])
def test_an_unknown_scheme_is_told_and_makes_no_file(url: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseConfigurationError, match="postgresql://"):
        open_database(url)
    command = [sys.executable, "-m", "DB", "summary", "--db", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_variable_names_the_db_that_no_option_names(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setenv("RESULT_DB", str(path))
    assert default_database() == str(path)
    with open_database(path) as db:
        db.insert([{"id": "a", "label": "7"}])
    command = [sys.executable, "-m", "DB", "get", "a"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["label"] == "7"
    missing = subprocess.run([*command[:-1], "b"], cwd=ROOT, capture_output=True, text=True)
    assert (missing.returncode, missing.stdout) == (1, "")


def test_a_reader_reads_beside_the_writer_and_stores_nothing(path: Path) -> None:
    reader = open_database(path, read_only=True)
    with pytest.raises(DatabaseUnavailableError, match="app_2"):
        reader.count()
    with open_database(path) as db:
        db.insert([{"id": str(n), "label": "7"} for n in range(10)])
        assert reader.count() == 10
        assert [row["id"] for row in reader] == [str(n) for n in range(10)]
        assert [row["id"] for row in reader.newest(2)] == ["9", "8"]
        row = reader.get("3")
        assert row is not None
        assert row == db.get("3")
        assert reader.get("x") is None is db.get("x")
        with pytest.raises(DatabaseClosedError, match="opened to read"):
            reader.insert([{"id": "a", "label": "7"}])
    assert reader.summary().rows == 10


def test_rows_are_counted_as_the_text_grows_and_anew_after_it_was_replaced(path: Path) -> None:
    reader = open_database(path, read_only=True)
    with open_database(path) as db:
        db.insert([{"id": str(n), "label": "7"} for n in range(5)])
        assert reader.count() == 5
        db.insert([{"id": "x", "label": "7"}])
        assert reader.count() == db.count() == 6
    other = path.with_name("other.txt")
    other.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n   \n" + b'{"id":"torn')
    other.replace(path)
    assert reader.count() == 1


@pytest.mark.parametrize("how", ["removed", "replaced", "cut"])
def test_a_text_that_is_no_longer_what_was_opened_takes_nothing_more(path: Path, how: str) -> None:
    with open_database(path) as db:
        db.insert([{"id": "a", "label": "7"}])
        if how == "removed":
            path.unlink()
        elif how == "replaced":
            path.rename(path.with_name("old.txt"))
            path.write_bytes(b"")
        else:
            path.write_bytes(b"")
        for _ in range(2):
            with pytest.raises(DatabaseReplacedError, match=r"db\.txt"):
                db.insert([{"id": "b", "label": "7"}])
        with pytest.raises(DatabaseReplacedError):
            db.check(1.0)
    with open_database(path) as db:
        assert db.insert([{"id": "b", "label": "7"}]).inserted + db.count() >= 1
        assert db.get("b") is not None
