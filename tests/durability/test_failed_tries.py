"""A try that fails leaves nothing behind: no descriptor, no half-open state; the next one works."""

import errno
import sqlite3

import pytest

import DB.text.index
from DB import DatabaseUnavailableError
from DB.text.database import TextDatabase
from Queue import QueueUnavailableError
from Queue.text.numbered_lines import frame_numbered
from tests.db.reading import verify as verify_db
from tests.durability.queue_story import abandon
from tests.durability.simulated_disk import SimulatedDisk, fail_at
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")

LINES = frame_numbered([b'"n":%d' % number for number in range(1, 9)], 1)


def fill(disk):
    """Two segments, of which a consumer has come through the first record."""
    disk.put(disk.folder / "log.1.txt", b"".join(LINES[:4]))
    disk.put(disk.folder / "log.txt", b"".join(LINES[4:]) + b'{"seq":9')
    with FileQueue(disk.folder / "log.txt", storage=disk.process()) as queue:
        queue.commit(queue.take(1, timeout=0))


def test_opening_and_taking_leave_no_descriptor_open_whichever_call_fails(tmp_path):
    call = calls = 1
    while call <= calls:
        disk = SimulatedDisk(tmp_path)
        fill(disk)
        process = disk.process(fail_at(call, errno.EIO))
        queue = None
        for _ in range(3):
            try:
                queue = queue or FileQueue(disk.folder / "log.txt", storage=process)
                queue.take(9, timeout=0)
            except QueueUnavailableError:
                if queue is None:
                    assert process._open == {}, f"after call {call}"
        # The log, what is read of it, the cursor, and the two locks.
        assert len(process._open) <= 5, f"after call {call}"
        calls = max(calls, len(process.calls))
        queue.close()
        abandon(queue)
        assert process._open == {}, f"after call {call}"
        call += 1
    assert calls > 30


def test_opening_a_db_leaves_no_descriptor_open_whichever_call_fails(tmp_path):
    call = calls = 1
    while call <= calls:
        disk = SimulatedDisk(tmp_path)
        for file in tmp_path.glob("db.*index*"):
            file.unlink()
        with TextDatabase(tmp_path / "db.txt", storage=disk.process()) as db:
            db.insert([{"id": "a", "label": "1"}])
        disk.put(tmp_path / "db.txt", disk.content(tmp_path / "db.txt") + b'{"id":"torn')
        process = disk.process(fail_at(call, errno.EIO))
        try:
            db = TextDatabase(tmp_path / "db.txt", storage=process)
        except DatabaseUnavailableError:
            assert process._open == {}, f"after call {call}"
            db = TextDatabase(tmp_path / "db.txt", storage=process)
        calls = max(calls, len(process.calls))
        process._faults = None
        assert db.insert([{"id": "a", "label": "1"}]).duplicates == 1
        db.close()
        assert process._open == {}, f"after call {call}"
        call += 1
    assert calls > 15


class FullForSqlite:
    """A connection whose writes find the disk full."""

    def __init__(self, real, words):
        self._real, self._words = real, words

    def execute(self, statement, *values):
        if statement.split()[0] in self._words:
            raise sqlite3.OperationalError("database or disk is full")
        return self._real.execute(statement, *values)

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture
def full_for_sqlite(monkeypatch):
    """Makes SQLite find the disk full for some statements, for as long as the list has them."""
    words, connect = [], sqlite3.connect
    monkeypatch.setattr(
        DB.text.index.sqlite3, "connect", lambda *a, **kw: FullForSqlite(connect(*a, **kw), words)
    )
    return words


def test_an_index_that_cannot_be_made_is_an_error_of_the_db_and_to_be_waited_out(
    tmp_path, full_for_sqlite
):
    rows = [{"id": str(number), "label": "1"} for number in range(20)]
    with TextDatabase(tmp_path / "db.txt") as db:
        db.insert(rows)
    (tmp_path / "db.index").unlink()
    full_for_sqlite.append("PRAGMA")
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError, match=r"db\.txt.*disk is full"):
            TextDatabase(tmp_path / "db.txt", timeout=0)
    with pytest.raises(DatabaseUnavailableError, match="disk is full"):
        verify_db(tmp_path / "db.txt")
    full_for_sqlite.clear()
    with TextDatabase(tmp_path / "db.txt") as db:
        assert db.insert(rows).duplicates == 20


def test_an_index_that_is_damaged_while_the_disk_is_full_stores_nothing_twice(
    tmp_path, full_for_sqlite
):
    rows = [{"id": str(number), "label": "1"} for number in range(20)]
    with TextDatabase(tmp_path / "db.txt") as db:
        db.insert(rows)
    with TextDatabase(tmp_path / "db.txt") as db:
        full_for_sqlite += ["SELECT", "PRAGMA"]
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError, match="disk is full"):
                db.insert(rows)
        full_for_sqlite.clear()
        assert db.insert(rows).duplicates == 20
    assert verify_db(tmp_path / "db.txt").problem_count == 0


def test_a_full_disk_that_undoes_a_transaction_by_itself_loses_nothing(tmp_path, full_for_sqlite):
    rows = [{"id": str(number), "label": "1"} for number in range(20)]
    with TextDatabase(tmp_path / "db.txt") as db:
        db.insert(rows)
        full_for_sqlite += ["COMMIT", "ROLLBACK"]
        db._rows.index.flush()
        full_for_sqlite.clear()
        db._rows.index._db.execute("ROLLBACK")
        assert db.insert(rows).duplicates == 20
    with TextDatabase(tmp_path / "db.txt") as db:
        assert db.insert(rows).duplicates == 20
