"""What `python -m Queue status` and `verify` say."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from DB.text.database import TextDatabase
from DurableText import codec
from Queue.text import report
from Queue.text.cursor import SLOT_BYTES
from Queue.text.report import status, verify
from tests.queue.of_dicts import FileQueue

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "Queue", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def fill(path, count=30):
    queue = FileQueue(path, segment_bytes=300)
    for start in range(0, count, 3):
        queue.put([{"id": f"id-{number}"} for number in range(start, start + 3)])
    return queue


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.txt"


def test_status_tells_depth_oldest_sizes_and_who_holds_what(path):
    with fill(path) as queue:
        queue.commit(queue.take(4, timeout=0))
        state = status(path)
        assert (state.depth, state.oldest_seq, state.committed_seq, state.next_seq) == (
            26,
            5,
            4,
            31,
        )
        assert state.oldest == ("id-4", b'{"id":"id-4"}')
        assert state.sealed_files == len(list(path.parent.glob("log.*.txt")))
        assert state.active_bytes + state.sealed_bytes == sum(
            file.stat().st_size for file in path.parent.glob("log*.txt")
        )
        assert f"process {os.getpid()} on" in state.consumer
        assert state.producer is None
        shown = run("status", "--queue", path)
        assert shown.returncode == 0
        assert "waiting      26 records" in shown.stdout
        assert json.loads(run("status", "--queue", path, "--json").stdout)["depth"] == 26
    assert status(path).consumer is None


def test_status_of_a_drained_queue_is_empty(path):
    with fill(path) as queue:
        while batch := queue.take(7, timeout=0):
            queue.commit(batch)
        state = status(path)
    assert (state.depth, state.oldest, state.sealed_files) == (0, None, 0)
    assert (state.next_seq, state.committed_seq) == (31, 30)


def test_status_counts_what_stands_behind_damage(path):
    with fill(path, count=3):
        path.write_bytes(path.read_bytes().replace(b'"id-0"', b'"id-X"'))
        state = status(path)
    assert (state.depth, state.oldest_seq, state.oldest) == (2, 2, ("id-1", b'{"id":"id-1"}'))


def test_status_shows_a_record_that_could_steer_a_terminal_as_plain_text(path):
    with FileQueue(path) as queue:
        queue.put([{"id": "\x9b2J\u202eé"}])
    assert '{"id":"\\x9b2J\\u202eé"}' in run("status", "--queue", path).stdout


def test_looking_changes_nothing(path):
    fill(path).close()
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    status(path)
    verify(path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_verify_finds_a_healthy_queue_sound(path):
    with fill(path) as queue:
        queue.commit(queue.take(4, timeout=0))
    found = verify(path)
    assert (found.records, found.problem_count) == (30, 0)
    done = run("verify", "--queue", path)
    assert done.returncode == 0
    assert "30 records: sound" in done.stdout


def test_verify_lists_everything_that_is_wrong(path):
    with fill(path) as queue:
        queue.commit(queue.take(1, timeout=0))
        queue.commit(queue.take(1, timeout=0))
    sealed = sorted(path.parent.glob("log.*.txt"), key=lambda file: int(file.name.split(".")[1]))
    sealed[1].write_bytes(sealed[1].read_bytes().replace(b'"id-', b'"ID-', 1))
    sealed[2].unlink()
    path.write_bytes(path.read_bytes() + b'{"seq":31')
    cursor = path.with_name("log.cursor")
    cursor.write_bytes(b"x" * 100 + cursor.read_bytes()[100:])
    found = verify(path)
    assert [problem.split(":")[0] for problem in found.problems] == [
        "log.cursor",
        f"{sealed[1].name} at byte 0",
        f"{([*sealed, path])[3].name} at byte 0",
        "log.txt",
    ]
    assert "slot 0 is damaged" in found.problems[0]
    assert "checksum" in found.problems[1]
    assert "gap: records" in found.problems[2]
    assert "torn line" in found.problems[3]
    done = run("verify", "--queue", path)
    assert done.returncode == 1
    assert "4 problems" in done.stdout


def test_a_line_that_was_being_written_when_it_was_looked_at_is_not_torn(path, monkeypatch):
    with fill(path, count=3):
        line, whole = codec.frame(b'{"seq":4,"id":"x"'), path.read_bytes()
        path.write_bytes(whole + line[:9])

        def nobody(_lock):  # any more
            path.write_bytes(whole + line)

        monkeypatch.setattr(report, "current_holder", nobody)
        assert verify(path).problems == []


def test_a_gap_below_the_cursor_is_a_note_and_not_a_problem(path):
    with fill(path, count=6) as queue:
        queue.commit(queue.take(6, timeout=0))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[3:]]))
    found = verify(path)
    assert found.problem_count == 0
    assert any("below the cursor" in note for note in found.notes)


def test_a_blank_or_missing_cursor_is_no_problem(path):
    fill(path, count=3).close()
    assert verify(path).problem_count == 0
    path.with_name("log.cursor").write_bytes((b" " * (SLOT_BYTES - 1) + b"\n") * 2)
    assert verify(path).problem_count == 0


@pytest.mark.parametrize("command", ["status", "verify"])
def test_where_there_is_no_queue_that_is_said_and_nothing_is_made(path, command):
    done = run(command, "--queue", path)
    assert done.returncode == 1
    assert "there is no queue" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    ["Queue status --queue", "Queue verify --queue", "DB summary --db", "DB verify --db"],
)
def test_a_pipe_in_place_of_the_text_is_an_error_and_nothing_to_wait_for(path, command):
    os.mkfifo(path)
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "is a device or pipe, not a file" in done.stderr


@pytest.mark.parametrize("command", ["Queue status --queue", "DB summary --db"])
def test_a_reader_of_the_output_that_has_gone_is_no_error(path, command):
    with fill(path, count=3), TextDatabase(path.with_name("db.txt")):
        end, pipe = os.pipe()
        os.close(end)
        file = path if command.startswith("Queue") else path.with_name("db.txt")
        done = subprocess.run(
            [sys.executable, "-m", *command.split(), str(file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_large_quarantine_needs_no_more_memory_than_a_small_one(path):
    fill(path, count=3).close()
    line = codec.frame(b'{"reason":"none","text":"%b"' % (b"x" * 1000))
    quarantine = path.with_name("log.quarantine.txt")
    quarantine.write_bytes(line * 40_000 + b"damaged\n" + line[:50])
    tracemalloc.start()
    found, state = verify(path), status(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert state.quarantined == 40_000
    assert "log.quarantine.txt: 40000 entries" in found.notes
    assert found.problems == ["log.quarantine.txt: 2 lines are damaged"]
    assert peak < 10_000_000


def test_verify_needs_no_more_memory_for_many_long_records(path):
    with FileQueue(path, fsync="never") as queue:
        for _ in range(200):
            queue.put([{"text": "x" * 1_000_000}])
    tracemalloc.start()
    assert verify(path).records == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000
