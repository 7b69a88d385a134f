"""The text DB's files are taken away while it runs: each row of `docs/durability.md`."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path

import pytest

from DB import DatabaseReplacedError, DatabaseUnavailableError, open_database
from DB.text.database import TextDatabase
from DB.text.text_file import TextFile
from tests.durability.taken_away import TAKEN
from tests.engines.faulty_disk import FaultyDisk

A, B, C = ({"id": name, "label": "7", "model": "m"} for name in "abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.txt"


@pytest.mark.parametrize("how", TAKEN)
def test_nothing_is_acknowledged_into_a_text_that_is_gone(path: Path, how: str) -> None:
    with open_database(path) as db:
        db.insert([A])
        older = path.read_bytes()
        db.insert([B])
        TAKEN[how](path, older)
        for _ in range(2):
            with pytest.raises(DatabaseReplacedError, match=r"db\.txt"):
                db.insert([B])  # a duplicate, too, is one only if it is there
    with open_database(path) as db:
        db.insert([B, C])
        assert [row["id"] for row in db][-2:] == ["b", "c"]


@pytest.mark.parametrize("how", TAKEN)
def test_no_conflict_is_kept_in_a_file_that_is_gone(path: Path, how: str) -> None:
    other = path.with_name("db.conflicts.txt")
    with open_database(path) as db:
        db.insert([A, B])
        db.insert([{**A, "label": "1"}])
        older = other.read_bytes()
        db.insert([{**A, "label": "2"}])
        TAKEN[how](other, older)
        with pytest.raises(DatabaseReplacedError, match=r"db\.conflicts\.txt"):
            db.insert([{**A, "label": "3"}])
    with open_database(path) as db:
        assert db.insert([{**A, "label": "3"}]).conflicts == 1
        assert [row["label"] for row in db.conflicts()][-1:] == ["3"]


@pytest.mark.parametrize("how", TAKEN)
def test_no_shadow_is_stored_in_a_file_that_is_gone(path: Path, how: str) -> None:
    other = path.with_name("db.shadow.txt")
    with open_database(path) as db:
        db.insert_shadow([A])
        older = other.read_bytes()
        db.insert_shadow([B])
        TAKEN[how](other, older)
        with pytest.raises(DatabaseReplacedError, match=r"db\.shadow\.txt"):
            db.insert_shadow([C])
    with open_database(path) as db:
        db.insert_shadow([C])
        assert [row["id"] for row in db.iter_shadow()][-1:] == ["c"]


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_an_index_that_was_taken_away_is_made_anew(path: Path, how: str, suffix: str) -> None:
    with open_database(path) as db:
        db.insert([A])
    other = path.with_name(f"db.index{suffix}")
    with TextDatabase(path) as db:
        older = other.read_bytes()
        db.insert([B])
        db._rows.index.flush()
        TAKEN[how](other, older)
        assert db.insert([A, B]).duplicates == 2
        assert db.insert([C]).inserted == 1
    with open_database(path) as db:
        assert db.insert([A, B, C]).duplicates == 3
        assert db.count() == 3


def test_conflicts_and_shadows_that_are_read_only_are_waited_out(path: Path) -> None:
    disk = FaultyDisk()
    with TextDatabase(path, storage=disk) as db:
        db.insert([A])
        with disk.failing(errno.EROFS, "write", "append"):
            with pytest.raises(DatabaseUnavailableError, match="Read-only"):
                db.insert([{**A, "label": "1"}])
            with pytest.raises(DatabaseUnavailableError, match="Read-only"):
                db.insert_shadow([B])
        assert db.insert([{**A, "label": "1"}]).conflicts == 1
        db.insert_shadow([B])
    with open_database(path) as db:
        assert [row["label"] for row in db.conflicts()] == ["1"]
        assert [row["id"] for row in db.iter_shadow()] == ["b"]


def test_an_index_that_is_read_only_is_kept_in_memory_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TextDatabase(path) as db:
        db.insert([A])
        db._rows.index._db.execute("PRAGMA query_only=TRUE")
        for row in (B, C):
            assert db.insert([row]).inserted == 1
            db._rows.index.flush()
        assert db.insert([A, B, C]).duplicates == 3
        assert caplog.text.count("readonly database") == 1
    with open_database(path) as db:
        assert db.insert([A, B, C]).duplicates == 3


def test_ids_that_anybody_can_choose_share_no_place_in_the_index(path: Path) -> None:
    """The key was 41 bits of time and 22 of CRC-32, which everybody can compute."""
    start = "01990000-0000-7000-8000-"
    wanted = zlib.crc32(f"{start}{0:012x}".encode()) & 0x3FF
    chosen: list[str] = []
    number = 0
    while len(chosen) < 200:
        name = f"{start}{number:012x}"
        if zlib.crc32(name.encode()) & 0x3FF == wanted:
            chosen.append(name)
        number += 1
    with TextDatabase(path) as db:
        keys = db._rows.keys_of(chosen)
        assert len({key & 0x3FF for key in keys}) > 100
        db.insert([{"id": name, "label": "1"} for name in chosen])
    with TextDatabase(path) as db:
        assert db._rows.keys_of(chosen) == keys, "as long as the index lasts"
    path.with_name("db.index").unlink()
    with TextDatabase(path) as db:
        assert db._rows.keys_of(chosen) != keys
        assert db.insert([{"id": name, "label": "1"} for name in chosen]).duplicates == 200


def test_each_row_is_read_once_a_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": str(number), "label": "1"} for number in range(50)]
    with TextDatabase(path) as db:
        monkeypatch.setattr(db._rows.index, "key_of", lambda _id: 1)  # all of them share a place
        db.insert(rows)
        reads: list[int] = []
        line_at = TextFile.line_at

        def noted(text: TextFile, offset: int) -> bytes | None:
            reads.append(offset)
            return line_at(text, offset)

        monkeypatch.setattr(TextFile, "line_at", noted)
        assert db.insert(rows).duplicates == 50
    assert len(reads) == 50
