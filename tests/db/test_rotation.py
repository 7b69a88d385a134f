"""The text DB in parts: each row once, ids known across the parts that are kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from DB import (
    DatabaseConfigurationError,
    DatabaseUnavailableError,
    Rotation,
    open_database,
)
from DB.__main__ import main
from DB.text.database import TextDatabase
from DB.text.parts import index_of, part_paths
from DB.text.reader import TextReader
from DurableText.storage import STORAGE, Storage
from tests.pipeline.runner import Pipeline
from tests.waiting import wait_until


def results(*numbers: int, label: str = "7") -> list[dict[str, Any]]:
    return [{"id": f"image-{number}", "label": label} for number in numbers]


def ids(path: Path) -> list[str]:
    with open_database(path, read_only=True) as db:
        return [row["id"] for row in db]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.txt"


def test_a_full_part_is_closed_and_all_parts_are_the_db(path: Path) -> None:
    with TextDatabase(path, rotation=Rotation(bytes=150)) as db:
        for number in range(6):
            db.insert(results(number))
        parts = part_paths(path, STORAGE)
        assert len(parts) > 1
        assert all(part.stat().st_size >= 150 for part in parts)
        assert db.count() == 6
        assert [row["id"] for row in db] == [f"image-{number}" for number in range(6)]
        assert db.get("image-0") == next(iter(db))
        assert [row["id"] for row in db.newest(4)] == [f"image-{n}" for n in (5, 4, 3, 2)]
    with open_database(path, read_only=True) as reader:
        assert (reader.count(), reader.summary().rows) == (6, 6)
        found = reader.verify()
        assert (found.rows, found.problem_count) == (6, 0)
        assert (reader.get("image-1") or {})["id"] == "image-1"
        assert len(reader.newest(10)) == 6


@pytest.mark.parametrize("name", ["two\nlines.txt", "no\udcffutf-8.txt", "100%20#?.txt"])
def test_parts_are_found_whatever_the_name_is(tmp_path: Path, name: str) -> None:
    with TextDatabase(tmp_path / name) as db:
        db.insert(results(1))
        db.rotate()
        assert db.insert(results(1, 2)).duplicates == 1
    assert ids(tmp_path / name) == ["image-1", "image-2"]


def test_an_id_is_known_in_every_part_also_after_a_start(path: Path) -> None:
    with TextDatabase(path) as db:
        db.insert(results(1, 2))
        db.rotate()
        db.insert(results(3))
        db.rotate()
        assert db.insert(results(1, 3, 4)).inserted_ids == ("image-4",)
    for part in part_paths(path, STORAGE):  # only hints
        part.with_suffix(".index").unlink()
    with TextDatabase(path) as db:
        outcome = db.insert([*results(1), *results(3, label="8")])
        assert (outcome.duplicates, outcome.conflicts) == (1, 1)
        assert [row["stored_label"] for row in db.conflicts()] == ["7"]
    assert ids(path) == ["image-1", "image-2", "image-3", "image-4"]


def test_a_part_that_is_dropped_takes_its_ids_along(path: Path) -> None:
    with TextDatabase(path) as db:
        for number in (1, 2, 3):
            db.insert(results(number))
            part, gone = db.rotate(keep=2)
            assert part is not None
        assert len(gone) == 1
        assert not gone[0].exists()
        assert not gone[0].with_suffix(".index").exists()
        assert db.rotate() == (None, [])  # no row yet
        outcome = db.insert(results(1, 2))
        assert (outcome.inserted_ids, outcome.duplicate_ids) == (("image-1",), ("image-2",))


def test_a_part_is_old_by_its_first_row_also_after_a_start(
    path: Path,
) -> None:
    old = [{**each, "stored_at": "2026-01-01T00:00:00.000Z"} for each in results(1)]
    with TextDatabase(path, rotation=Rotation(days=1)) as db:
        db.insert(results(0))
        assert db.rotate()[0] is not None
        db.take_over(old)
    with TextDatabase(path, rotation=Rotation(days=1)) as db:
        db.insert(results(2))
        db.insert(results(3))
    assert len(part_paths(path, STORAGE)) == 2
    assert ids(path) == [f"image-{number}" for number in range(4)]


class Killed(BaseException):
    """Raised where a kill would be."""


class KilledAt(Storage):
    """Ends at the `number`-th rename or sync of a folder, before or after it is done."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        self.left = number
        self.error = error

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error(28, "No space left on device")

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)
        self._step()

    def sync_directory(self, path: Path) -> None:
        self._step()
        super().sync_directory(path)


@pytest.mark.parametrize("step", range(1, 8))
def test_a_kill_at_any_step_of_a_rotation_loses_and_doubles_nothing(path: Path, step: int) -> None:
    with TextDatabase(path) as db:
        db.insert(results(1, 2))
    storage = KilledAt(0, Killed)
    db = TextDatabase(path, storage=storage)
    storage.left = step
    try:
        db.rotate()
    except Killed:
        db._lock.close()  # the kernel's, as a kill would
    else:
        db.close()
    with TextDatabase(path) as after:
        assert after.insert(results(1, 2, 3)).inserted_ids == ("image-3",)
    assert ids(path) == ["image-1", "image-2", "image-3"]


@pytest.mark.parametrize("step", range(1, 6))
def test_after_a_rotation_that_failed_the_same_db_goes_on(path: Path, step: int) -> None:
    storage = KilledAt(0, OSError)
    with TextDatabase(path, storage=storage) as db:
        db.insert(results(1))
        storage.left = step
        with pytest.raises(DatabaseUnavailableError):
            db.rotate()
        assert db.insert(results(1, 2)).inserted_ids == ("image-2",)
    assert ids(path) == ["image-1", "image-2"]


def test_a_reader_across_rotations_sees_each_row_once(path: Path) -> None:
    seen: list[str] = []
    with TextDatabase(path) as db:
        db.insert(results(*range(2000)))
        with open_database(path, read_only=True) as reader:
            rows = iter(reader)
            seen.append(next(rows)["id"])
            db.rotate()
            db.insert(results(2000))
            db.rotate()
            seen += [row["id"] for row in rows]
    assert seen == [f"image-{number}" for number in range(2000)]


class OnceOpened(Storage):
    """Does something between the opening of the text and what comes next."""

    def __init__(self, path: Path, then: Callable[[], object]) -> None:
        self.path = path
        self.then: Callable[[], object] | None = then

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        then = self.then
        if path == self.path and flags == os.O_RDONLY and then is not None:
            self.then = None
            then()
        return fd


def test_what_becomes_a_part_just_when_it_was_opened_is_read_once_and_in_its_order(
    path: Path,
) -> None:
    with TextDatabase(path) as db:
        db.insert(results(0, 1))
        db.rotate()
        db.insert(results(2, 3))

        def rotate_twice() -> None:
            db.rotate()
            db.insert(results(4))
            db.rotate()
            db.insert(results(5))

        reader = TextReader(path, storage=OnceOpened(path, rotate_twice))
        assert [row["id"] for row in reader] == [f"image-{number}" for number in range(4)]


def test_the_writer_reads_all_its_rows_though_it_rotates_meanwhile(path: Path) -> None:
    storage = OnceOpened(path, lambda: db.rotate())
    with TextDatabase(path, storage=storage) as db:
        db.insert(results(*range(9)))
        assert [row["id"] for row in db] == [f"image-{number}" for number in range(9)]
        assert storage.then is None


def test_between_two_renames_of_a_rotation_all_rows_are_read_verified_and_copied(
    path: Path, tmp_path: Path
) -> None:
    """And so they are after a kill there: the text is a part, and no other has begun."""
    with TextDatabase(path) as db:
        db.insert(results(1))
        db.rotate()
        db.insert(results(2))
        db.rotate()
    path.unlink()
    copy = tmp_path / "copy"
    copy.mkdir()
    with open_database(path, read_only=True) as reader:
        assert [row["id"] for row in reader] == ["image-1", "image-2"]
        assert (reader.verify().rows, reader.verify().problems) == (2, [])
        reader.copy_to(copy)
    with TextDatabase(copy / path.name) as db:
        assert db.insert(results(1, 2, 3)).inserted_ids == ("image-3",)
        assert db.verify().problems == []


def test_by_command_only_where_nobody_holds_the_db(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TextDatabase(path) as db:
        db.insert(results(1))
        assert main(["rotate", "--db", str(path)]) == 1
        assert "held by" in capsys.readouterr().err
    assert main(["rotate", "--db", str(path)]) == 0
    assert "part-000001.txt is complete" in capsys.readouterr().err
    assert main(["rotate", "--db", str(path), "--keep", "0"]) == 0
    assert ids(path) == []
    assert main(["rotate", "--db", f"sqlite:///{path}.sqlite"]) == 2


def test_a_part_is_no_db_to_write_to(path: Path) -> None:
    with TextDatabase(path) as db:
        db.insert(results(1))
        part, _ = db.rotate()
    assert part is not None
    with pytest.raises(DatabaseConfigurationError, match="a part of the DB"):
        TextDatabase(part)
    assert ids(part) == ["image-1"]


def descriptors() -> set[str]:
    return {each.name for each in Path("/dev/fd").iterdir()}


def test_parts_of_years_are_not_all_open_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part has three files open; with 350 of them a process had no descriptor left."""
    monkeypatch.setattr("DB.text.parts.OPEN_PARTS", 5)
    with TextDatabase(path, rotation=Rotation(bytes=1)) as db:
        for number in range(40):
            db.insert(results(number))
    before = descriptors()
    with TextDatabase(path, rotation=Rotation(bytes=1)) as db:
        assert len(descriptors() - before) < 30
        assert db.insert(results(*range(41))).inserted_ids == ("image-40",)
        assert db.insert(results(*range(40), label="8")).conflicts == 40
        assert len(descriptors() - before) < 60
        assert [row["id"] for row in db] == [f"image-{number}" for number in range(41)]


@pytest.mark.parametrize("removed", [0, 2])
def test_a_part_that_is_removed_while_it_is_not_open_is_told_and_not_made_again(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    removed: int,
) -> None:
    monkeypatch.setattr("DB.text.parts.OPEN_PARTS", 1)
    with TextDatabase(path, rotation=Rotation(bytes=1)) as db:
        for number in range(5):
            db.insert(results(number))
        gone = part_paths(path, STORAGE)[removed]
        gone.unlink()
        assert db.insert(results(*range(5))).inserted_ids == (f"image-{removed}",)
        assert f"{gone} was removed while it was in use" in caplog.text
        assert not gone.exists()
        assert db.insert(results(*range(5))).duplicates == 5
    with open_database(path, read_only=True) as reader:
        assert [each for each in reader.verify().problems if "is missing" in each]


@pytest.mark.parametrize("lost", [0, 2])
def test_an_index_that_is_lost_while_its_part_is_not_open_hides_no_id(
    path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """It is made anew, with keys of its own: those of the other parts stay as they are."""
    monkeypatch.setattr("DB.text.parts.OPEN_PARTS", 1)
    with TextDatabase(path, rotation=Rotation(bytes=1)) as db:
        for number in range(5):
            db.insert(results(number))
        index_of(part_paths(path, STORAGE)[lost]).unlink()
        for _ in range(2):
            assert db.insert(results(*range(5))).duplicates == 5


def test_app_2_rotates_while_it_works(pipeline: Pipeline) -> None:
    app_2 = pipeline.app_2("--rotate-bytes", 5_000, "--keep", 100).ready()
    for script in (pipeline.sub("--batch-size", 20), pipeline.pub("--batch-size", 20)):
        script.ready()
    pipeline.app_1("--count", 200).end()
    app_2.says("rotated")
    pipeline.start("app_2", "--db", pipeline.db, "--keep", 1).end(2)
    wait_until(lambda: len(ids(pipeline.db)) == 200, "all are stored")
    app_2.terminate()
    assert sorted(ids(pipeline.db)) == sorted(pipeline.ids())
