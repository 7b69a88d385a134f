"""The DB's everyday promises: each id once, conflicts kept, one writer, a disposable index."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import zlib

import pytest
import uuid_utils

from DB import (
    DatabaseClosedError,
    DatabaseConfigurationError,
    DatabaseLockedError,
    DatabaseRecordError,
)
from DB.text.database import TextDatabase
from DurableText.storage import Storage
from Queue import QueueConfigurationError
from tests.db.reading import verify
from tests.queue.of_dicts import FileQueue

SPAWN = multiprocessing.get_context("spawn")


def results(count, label="7"):
    return [{"id": str(uuid_utils.uuid7()), "label": label} for _ in range(count)]


def stored(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "d" / "db.txt"


def test_a_result_is_stored_as_one_json_line_with_the_time_and_a_checksum(path):
    with TextDatabase(path) as db:
        outcome = db.insert([{"id": "a", "label": "7"}])
    assert outcome.inserted_ids == ("a",)
    line = path.read_bytes().rstrip(b"\n")
    row = json.loads(line)
    assert list(row) == ["id", "label", "stored_at", "crc"]
    assert row["stored_at"].endswith("Z")
    assert int(row["crc"], 16) == zlib.crc32(line[: line.rindex(b',"crc":')])


def test_inserting_again_stores_nothing_and_says_so(path):
    rows = results(300)
    with TextDatabase(path) as db:
        assert db.insert(rows).inserted == 300
        again = db.insert(rows)
        assert (again.inserted, again.duplicates, again.conflicts) == (0, 300, 0)
    with TextDatabase(path) as db:
        assert db.insert(rows[:5]).duplicate_ids == tuple(row["id"] for row in rows[:5])
    assert len(stored(path)) == 300


def test_ids_of_any_form_are_told_apart(path):
    ids = ["a", "A", "http://x#1", "http://x#2", "ä", "0" * 36, "x" * 3000, str(uuid_utils.uuid4())]
    with TextDatabase(path) as db:
        assert db.insert([{"id": i, "label": "1"} for i in ids]).inserted == len(ids)
        assert db.insert([{"id": i, "label": "1"} for i in ids]).duplicates == len(ids)


def test_the_same_id_with_another_label_is_a_conflict_that_is_kept_and_changes_nothing(path):
    with TextDatabase(path) as db:
        db.insert([{"id": "a", "label": "7"}])
        assert db.insert([{"id": "a", "label": "8"}]).conflict_ids == ("a",)
        assert db.insert([{"id": "a", "label": "8"}]).conflict_ids == ("a",)
    assert [row["label"] for row in stored(path)] == ["7"]
    kept = stored(path.with_name("db.conflicts.txt"))
    assert [(row["label"], row["stored_label"]) for row in kept] == [("8", "7")]


def test_the_same_id_twice_in_one_insert_is_stored_once(path):
    with TextDatabase(path) as db:
        outcome = db.insert([{"id": "a", "label": "1"}] * 2 + [{"id": "a", "label": "2"}])
    assert (outcome.inserted, outcome.duplicates, outcome.conflicts) == (1, 1, 1)
    assert len(stored(path)) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"label": "1"},
        {"id": 7},
        {"id": ""},
        {"id": None},
        "text",
        {"id": "a", "crc": "0"},
        {"id": "a", "stored_at": "now"},
        {"id": "a", "label": object()},
        {"id": "a", "label": "x" * (1 << 20)},
    ],
)
def test_a_result_that_cannot_be_stored_is_named_and_nothing_is_written(path, bad):
    with TextDatabase(path) as db:
        with pytest.raises(DatabaseRecordError, match="result 2") as caught:
            db.insert([*results(2), bad])
        assert caught.value.index == 2
    assert path.read_bytes() == b""


def test_a_second_writer_is_told_who_holds_the_db(path):
    code = (
        "import sys; from DB.text.database import TextDatabase\n"
        f"db = TextDatabase({str(path)!r}); print('ready', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"ready\n"
    with pytest.raises(DatabaseLockedError, match=f"process {holder.pid} on"):
        TextDatabase(path, wait=False)
    with pytest.raises(DatabaseLockedError):
        TextDatabase(path, timeout=0.1)
    holder.kill()
    TextDatabase(path, timeout=10).close()
    holder.communicate()


def test_a_second_writer_that_comes_by_a_link_is_told_as_well(path, tmp_path):
    link = tmp_path / "link.txt"
    link.symlink_to(path)
    with TextDatabase(path) as db:
        with pytest.raises(DatabaseLockedError):
            TextDatabase(link, wait=False)
        db.insert([{"id": "a", "label": "1"}])
        db.insert([{"id": "a", "label": "2"}])
        assert any("1 conflict kept in" in note for note in verify(link).notes)


def test_a_waiting_open_ends_when_it_is_told_to_stop(path):
    stop = threading.Event()
    with TextDatabase(path):
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(DatabaseLockedError):
            TextDatabase(path, stop=stop.is_set)


def test_a_standby_takes_over_when_the_writer_closes(path):
    first = TextDatabase(path)
    first.insert([{"id": "a", "label": "1"}])
    threading.Timer(0.1, first.close).start()
    with TextDatabase(path, timeout=10) as second:
        assert second.insert([{"id": "a", "label": "1"}]).duplicates == 1


@pytest.mark.parametrize("damage", ["removed", "empty", "garbage", "truncated"])
def test_the_index_may_be_lost_or_damaged_at_any_time(path, damage):
    rows = results(500)
    with TextDatabase(path) as db:
        db.insert(rows)
    index = path.with_name("db.index")
    data = index.read_bytes()
    if damage == "removed":
        index.unlink()
    else:
        index.write_bytes(
            {"empty": b"", "garbage": b"x" * len(data), "truncated": data[: len(data) // 2]}[damage]
        )
    with TextDatabase(path) as db:
        assert db.insert(rows).duplicates == 500


def test_an_index_ahead_of_the_text_does_not_suppress_the_retry_of_a_lost_row(path):
    rows = results(10)
    with TextDatabase(path) as db:
        db.insert(rows)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]))
    with TextDatabase(path) as db:
        assert db.insert(rows).inserted_ids == tuple(row["id"] for row in rows[6:])
    assert [row["id"] for row in stored(path)] == [row["id"] for row in rows]


def test_an_index_of_another_text_is_made_anew(path):
    rows = results(10)
    with TextDatabase(path) as db:
        db.insert(rows)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(reversed(lines)))
    with TextDatabase(path) as db:
        assert db.insert(rows).duplicates == 10


def test_a_row_that_rotted_is_stored_again_when_it_comes_again(path):
    rows = results(10)
    with TextDatabase(path) as db:
        db.insert(rows)
    data = bytearray(path.read_bytes())
    data[data.index(b"label") + 8] ^= 1
    path.write_bytes(data)
    with TextDatabase(path) as db:
        assert db.insert(rows).inserted_ids == (rows[0]["id"],)
        assert len(list(db)) == 10


def test_a_file_of_another_format_is_refused_and_left_alone(path):
    path.parent.mkdir()
    path.write_text('{"id": "a"}\n')
    with pytest.raises(DatabaseConfigurationError, match="--db"):
        TextDatabase(path)
    assert path.read_text() == '{"id": "a"}\n'


def test_a_queue_s_log_is_no_db_and_a_db_is_no_queue_s_log(tmp_path):
    log, text = tmp_path / "log.txt", tmp_path / "db.txt"
    with FileQueue(log) as queue, TextDatabase(text) as db:
        queue.put([{"id": "a", "label": "7"}])
        db.insert([{"id": "a", "label": "7"}])
        before = log.read_bytes(), text.read_bytes()
    with pytest.raises(DatabaseConfigurationError, match="queue"):
        TextDatabase(log)
    with pytest.raises(QueueConfigurationError, match="--queue"):
        FileQueue(text)
    assert (log.read_bytes(), text.read_bytes()) == before


def test_a_result_may_have_a_number_as_a_record_of_the_queue_has(path):
    for _ in range(2):
        with TextDatabase(path) as db:
            db.insert([{"seq": 1, "id": "a", "label": "7"}])
    assert [row["id"] for row in stored(path)] == ["a"]


@pytest.mark.parametrize("name", ["db.index", "db.lock"])
def test_a_db_with_the_name_of_a_side_file_is_refused(tmp_path, name):
    with pytest.raises(DatabaseConfigurationError, match="--db"):
        TextDatabase(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_rows_written_by_a_killed_writer_are_known_to_the_next(path):
    code = (
        "import sys; from DB.text.database import TextDatabase\n"
        f"db = TextDatabase({str(path)!r})\n"
        "db.insert([{'id': str(n), 'label': '1'} for n in range(100)])\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"ready\n"
    writer.kill()
    writer.communicate()
    with TextDatabase(path) as db:
        outcome = db.insert([{"id": str(n), "label": "1"} for n in range(101)])
    assert (outcome.duplicates, outcome.inserted) == (100, 1)


def test_a_db_that_is_closed_while_it_is_read_says_so(path):
    """Its descriptor may be another file's by then."""
    with TextDatabase(path) as db:
        db.insert([{"id": str(n), "label": "1", "text": "x" * 1000} for n in range(3000)])
        rows = iter(db)
        assert next(rows)["id"] == "0"
    with pytest.raises(DatabaseClosedError):
        list(rows)


@pytest.mark.parametrize("label", [None, 7, float("nan"), ["a", 1], ("a", 1), {"a": float("inf")}])
def test_a_label_that_is_no_text_is_no_conflict_with_itself(path, label):
    with TextDatabase(path) as db:
        db.insert([{"id": "a", "label": label}])
        assert db.insert([{"id": "a", "label": label}] * 2).duplicates == 2
    with TextDatabase(path) as db:
        outcome = db.insert([{"id": "b", "label": label}, {"id": "a", "label": label}])
        assert (outcome.inserted, outcome.duplicates) == (1, 1)


@pytest.mark.parametrize("opening", [TextDatabase, FileQueue])
def test_what_is_no_regular_file_is_refused_before_anything_is_made_beside_it(tmp_path, opening):
    os.mkfifo(tmp_path / "pipe.txt")
    refusals = (DatabaseConfigurationError, QueueConfigurationError)
    with pytest.raises(refusals, match="a device or pipe, not a file"):
        opening(tmp_path / "pipe.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["pipe.txt"]


def test_a_conflict_is_kept_once_however_many_came_after_it_and_over_a_restart(path):
    count = 20_000
    ids = [str(uuid_utils.uuid7()) for _ in range(count)]
    pad = "x" * 200
    with TextDatabase(path) as db:
        db.insert([{"id": i, "label": "1"} for i in ids])
        wrong = [{"id": i, "label": "2", "pad": pad} for i in ids]
        assert db.insert(wrong).conflicts == count
    kept = path.with_name("db.conflicts.txt")
    size = kept.stat().st_size
    assert size > 5_000_000
    with TextDatabase(path) as db:
        assert db.insert(wrong[:3]).conflicts == 3
        assert kept.stat().st_size == size
        assert db.insert([{"id": ids[0], "label": "3"}]).conflicts == 1
    assert [row["label"] for row in stored(kept)][-2:] == ["2", "3"]


@pytest.mark.parametrize("size", [700_000, (1 << 20) - 128 - len('{"id":"a","label":""}')])
def test_a_conflict_of_long_labels_is_kept_once_in_a_line_that_can_be_read(path, size):
    with TextDatabase(path) as db:
        db.insert([{"id": "a", "label": '"' * 500_000}, {"id": "b", "label": "1"}])
        for result_id in "aabb":
            assert db.insert([{"id": result_id, "label": "x" * size}]).conflicts == 1
    kept = path.with_name("db.conflicts.txt").read_bytes().splitlines(keepends=True)
    assert max(map(len, kept)) <= 1 << 20
    assert [json.loads(line)["id"] for line in kept] == ["a", "b"]


class CtrlC(Storage):
    """Ctrl-C comes in a sync of the file at `path`, once it is armed."""

    def __init__(self, path):
        self.path, self.armed = path, False

    def sync(self, fd):
        if self.armed and self.stat_open(fd).st_ino == self.stat(self.path).st_ino:
            self.armed = False
            raise KeyboardInterrupt
        super().sync(fd)


def test_an_insert_ended_by_ctrl_c_leaves_nothing_that_the_next_ones_would_store_again(path):
    disk = CtrlC(path)
    with TextDatabase(path, storage=disk) as db:
        disk.armed = True
        with pytest.raises(KeyboardInterrupt):
            db.insert([{"id": each, "label": "1"} for each in "abc"])
        assert db.insert([{"id": "c", "label": "1"}]).duplicates == 1
        assert db.insert([{"id": "d", "label": "1"}]).inserted == 1
    assert [row["id"] for row in stored(path)] == ["a", "b", "c", "d"]
    assert verify(path).problems == []


def test_conflicts_ended_by_ctrl_c_are_kept_once(path):
    kept = path.with_name("db.conflicts.txt")
    disk = CtrlC(kept)
    with TextDatabase(path, storage=disk) as db:
        db.insert([{"id": each, "label": "1"} for each in "abc"])
        db.insert([{"id": "a", "label": "2"}])
        disk.armed = True
        with pytest.raises(KeyboardInterrupt):
            db.insert([{"id": each, "label": "2"} for each in "abc"])
        assert db.insert([{"id": "c", "label": "2"}]).conflicts == 1
    assert [row["id"] for row in stored(kept)] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", [b"", b"x" * 5000])
def test_the_index_of_the_conflicts_may_be_lost_or_damaged_at_any_time(path, damage):
    with TextDatabase(path) as db:
        db.insert([{"id": "a", "label": "1"}])
        db.insert([{"id": "a", "label": "2"}])
    path.with_name("db.conflicts.index").write_bytes(damage)
    with TextDatabase(path) as db:
        assert db.insert([{"id": "a", "label": "2"}]).conflicts == 1
    assert len(stored(path.with_name("db.conflicts.txt"))) == 1


def test_a_torn_conflict_is_put_aside_and_kept_anew(path):
    with TextDatabase(path) as db:
        db.insert([{"id": "a", "label": "1"}])
        db.insert([{"id": "a", "label": "2"}])
    kept = path.with_name("db.conflicts.txt")
    kept.write_bytes(kept.read_bytes()[:-9])
    path.with_name("db.conflicts.index").unlink()
    with TextDatabase(path) as db:
        assert db.insert([{"id": "a", "label": "2"}]).conflicts == 1
    assert [row["label"] for row in stored(kept)] == ["2"]
