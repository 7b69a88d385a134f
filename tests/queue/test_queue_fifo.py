"""The queue's everyday promises: order, durability, commit."""

import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

import Queue
from Queue import (
    QueueError,
    QueueFullError,
    QueueOrderError,
    QueueRecordError,
    Record,
    encode_record,
)
from Queue.text.report import status
from tests.queue.of_dicts import FileQueue
from tests.queue.stories import drain, records


@pytest.fixture
def path(tmp_path):
    return tmp_path / "q" / "log.txt"


def test_records_come_out_as_they_were_put_in_order(path):
    with FileQueue(path) as queue:
        queue.put(records(0, 3))
        queue.put([{"nested": {"seq": 1, "text": 'a "quote"\nand a newline'}, "none": None}])
        assert drain(queue) == [
            *records(0, 3),
            {"nested": {"seq": 1, "text": 'a "quote"\nand a newline'}, "none": None},
        ]


def test_each_line_is_plain_json_with_seq_first_and_the_crc_of_what_precedes_it_last(path):
    with FileQueue(path) as queue:
        queue.put([*records(0, 2), {}])
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        row = json.loads(line)
        assert next(iter(row)) == "seq"
        assert list(row)[-1] == "crc"
        assert row["seq"] == number
        assert int(row["crc"], 16) == zlib.crc32(line[: line.rindex(b',"crc":')])


def test_an_empty_take_is_false_and_returns_at_its_timeout(path):
    with FileQueue(path) as queue:
        begin = time.monotonic()
        batch = queue.take(10, timeout=0.05)
        assert not batch
        assert batch.records == []
        assert time.monotonic() - begin >= 0.05


def test_take_goes_on_before_the_last_batch_is_committed(path):
    with FileQueue(path) as queue:
        queue.put(records(0, 5))
        first, second = queue.take(2, 0), queue.take(2, 0)
        assert (first.first_seq, second.first_seq) == (1, 3)
        assert first.records + second.records == records(0, 4)


def test_what_was_taken_and_not_committed_comes_again_after_a_restart(path):
    with FileQueue(path) as queue:
        queue.put(records(0, 6))
        queue.commit(queue.take(2, 0))
        queue.take(2, 0)
    with FileQueue(path) as queue:
        assert drain(queue) == records(2, 4)
    with FileQueue(path) as queue:
        assert drain(queue) == []


def test_batches_are_committed_in_the_order_of_the_takes(path):
    with FileQueue(path) as queue:
        queue.put(records(0, 4))
        first, second = queue.take(2, 0), queue.take(2, 0)
        with pytest.raises(QueueOrderError, match="batch 1 is next"):
            queue.commit(second)
        queue.commit(first)
        queue.commit(first)  # twice is fine
        queue.commit(second)
        assert drain(queue) == []


def test_order_and_content_hold_across_many_segments(path):
    with FileQueue(path, segment_bytes=500) as queue:
        for start in range(0, 100, 5):
            queue.put(records(start, 5))
        assert len(list(path.parent.glob("log.*.txt"))) > 5
        assert drain(queue, size=7) == records(0, 100)


def test_committed_segments_are_removed(path):
    with FileQueue(path, segment_bytes=500) as queue:
        for start in range(0, 100, 5):
            queue.put(records(start, 5))
        drain(queue)
        assert list(path.parent.glob("log.*.txt")) == []
        queue.put(records(100, 5))
        assert drain(queue) == records(100, 5)


def test_a_segment_stays_until_its_last_record_is_committed(path):
    with FileQueue(path, segment_bytes=500) as queue:
        for start in range(0, 20, 5):
            queue.put(records(start, 5))
        batch = queue.take(20, 0)
        sealed = sorted(path.parent.glob("log.*.txt"))
        queue.take(1, 0)
        assert sorted(path.parent.glob("log.*.txt")) == sealed
        queue.commit(batch)
        queue.take(1, 0)
        assert list(path.parent.glob("log.*.txt")) == []


def test_numbers_go_on_after_a_restart_of_a_drained_queue(path):
    with FileQueue(path, segment_bytes=100) as queue:
        queue.put(records(0, 5))
        queue.put(records(5, 1))
        drain(queue)
    path.unlink()
    with FileQueue(path) as queue:
        queue.put(records(6, 1))
        assert queue.take(10, 0).first_seq == 7


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([{"id": "x"}], "no Record, but dict"),
        ([b'{"id":"x"}'], "no Record, but bytes"),
        ([Record("", b"[1]")], "no JSON object"),
        ([Record("", b"")], "no JSON object"),
        ([Record("", b'{ "a":1}')], "whitespace"),
        ([Record("", b'{"a":\n1}')], "line break"),
        ([Record("", b'{"a":"%b"}' % (b"x" * (1 << 20)))], "a line holds"),
        ([Record("", '{"a":1}')], "is bytes, not str"),
        ({"id": "x"}, "a sequence"),
        (Record("x", b'{"id":"x"}'), "a sequence"),
    ],
)
def test_a_record_that_cannot_be_stored_is_named_and_nothing_is_written(path, bad, message):
    good = [encode_record(fields) for fields in records(0, 2)]
    with Queue.FileQueue(path) as queue:
        mixed = [*good, *bad] if isinstance(bad, list) else bad
        with pytest.raises(QueueRecordError, match=message):
            queue.put(mixed)
        assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("text", "not str"),
        ({"seq": 1}, "reserved"),
        ({"crc": 1}, "reserved"),
        ({1: 2}, "cannot be written as JSON"),
        ({"a": object()}, "cannot be written as JSON"),
        ({"a": "\ud800"}, "cannot be written as JSON"),
    ],
)
def test_fields_that_make_no_record_are_named(fields, message):
    with pytest.raises(QueueRecordError, match=message):
        encode_record(fields)


@pytest.mark.parametrize(
    ("result_id", "body"),
    [
        ("a", b'{"id":"a","label":"7"}'),
        ('a"b\\c', b'{"id":"a\\"b\\\\c","label":"7"}'),
        ("\u00e9", '{"id":"\u00e9"}'.encode()),
        ("\u00e9", b'{"id":"\\u00e9"}'),
        ("b", b'{"label":"7","id":"b"}'),
        ("", b'{"label":"7"}'),
        ("", b'{"id":7}'),
        ("", b"{}"),
        ("c", b'{"id":"c","nested":{"seq":1,"crc":"2"},"text":"\\"seq\\":3"}'),
    ],
)
def test_the_bytes_of_a_record_come_out_as_they_were_put_and_its_id_is_known(path, result_id, body):
    with Queue.FileQueue(path) as queue:
        queue.put([Record(result_id, body)])
        assert queue.take(9, timeout=0).records == [Record(result_id, body)]
        [line] = path.read_bytes().splitlines()
        assert json.loads(line) == {"seq": 1, **json.loads(body), "crc": json.loads(line)["crc"]}


def test_a_full_queue_blocks_until_its_timeout_and_then_says_so(path):
    with FileQueue(path, max_bytes=4000) as queue:
        with pytest.raises(QueueFullError, match="max_bytes=4000"):
            for start in range(0, 1000, 10):
                queue.put(records(start, 10), timeout=0.05)
        assert sum(file.stat().st_size for file in path.parent.glob("log*.txt")) <= 4000


def test_a_group_that_can_never_fit_is_refused_at_once(path):
    with FileQueue(path, max_bytes=1000) as queue, pytest.raises(QueueFullError, match="never fit"):
        queue.put(records(0, 100))


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_every_fsync_setting_keeps_order_and_content(path, fsync):
    with FileQueue(path, fsync=fsync, fsync_interval=0.01, segment_bytes=400) as queue:
        for start in range(0, 50, 5):
            queue.put(records(start, 5))
        assert drain(queue) == records(0, 50)


def test_wrong_arguments_are_named(path):
    with pytest.raises(QueueError, match="fsync is"):
        FileQueue(path, fsync="sometimes")
    with FileQueue(path) as queue, pytest.raises(QueueError, match="max_records"):
        queue.take(0, 0)


def test_importing_the_queue_is_quick_because_it_imports_little():
    code = (
        "import sys, Queue; print([m for m in ('numpy', 'tensorflow', 'DB') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_a_queue_is_the_same_one_whichever_way_one_comes_to_it(tmp_path):
    """A link that was renamed at a sealing would leave the others behind with an old file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "data" / "log.txt")
    (tmp_path / "folder").symlink_to("data")
    with (
        FileQueue(tmp_path / "link.txt", segment_bytes=100) as here,
        FileQueue(tmp_path / "folder" / "log.txt") as there,
    ):
        for number in range(20):
            here.put([{"n": number}])
            assert there.take(9, timeout=0).records == [{"n": number}]
        assert here.take(9, timeout=0).records == []
        assert status(tmp_path / "link.txt").next_seq == 21
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "folder", "link.txt"]


def test_a_queue_with_the_name_of_a_sealed_segment_or_a_cursor_is_refused(tmp_path):
    with pytest.raises(QueueError, match=r"sealed segments of the queue .*/log\.txt"):
        FileQueue(tmp_path / "log.2.txt")
    with pytest.raises(QueueError, match="cursor"):
        FileQueue(tmp_path / "log.cursor")
    assert list(tmp_path.iterdir()) == []
    for name in ("log.txt", "log2.txt", "log.a2.txt", "2.txt", ".2", "log.2b"):
        FileQueue(tmp_path / name / name).close()


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_timeout_may_be_as_long_as_one_likes(tmp_path, timeout):
    with FileQueue(tmp_path / "log.txt") as queue:
        queue.put([{"n": 1}], timeout=timeout)
        assert queue.take(9, timeout=timeout).records == [{"n": 1}]


def test_a_take_brings_what_came_after_the_last_one_had_read_to_the_end(path):
    with FileQueue(path) as queue:
        queue.put(records(0, 3))
        assert len(queue.take(1, timeout=0).records) == 1
        queue.put(records(3, 1))
        assert [each["id"] for each in queue.take(3, timeout=0).records] == ["id-1", "id-2", "id-3"]
