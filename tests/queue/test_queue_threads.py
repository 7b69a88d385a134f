"""Group commit: many threads, errors, timeouts, interruptions."""

import errno
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from DurableText.lock import FileLock
from DurableText.storage import Storage
from Queue import (
    FileQueue,
    QueueClosedError,
    QueueFullError,
    QueueLockedError,
    QueueStorageError,
)
from Queue.text.cursor import SLOT_BYTES

ROOT = Path(__file__).resolve().parents[2]


class HeldDisk(Storage):
    """Syncs wait until they are let go, and may be told to fail."""

    def __init__(self):
        self.entered, self.go, self.failing = threading.Semaphore(0), threading.Event(), 0

    def sync(self, fd):
        self.entered.release()
        assert self.go.wait(20)
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EIO, "the disk fails")
        super().sync(fd)


def start(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_what_gathers_during_a_sync_is_written_as_one_group(tmp_path):
    disk = HeldDisk()
    with FileQueue(tmp_path / "log.txt", storage=disk) as queue:
        first = start(lambda: queue.put([{"n": 0}]))
        assert disk.entered.acquire(timeout=10)
        others = [start(lambda n=n: queue.put([{"n": n}])) for n in range(1, 8)]
        while len(queue._producer._group._waiting) < 7:
            first.join(0.01)
        disk.go.set()
        for thread in [first, *others]:
            thread.join(10)
            assert not thread.is_alive()
        assert disk.entered.acquire(timeout=1)
        assert not disk.entered.acquire(timeout=0), "more than two syncs for eight puts"
        assert sorted(r["n"] for r in queue.take(10, 0).records) == list(range(8))


def test_an_error_of_the_disk_reaches_every_put_of_the_group(tmp_path):
    disk = HeldDisk()
    failed = []

    def put(number):
        try:
            queue.put([{"n": number}])
        except QueueStorageError as error:
            failed.append(error.appended)

    with FileQueue(tmp_path / "log.txt", storage=disk) as queue:
        first = start(lambda: put(0))
        assert disk.entered.acquire(timeout=10)
        others = [start(lambda n=n: put(n)) for n in range(1, 4)]
        while len(queue._producer._group._waiting) < 3:
            first.join(0.01)
        disk.failing = 10
        disk.go.set()
        for thread in [first, *others]:
            thread.join(10)
            assert not thread.is_alive()
        assert failed == [0, 0, 0, 0]
        disk.failing = 0
        queue.put([{"n": 9}])
        assert queue.take(50, 0).records[-1] == {"n": 9}


def test_a_put_in_the_line_gives_up_at_its_timeout_and_leaves_nothing(tmp_path):
    disk = HeldDisk()
    with FileQueue(tmp_path / "log.txt", storage=disk) as queue:
        first = start(lambda: queue.put([{"n": 0}]))
        assert disk.entered.acquire(timeout=10)
        second = start(lambda: queue.put([{"n": 1}]))
        while not queue._producer._group._waiting:
            second.join(0.01)
        with pytest.raises(QueueLockedError, match="nothing of this one was written"):
            queue.put([{"n": 2}], timeout=0.05)
        disk.go.set()
        first.join(10)
        second.join(10)
        assert [r["n"] for r in queue.take(10, 0).records] == [0, 1]


def test_a_full_queue_fails_the_leader_and_the_next_one_leads(tmp_path):
    with FileQueue(tmp_path / "log.txt", max_bytes=2000) as queue:
        outcomes = []

        def put():
            try:
                while True:
                    queue.put([{"pad": "x" * 100}], timeout=0.05)
            except QueueFullError:
                outcomes.append("full")

        threads = [start(put) for _ in range(4)]
        for thread in threads:
            thread.join(20)
        assert outcomes == ["full"] * 4


def test_every_put_that_waits_for_another_process_names_it_when_its_time_is_over(tmp_path):
    failed = []

    def put(timeout):
        try:
            queue.put([{"n": 1}], timeout=timeout)
        except (QueueLockedError, QueueFullError) as error:
            failed.append(str(error))

    with FileQueue(tmp_path / "log.txt") as queue:
        holder = FileLock(tmp_path / "log.producer.lock", Storage())
        assert holder.try_acquire()
        first = start(lambda: put(None))
        while queue._producer._group._leader is None:
            first.join(0.01)
        first.join(0.01)
        others = [start(lambda: put(0.2)) for _ in range(3)]
        for thread in others:
            thread.join(10)
        holder.close()
        first.join(10)
    assert len(failed) == 3
    assert all("log.producer.lock: held by process" in error for error in failed)


class HeldCursor(Storage):
    """Writes of a cursor's slot wait until they are let go."""

    def __init__(self):
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, fd, data, offset):
        if len(data) == SLOT_BYTES:
            self.entered.set()
            assert self.go.wait(20)
        return super().write(fd, data, offset)


def test_a_commit_that_is_under_way_ends_before_its_file_is_closed_under_it(tmp_path):
    disk = HeldCursor()
    queue = FileQueue(tmp_path / "log.txt", storage=disk)
    queue.put([{"n": 1}, {"n": 2}])
    first, second = queue.take(1, timeout=0), queue.take(1, timeout=0)
    committing = start(lambda: queue.commit(first))
    assert disk.entered.wait(10)
    slot = queue._slot.consumer
    closing = start(queue.close)
    closing.join(0.1)
    assert closing.is_alive(), "the cursor was closed under a commit"
    disk.go.set()
    committing.join(10)
    closing.join(10)
    assert not committing.is_alive()
    assert not closing.is_alive()
    with pytest.raises(QueueClosedError):
        slot.commit(second)  # it had come past the check of the queue before the close
    with FileQueue(tmp_path / "log.txt") as queue:
        assert queue.take(9, timeout=0).records == [{"n": 2}]


class CtrlC(Storage):
    """Ctrl-C comes when files are listed for the `left`-th time."""

    left = 0

    def names(self, path):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().names(path)


def test_what_a_take_had_read_when_ctrl_c_ended_it_comes_with_the_next_one(tmp_path):
    disk, taken = CtrlC(), []
    with FileQueue(tmp_path / "log.txt", segment_bytes=100, storage=disk) as queue:
        for number in range(40):
            queue.put([{"n": number}])
        for left in (2, 4, 6, 8):
            disk.left = left
            with pytest.raises(KeyboardInterrupt):
                queue.take(20, timeout=0)  # goes from one segment to the next
            batch = queue.take(5, timeout=0)
            queue.commit(batch)
            taken += batch.records
        while batch := queue.take(5, timeout=0):
            queue.commit(batch)
            taken += batch.records
    assert [record["n"] for record in taken] == list(range(40))


class LockThenCtrlC:
    """Takes a lock, and Ctrl-C comes before anybody knows."""

    def __init__(self, lock):
        self.lock, self.release = lock, lock.release

    def acquire(self, timeout):
        assert self.lock.acquire(timeout=timeout)
        raise KeyboardInterrupt


def test_a_take_that_ctrl_c_ends_as_soon_as_it_begins_leaves_the_queue_usable(tmp_path):
    queue, taken = FileQueue(tmp_path / "log.txt"), []
    queue.put([{"n": 1}])
    lock = queue._take_lock
    queue._take_lock = LockThenCtrlC(lock)
    with pytest.raises(KeyboardInterrupt):
        queue.take(timeout=0)
    queue._take_lock = lock
    for work in (lambda: taken.extend(queue.take(timeout=0).records), queue.close):
        other = start(work)
        other.join(10)
        assert not other.is_alive()
    assert taken == [{"n": 1}]


INTERRUPTED = """
import json, signal, sys, threading
from Queue import FileQueue, QueueStorageError
SIGNALS, SECONDS = 5000, 0.0007
queue = FileQueue(sys.argv[1], fsync="never")
putting, signals, acknowledged = False, 0, {}
def interrupt(*_):
    global signals
    signals += 1
    if putting:
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
def work(name):
    mine, number = acknowledged.setdefault(name, []), 0
    while signals < SIGNALS or number < 200:
        try:
            queue.put([{"n": number, "who": name}])
        except QueueStorageError as error:
            assert "interrupted" in str(error)
        else:
            mine.append(number)
        number += 1
threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
for thread in threads:
    thread.start()
signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
number, mine = 0, acknowledged.setdefault("main", [])
while signals < SIGNALS:
    number += 1
    try:
        putting = True
        queue.put([{"n": number, "who": "main"}])
        putting = False
        mine.append(number)
    except KeyboardInterrupt:
        putting = False
signal.setitimer(signal.ITIMER_REAL, 0)
for thread in threads:
    thread.join()
queue.put([{"n": number + 1, "who": "main"}])
queue.close()
print(json.dumps(acknowledged))
"""


def test_thousands_of_interrupted_puts_leave_the_others_at_work_and_lose_nothing(tmp_path):
    """Signals hit the main thread everywhere: in the line, while it writes, while it cleans up."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "log.txt")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    acknowledged = json.loads(done.stdout)
    stored = {who: [] for who in acknowledged}
    with FileQueue(tmp_path / "log.txt") as queue:
        while batch := queue.take(500, timeout=0):
            assert batch.corrupt == []
            for record in batch.records:
                stored[str(record["who"])].append(record["n"])
            queue.commit(batch)
    for who, numbers in acknowledged.items():
        assert set(numbers) <= set(stored[who])
        assert stored[who] == sorted(stored[who])
    assert min(len(numbers) for who, numbers in acknowledged.items() if who != "main") > 200
