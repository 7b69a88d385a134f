"""`python -m DB verify` of a DB in parts: whatever somebody does to one of them is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from DB import open_database
from DB.text.database import TextDatabase
from DB.text.part_list import list_path
from DB.text.parts import part_path, part_paths
from DurableText.storage import STORAGE
from tests.db.reading import verify

TEXTS = ("db.txt", "db.conflicts.txt", "db.shadow.txt")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three parts of results, conflicts and shadows, and rows in the texts."""
    path = tmp_path / "db.txt"
    with TextDatabase(path) as db:
        for number in range(4):
            rows = [{"id": f"{number}-{each}", "label": "7", "model": "old"} for each in range(3)]
            db.insert(rows)
            db.insert([{**row, "label": "1"} for row in rows])
            db.insert_shadow([{**row, "model": "new"} for row in rows])
            if number < 3:
                db.rotate()
    return path


def cut(parts: list[Path]) -> None:
    lines = parts[1].read_bytes().splitlines(keepends=True)
    parts[1].write_bytes(b"".join(lines[:-1]))


def cut_in_a_line(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[1].read_bytes()[:-5])


def damage(parts: list[Path]) -> None:
    data = bytearray(parts[1].read_bytes())
    data[20] ^= 4
    parts[1].write_bytes(data)


def remove_in_the_middle(parts: list[Path]) -> None:
    parts[1].unlink()


def remove_the_oldest(parts: list[Path]) -> None:
    parts[0].unlink()


def remove_the_newest(parts: list[Path]) -> None:
    parts[-1].unlink()


def swap(parts: list[Path]) -> None:
    other = parts[0].with_name("other")
    parts[0].rename(other)
    parts[1].rename(parts[0])
    other.rename(parts[1])


def append(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[1].read_bytes() + b"\n")


def add(parts: list[Path]) -> None:
    shutil.copy(parts[0], str(parts[-1]).replace("000003", "000009"))


DONE: dict[str, tuple[Callable[[list[Path]], None], str]] = {
    "cut between two lines": (cut, "cut: it has"),
    "cut in a line": (cut_in_a_line, "a torn line"),
    "damaged": (damage, "the checksum does not match"),
    "removed in the middle": (remove_in_the_middle, "part 2 is missing"),
    "removed, the oldest": (remove_the_oldest, "part 1 is missing"),
    "removed, the newest": (remove_the_newest, "part 3 is missing"),
    "swapped": (swap, "its end is another one|and had"),
    "longer": (append, "when it was completed"),
    "added by hand": (add, "put there by hand"),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("done", DONE)
def test_what_was_done_to_a_part_is_told(path: Path, text: str, done: str) -> None:
    assert verify(path).problems == []
    do, says = DONE[done]
    do(part_paths(path.with_name(text), STORAGE))
    problems = verify(path).problems
    assert [each for each in problems if any(part in each for part in says.split("|"))], problems


@pytest.mark.parametrize("text", TEXTS)
def test_what_stands_in_two_parts_is_told_with_both_places(path: Path, text: str) -> None:
    add(part_paths(path.with_name(text), STORAGE))
    problems = verify(path).problems
    stem = Path(text).stem
    twice = [each for each in problems if "stands already" in each]
    assert len(twice) == 3
    assert twice[0].startswith(f"{stem}.part-000009.txt, byte 0: id '0-0' stands already at ")
    assert twice[0].endswith(f"{stem}.part-000001.txt, byte 0")


def test_what_retention_has_removed_is_not_missed(path: Path) -> None:
    with TextDatabase(path) as db:
        gone = db.rotate(keep=1)[1]
    assert [each.name for each in gone] == [
        f"{Path(text).stem}.part-00000{number}.txt" for text in TEXTS for number in (1, 2, 3)
    ]
    found = verify(path)
    assert (found.problems, found.rows) == ([], 3)
    assert not list(path.parent.glob("*part-000001*"))
    with open_database(path, read_only=True) as db:
        assert [len(list(rows)) for rows in (db, db.conflicts(), db.iter_shadow())] == [3, 3, 3]


def test_a_number_is_not_given_twice_also_where_the_newest_part_was_removed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remove_the_newest(part_paths(path, STORAGE))
    with TextDatabase(path) as db:
        assert "part 3 is missing" in caplog.text
        assert db.rotate()[0] == part_path(path, 4)
    assert [each for each in verify(path).problems if "part 3 is missing" in each]


def test_parts_of_an_older_version_have_no_list_and_are_taken_up(path: Path) -> None:
    for text in TEXTS:
        list_path(path.with_name(text)).unlink()
    assert verify(path).problems == []
    with TextDatabase(path) as db:
        db.insert([{"id": "later", "label": "7"}])
    assert list_path(path).exists()
    cut(part_paths(path, STORAGE))
    assert "cut: it has" in verify(path).problems[0]


def test_without_a_list_a_gap_between_two_parts_is_told_also_once_there_is_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    list_path(path).unlink()
    part = part_path(path, 2)
    aside = part.rename(part.with_name("aside"))
    missing = f"{path}: part 2 is missing"
    assert verify(path).problems == [missing]
    for _ in range(2):
        caplog.clear()
        with TextDatabase(path):
            assert missing in caplog.text
        assert verify(path).problems == [missing]
    aside.rename(part)
    assert verify(path).problems == []


def test_a_damaged_list_is_told(path: Path) -> None:
    listed = list_path(path)
    listed.write_bytes(listed.read_bytes().replace(b'"part":2', b'"part":7'))
    assert verify(path).problems == [f"{listed}: 1 of its lines cannot be read"]


def test_a_damaged_list_is_written_anew_with_the_parts_that_are_there(path: Path) -> None:
    listed = list_path(path)
    listed.write_bytes(listed.read_bytes().replace(b'"part":2', b'"part":7'))
    with TextDatabase(path) as db:
        assert db.rotate()[0] == part_path(path, 4)
    assert verify(path).problems == []
    remove_in_the_middle(part_paths(path, STORAGE))
    assert "part 2 is missing" in verify(path).problems[0]


def test_every_reader_reads_conflicts_and_shadows_across_parts(path: Path) -> None:
    ids = [f"{number}-{each}" for number in range(4) for each in range(3)]
    with open_database(path, read_only=True) as reader, TextDatabase(path) as writer:
        for db in (reader, writer):
            assert [row["id"] for row in db.conflicts()] == ids
            assert [row["id"] for row in db.iter_shadow()] == ids
        again = [{"id": name, "label": "1", "model": "old"} for name in ids]
        assert writer.insert(again).conflicts == 12
        assert writer.insert_shadow([{**row, "model": "new"} for row in again]).conflicts == 12
        assert writer.insert_shadow([{**row, "model": "third"} for row in again]).inserted == 12
        assert len(list(reader.conflicts())) == 12, "each conflict is kept once, over all parts"
    notes = verify(path).notes
    assert [note.split(" kept")[0] for note in notes] == [
        "12 conflicts",
        "24 answers of shadows",
    ]
