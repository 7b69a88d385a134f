"""What is SQLite's own: its file, its lock, and that it is durable."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from DB import DatabaseConfigurationError, DatabaseError, DatabaseUnavailableError, open_database
from tests.db_conformance.stories import ids_of, numbered


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "results.db"


def test_several_that_start_at_once_make_the_tables_once(tmp_path: Path) -> None:
    errors: list[Exception] = []
    gate = threading.Barrier(8)

    def start(number: int) -> None:
        gate.wait()
        try:
            open_database(f"sqlite:///{tmp_path}/{number}.db").close()
        except DatabaseError as error:
            errors.append(error)

    for number in range(15):
        threads = [threading.Thread(target=start, args=(number,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_start_waits_for_another_one_that_is_making_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, other.rollback).start()
    with open_database(f"sqlite:///{path}") as db:
        assert db.insert(numbered(1)).inserted == 1


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("no%FFutf-8", "no\udcffutf-8"),
        ("no\udcffutf-8", "no\udcffutf-8"),
        ("two%0Alines", "two\nlines"),
    ],
)
def test_a_file_may_have_any_name_a_file_can_have(tmp_path: Path, written: str, name: str) -> None:
    open_database(f"sqlite:///{tmp_path}/{written}").close()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    with pytest.raises(DatabaseConfigurationError, match="write %0A"):
        open_database(f"sqlite:///{tmp_path}/two\nlines")


@pytest.mark.parametrize(
    "url",
    ["sqlite://host/file", "sqlite:///", "sqlite:///f.db?mode=ro", "sqlite:///f.db#x", "sqlite://"],
)
def test_a_wrong_url_is_told(url: str) -> None:
    with pytest.raises(DatabaseConfigurationError, match="sqlite:///relative"):
        open_database(url)


def test_three_slashes_are_relative_to_the_working_directory_and_four_absolute(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent.parent)
    with open_database("sqlite:///new/results.db") as db:
        db.insert(numbered(3))
        assert db.name == f"sqlite:///{path}"
    with open_database(f"sqlite:///{path}", read_only=True) as reader:
        assert reader.count() == 3


def test_it_is_durable_and_anybody_can_read_it(path: Path) -> None:
    with open_database(f"sqlite:///{path}") as db:
        db.insert(numbered(3))
        (level,) = db._connection.execute("PRAGMA synchronous").fetchone()  # type: ignore[attr-defined]
    assert level == 2  # FULL
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    rows = other.execute("SELECT id, label, result FROM inferences").fetchall()
    assert rows[0] == ("0", "7", '{"id":"0","label":"7"}')


def test_another_program_s_tables_and_a_newer_version_are_refused(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE inferences (id)")
    other.close()
    with pytest.raises(DatabaseConfigurationError, match="another program"):
        open_database(f"sqlite:///{path}")
    path.unlink()
    open_database(f"sqlite:///{path}").close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    for read_only in (False, True):
        with (
            pytest.raises(DatabaseConfigurationError, match="version 2"),
            open_database(f"sqlite:///{path}", read_only=read_only) as db,
        ):
            db.count()


def test_a_folder_that_cannot_be_made_and_a_directory_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailableError):
        open_database(f"sqlite:///{tmp_path / 'file' / 'x.db'}")
    with pytest.raises(DatabaseConfigurationError, match="is a folder, not a file"):
        open_database(f"sqlite:///{tmp_path}")


def test_damage_is_found(path: Path) -> None:
    with open_database(f"sqlite:///{path}") as db:
        db.insert([{**each, "text": "x" * 300} for each in numbered(200)])
    other = sqlite3.connect(path)
    other.execute("UPDATE inferences SET label = '8' WHERE id = '5'")
    other.commit()
    other.close()
    with open_database(f"sqlite:///{path}", read_only=True) as reader:
        found = reader.verify()
        assert (found.rows, found.problem_count) == (200, 1)
        assert len(ids_of(reader)) == 200
