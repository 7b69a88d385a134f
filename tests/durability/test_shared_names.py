"""Two texts in one folder that differ in their suffix only would share all that lies beside them.

An index and a list of parts of the other one, its conflicts, its cursor, and a lock that is waited
for in vain: the second one is told instead, and the first one stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from DB import DatabaseConfigurationError, open_database
from DB.__main__ import main as db_main
from Queue import QueueConfigurationError, Record, open_queue

SAYS = "differ in their suffix only"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Two parts, a conflict, an answer of a shadow."""
    path = tmp_path / "results.txt"
    with open_database(path) as db:
        for number in range(3):
            if number:
                db.rotate()
            db.insert([{"id": str(number), "label": "7"}])
        db.insert([{"id": "2", "label": "1"}])
        db.insert_shadow([{"id": "2", "label": "1", "model": "new"}])
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["results.log", "results", "results.conflicts.txt"])
def test_a_second_db_that_would_share_side_files_is_refused_and_changes_nothing(
    db: Path, name: str
) -> None:
    before = content(db.parent)
    with pytest.raises(DatabaseConfigurationError):
        open_database(db.with_name(name))
    assert content(db.parent) == before
    with open_database(db) as again:
        assert again.verify().problems == []
        assert again.insert([{"id": str(n), "label": "7"} for n in range(3)]).duplicates == 3


def test_it_is_refused_at_once_while_the_first_one_is_in_use(db: Path) -> None:
    """And does not stand by for a lock that it must not have."""
    with open_database(db), pytest.raises(DatabaseConfigurationError, match=SAYS):
        open_database(db.with_suffix(".log"))


@pytest.mark.parametrize("names", [("results.parts.txt", 2), ("results.quarantine.txt", 2)])
def test_what_lies_beside_a_db_is_no_db(db: Path, names: tuple[str, int]) -> None:
    assert db_main(["rotate", "--db", str(db.with_name(names[0]))]) == names[1]


def test_a_copy_beside_a_db_is_read_and_its_neighbours_side_files_are_not_taken_for_its(
    db: Path, tmp_path: Path
) -> None:
    copy = db.with_suffix(".bak")
    copy.write_bytes(db.read_bytes())
    with open_database(copy, read_only=True) as reader:
        assert [row["id"] for row in reader] == ["2"]
        assert reader.summary().rows == 1
        needs: list[Callable[[], object]] = [
            lambda: reader.verify(),
            lambda: reader.conflicts(),
            lambda: reader.iter_shadow(),
            lambda: reader.copy_to(tmp_path),
        ]
        for each in needs:
            with pytest.raises(DatabaseConfigurationError, match=SAYS):
                each()


def test_a_db_that_was_renamed_with_its_parts_goes_on(db: Path) -> None:
    for path in db.parent.glob("results*.txt"):
        if "parts" not in path.name and "conflicts" not in path.name and "shadow" not in path.name:
            path.rename(path.with_suffix(".jsonl"))
    with open_database(db.with_suffix(".jsonl")) as renamed:
        assert renamed.verify().problems == []
        assert renamed.insert([{"id": str(n), "label": "7"} for n in range(3)]).duplicates == 3


def test_a_state_whose_lock_names_no_text_is_used_as_it_was(db: Path) -> None:
    """An older version has written the lock, or a full disk has kept it empty."""
    for note in (b"", b'{"pid":1,"host":"h","since":"s"}', b'{"suffix":"/../x"}', b"\xff"):
        db.with_suffix(".lock").write_bytes(note)
        with open_database(db) as again:
            assert again.count() == 3


def test_a_second_queue_that_would_share_a_cursor_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "log.txt", tmp_path / "log.old"
    with open_queue(path) as queue:
        queue.put([Record(str(n), b'{"id":"%d"}' % n) for n in range(5)])
        queue.commit(queue.take(3))
    other.write_bytes(path.read_bytes())
    before = content(tmp_path)
    with pytest.raises(QueueConfigurationError, match=SAYS):
        open_queue(other)
    with open_queue(other, read_only=True) as reader:
        needs: list[Callable[[], object]] = [reader.status, reader.verify]
        for each in needs:
            with pytest.raises(QueueConfigurationError, match=SAYS):
                each()
    assert content(tmp_path) == before
    with open_queue(path) as queue:
        assert [record.id for record in queue.take(9).records] == ["3", "4"]


def test_one_empty_file_is_not_a_queue_and_a_db_at_once(tmp_path: Path) -> None:
    """As where both options name it, and nobody has stored anything yet."""
    with (
        open_database(tmp_path / "a.txt"),
        pytest.raises(QueueConfigurationError, match="is a DB's: name another file"),
    ):
        open_queue(tmp_path / "a.txt")
    with (
        open_queue(tmp_path / "b.txt"),
        pytest.raises(DatabaseConfigurationError, match="is a queue's: name another file"),
    ):
        open_database(tmp_path / "b.txt")
    (tmp_path / "a.lock").unlink()
    (tmp_path / "a.txt").unlink()
    open_queue(tmp_path / "a.txt").close()
