"""Stopped lock holders, forks, several starts at once, full disks: with the real system."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from DB import DatabaseConfigurationError, DatabaseLockedError, DatabaseUnavailableError
from DB.text.database import TextDatabase
from DurableText.storage import Storage
from Queue import (
    QueueClosedError,
    QueueConfigurationError,
    QueueLockedError,
    QueueUnavailableError,
)
from tests.queue.of_dicts import FileQueue

ROOT = Path(__file__).resolve().parents[2]
SPAWN = multiprocessing.get_context("spawn")

PRELUDE = """
import os, sys, time
from pathlib import Path
from tests.queue.of_dicts import FileQueue
from DB.text.database import TextDatabase
folder = Path(sys.argv[1])
def ready():
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def running(folder: Path, code: str) -> Iterator[subprocess.Popen]:
    """A process that has run `code` up to `ready()`; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def drain(queue):
    numbers = []
    while batch := queue.take(100, timeout=0):
        assert batch.corrupt == []
        numbers += [record["n"] for record in batch.records]
        queue.commit(batch)
    return numbers


def test_a_stopped_producer_is_waited_for_and_named_and_its_lock_is_not_broken(tmp_path):
    holding = (
        "queue = FileQueue(folder / 'log.txt'); assert queue._producer._lock.try_acquire(); ready()"
    )
    with running(tmp_path, holding) as holder:
        os.kill(holder.pid, signal.SIGSTOP)
        with FileQueue(tmp_path / "log.txt") as queue:
            with pytest.raises(QueueLockedError, match=f"process {holder.pid} on"):
                queue.put([{"n": 1}], timeout=0.3)
            waiting = threading.Thread(target=queue.put, args=([{"n": 2}],))
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()
            holder.kill()
            waiting.join(10)
            assert not waiting.is_alive()
            assert drain(queue) == [2]


def test_a_flush_goes_on_while_a_put_waits_for_a_stopped_producer(tmp_path):
    holding = (
        "queue = FileQueue(folder / 'log.txt'); assert queue._producer._lock.try_acquire(); ready()"
    )
    with FileQueue(tmp_path / "log.txt", fsync="interval") as queue:
        queue.put([{"n": 1}])
        with running(tmp_path, holding) as holder:
            os.kill(holder.pid, signal.SIGSTOP)
            waiting = threading.Thread(target=queue.put, args=([{"n": 2}],))
            waiting.start()
            flushing = threading.Thread(target=queue.flush)
            waiting.join(0.1)
            flushing.start()
            flushing.join(10)
            flushed = not flushing.is_alive()
            assert waiting.is_alive()
            holder.kill()
            waiting.join(10)
        assert flushed
        assert drain(queue) == [1, 2]


def test_a_stopped_consumer_stays_the_consumer_and_goes_on_when_it_comes_back(tmp_path):
    with FileQueue(tmp_path / "log.txt") as queue:
        queue.put([{"n": 1}, {"n": 2}])
        consuming = (
            "queue = FileQueue(folder / 'log.txt'); batch = queue.take(1, 5)\n"
            "print('ready', flush=True); sys.stdin.readline(); queue.commit(batch)\n"
            "print('done', flush=True); sys.stdin.read()"
        )
        with running(tmp_path, consuming) as active:
            os.kill(active.pid, signal.SIGSTOP)
            assert not queue.take(1, timeout=0.3)
            os.kill(active.pid, signal.SIGCONT)
            active.stdin.write(b"go on\n")
            active.stdin.flush()
            assert active.stdout.readline() == b"done\n"
        assert queue.take(10, timeout=10).records == [{"n": 2}]


def test_a_stopped_writer_keeps_the_db(tmp_path):
    with running(tmp_path, "db = TextDatabase(folder / 'db.txt'); ready()") as holder:
        os.kill(holder.pid, signal.SIGSTOP)
        with pytest.raises(DatabaseLockedError, match=f"process {holder.pid} on"):
            TextDatabase(tmp_path / "db.txt", timeout=0.2)
    TextDatabase(tmp_path / "db.txt", timeout=10).close()


def test_a_forked_child_keeps_no_lock_when_its_parent_is_killed(tmp_path):
    forking = """
queue = FileQueue(folder / "log.txt")
queue.put([{"n": 1}])
queue.take(1, 5)
db = TextDatabase(folder / "db.txt")
child = os.fork()
if child == 0:
    os.close(0)
    os.close(1)
    time.sleep(60)
    os._exit(0)
(folder / "child").write_text(str(child))
ready()
"""
    with running(tmp_path, forking) as parent:
        parent.kill()
        parent.wait()
    child = int((tmp_path / "child").read_text())
    try:
        with FileQueue(tmp_path / "log.txt") as queue:
            assert queue.take(1, timeout=5).records == [{"n": 1}]
            TextDatabase(tmp_path / "db.txt", timeout=5).close()
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)


def _use_in_child(queue, db, answers):
    for action in (lambda: queue.put([{"n": 2}]), lambda: queue.take(1, 0), lambda: db.insert([])):
        try:
            action()
            answers.put("worked")
        except Exception as error:
            answers.put(type(error).__name__)
    queue.close()
    db.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_queue_opened_before_a_fork_refuses_to_work_in_the_child(tmp_path):
    fork = multiprocessing.get_context("fork")
    with FileQueue(tmp_path / "log.txt") as queue, TextDatabase(tmp_path / "db.txt") as db:
        queue.take(1, timeout=0)
        answers = fork.SimpleQueue()
        child = fork.Process(target=_use_in_child, args=(queue, db, answers))
        child.start()
        child.join(20)
        assert [answers.get() for _ in range(3)] == [
            "QueueClosedError",
            "QueueClosedError",
            "DatabaseClosedError",
        ]
        # What the child did has not touched the parent's locks and files.
        queue.put([{"n": 1}])
        assert not _second_consumer_gets_in(tmp_path)
        assert drain(queue) == [1]


def _second_consumer_gets_in(folder):
    with FileQueue(folder / "log.txt") as other:
        return bool(other.take(1, timeout=0.1))


def _start_and_put(folder, name):
    with FileQueue(folder / "new" / "log.txt", segment_bytes=500) as queue:
        for number in range(20):
            queue.put([{"n": f"{name}-{number}"}])
    with TextDatabase(folder / "new" / "db.txt") as db:
        db.insert([{"id": f"{name}-{number}", "label": "1"} for number in range(20)])


def test_several_processes_that_start_at_once_share_one_queue_and_one_db(tmp_path):
    processes = [SPAWN.Process(target=_start_and_put, args=(tmp_path, name)) for name in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with FileQueue(tmp_path / "new" / "log.txt") as queue:
        assert len(set(drain(queue))) == 120
    with TextDatabase(tmp_path / "new" / "db.txt") as db:
        assert len({row["id"] for row in db}) == 120


class _Recorder(Storage):
    def __init__(self):
        self.synced = []

    def sync_directory(self, path):
        self.synced.append(path)
        super().sync_directory(path)


def test_every_folder_that_is_made_is_synced_into_its_parent(tmp_path):
    recorder = _Recorder()
    FileQueue(tmp_path / "a" / "b" / "log.txt", storage=recorder).close()
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(recorder.synced)


@pytest.mark.parametrize("opening", [FileQueue, TextDatabase])
def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path, opening):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((QueueUnavailableError, DatabaseUnavailableError), match=r"file/x\.txt"):
        opening(tmp_path / "file" / "x.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(
        (QueueConfigurationError, DatabaseConfigurationError), match=r"is a folder.*--(queue|db)"
    ):
        opening(tmp_path / "folder.txt")


FULL_DISK = """
import itertools, resource, signal
from Queue import QueueUnavailableError
from DB import DatabaseUnavailableError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
queue, db = FileQueue(folder / "log.txt"), TextDatabase(folder / "db.txt")
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
put = inserted = 0
try:
    for number in itertools.count(0, 7):
        queue.put([{"n": number + i, "pad": "x" * 50} for i in range(7)])
        put = number + 7
except QueueUnavailableError as error:
    put += error.appended
try:
    for number in itertools.count(0, 7):
        db.insert([{"id": str(number + i), "label": "1"} for i in range(7)])
        inserted = number + 7
except DatabaseUnavailableError:
    pass
taken = 0
while batch := queue.take(10, timeout=0):
    taken += len(batch)
    queue.commit(batch)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
queue.put([{"n": -1}])
db.insert([{"id": str(number), "label": "1"} for number in range(inserted + 7)])
print(put, taken, inserted)
"""


@pytest.mark.parametrize("limit", range(5000, 5600, 37))
def test_a_write_that_the_system_cuts_short_is_told_exactly_and_drained_while_full(tmp_path, limit):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + FULL_DISK, str(tmp_path), str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    put, taken, inserted = map(int, done.stdout.split())
    assert taken == put > 0
    with FileQueue(tmp_path / "log.txt") as queue:
        batch = queue.take(10, timeout=0)
        assert batch.records == [{"n": -1}]
    rows = (tmp_path / "db.txt").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows if row.strip()] == [
        str(number) for number in range(inserted + 7)
    ]


def test_a_backlog_of_a_million_keeps_memory_descriptors_and_in_the_end_the_disk_flat(tmp_path):
    me = psutil.Process()

    def disk():
        return sum(file.stat().st_size for file in tmp_path.iterdir())

    record = {"id": "0199a5b2-7c1f-7e3a-9d3e-0a1b2c3d4e5f", "label": "7", "confidence": 0.5}
    with FileQueue(tmp_path / "log.txt", fsync="never") as queue:
        queue.put([record] * 1000)
        batch = queue.take(1000, timeout=0)
        queue.commit(batch)
        disk_before, memory, files = disk(), me.memory_info().rss, me.num_fds()
        for _ in range(1000):
            queue.put([record] * 1000)
        assert disk() > 100_000_000
        assert me.memory_info().rss - memory < 20_000_000
        assert me.num_fds() <= files
        count = 0
        while batch := queue.take(1000, timeout=0):
            count += len(batch)
            queue.commit(batch)
        assert count == 1_000_000
        assert me.memory_info().rss - memory < 20_000_000
        assert me.num_fds() <= files + 1
        assert disk() <= disk_before + (1 << 20) + 4096
        assert len(list(tmp_path.glob("log.*.txt"))) == 0


def test_a_put_wakes_a_waiting_take_and_waiting_costs_next_to_nothing(tmp_path):
    """A take looks by itself once a second: woken by that only, the median would be far above."""
    with FileQueue(tmp_path / "log.txt") as queue, FileQueue(tmp_path / "log.txt") as producer:
        assert not queue.take(1, timeout=0)
        delays = []
        for number in range(20):
            woken = []
            thread = threading.Thread(
                target=lambda woken=woken: woken.append(
                    (queue.take(1, timeout=30).records, time.monotonic())
                )
            )
            thread.start()
            busy = time.process_time()
            time.sleep(1 if number == 0 else 0.02)
            if number == 0:
                assert time.process_time() - busy < 0.1
            producer.put([{"n": number}])
            done = time.monotonic()
            thread.join(10)
            assert woken[0][0] == [{"n": number}]
            delays.append(woken[0][1] - done)
        assert statistics.median(delays) < 0.3


def test_a_closed_queue_refuses_everything(tmp_path):
    queue = FileQueue(tmp_path / "log.txt")
    queue.close()
    for action in (lambda: queue.put([{}]), lambda: queue.take(1, 0), queue.flush):
        with pytest.raises(QueueClosedError):
            action()


class _ReadOnlyDisk(Storage):
    """Lets look, and refuses all that would write."""

    def open(self, path, flags):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return super().open(path, flags)


@pytest.mark.parametrize("opening", [FileQueue, TextDatabase])
def test_a_read_only_disk_is_a_clear_error_at_the_start(tmp_path, opening):
    with pytest.raises(
        (QueueUnavailableError, DatabaseUnavailableError), match="Read-only file system"
    ):
        opening(tmp_path / "x.txt", storage=_ReadOnlyDisk())
    assert list(tmp_path.iterdir()) == []
