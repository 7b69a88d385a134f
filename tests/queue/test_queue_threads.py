"""Group commit: many threads, errors, timeouts, interruptions."""

import contextlib
import errno
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from DurableText.lock import FileLock
from DurableText.storage import Storage
from Queue import QueueClosedError, QueueFullError, QueueLockedError, QueueUnavailableError
from Queue.text.cursor import SLOT_BYTES
from tests.queue.of_dicts import FileQueue
from tests.waiting import wait_until

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


def wait_for_line(queue, puts):
    """Return when so many puts wait for the one that writes."""
    waiting = queue._producer._group._waiting
    wait_until(lambda: len(waiting) == puts, f"{puts} puts are in the line")


def test_what_gathers_during_a_sync_is_written_as_one_group(tmp_path):
    disk = HeldDisk()
    with FileQueue(tmp_path / "log.txt", storage=disk) as queue:
        first = start(lambda: queue.put([{"n": 0}]))
        assert disk.entered.acquire(timeout=10)
        others = [start(lambda n=n: queue.put([{"n": n}])) for n in range(1, 8)]
        wait_for_line(queue, 7)
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
        except QueueUnavailableError as error:
            failed.append(error.appended)

    with FileQueue(tmp_path / "log.txt", storage=disk) as queue:
        first = start(lambda: put(0))
        assert disk.entered.acquire(timeout=10)
        others = [start(lambda n=n: put(n)) for n in range(1, 4)]
        wait_for_line(queue, 3)
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
        wait_for_line(queue, 1)
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
                    # Its turn may not come in time: others wait for a slow disk before it.
                    with contextlib.suppress(QueueLockedError):
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
        wait_until(lambda: queue._producer._group._is_led, "the first leads")
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


INTERRUPTED = """
import json, random, signal, sys, threading, time
from Queue import QueueClosedError
from tests.queue.of_dicts import FileQueue
ROUNDS, THREADS = 60, 3
random.seed(1)
interrupted, putting = 0, False
def interrupt(*_):
    if putting:
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
def put(queue, name):
    numbers[name] += 1
    number = numbers[name]
    queue.put([{"n": number}])
    acknowledged[name].append(number)
def work(queue, name, ended):
    try:
        while not ended.is_set():
            put(queue, name)
    except QueueClosedError as error:
        assert "open" in str(error) and "anew" in str(error), error
numbers = {name: name * 10**9 for name in range(THREADS + 1)}
acknowledged = {name: [] for name in numbers}
for _ in range(ROUNDS):
    queue = FileQueue(sys.argv[1], fsync="never", segment_bytes=20_000)
    ended, threads = threading.Event(), []
    for name in range(THREADS):
        threads.append(threading.Thread(target=work, args=(queue, name, ended), daemon=True))
        threads[-1].start()
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.02))
    try:
        putting = True
        for _ in range(100_000):
            put(queue, THREADS)
    except (KeyboardInterrupt, RuntimeError):
        putting = False
        interrupted += 1
    putting = False
    try:
        put(queue, THREADS)
    except QueueClosedError as error:
        assert "anew" in str(error)
    else:  # it came between two puts
        ended.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a put hangs"
    queue.close()
print(json.dumps([interrupted, acknowledged]))
"""


def test_an_interrupted_put_ends_the_use_of_the_queue_and_neither_hangs_nor_loses(tmp_path):
    """Ctrl-C hits a put anywhere: in the line, while it writes, while it cleans up."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "log.txt")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    interrupted, acknowledged = json.loads(done.stdout)
    assert interrupted > 10
    stored, next_seq = [], 1
    with FileQueue(tmp_path / "log.txt") as queue:
        while batch := queue.take(500, timeout=0):
            assert batch.corrupt == []
            assert batch.first_seq == next_seq
            next_seq += len(batch)
            stored += [record["n"] for record in batch.records]
            queue.commit(batch)
    assert len(set(stored)) == len(stored)
    for name, numbers in acknowledged.items():
        assert set(numbers) <= set(stored)
        low = int(name) * 10**9
        mine = [number for number in stored if low <= number < low + 10**9]
        assert mine == sorted(mine)


class CtrlCInASync(Storage):
    """Ctrl-C comes in the next sync, once the bytes are written."""

    interrupts = False

    def sync(self, fd):
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        super().sync(fd)


def test_after_an_interrupted_put_the_queue_says_that_it_is_to_be_opened_anew(tmp_path):
    disk = CtrlCInASync()
    queue = FileQueue(tmp_path / "log.txt", storage=disk)
    queue.put([{"n": 1}])
    disk.interrupts = True
    with pytest.raises(KeyboardInterrupt):
        queue.put([{"n": 2}])
    for use in (lambda: queue.put([{"n": 3}]), lambda: queue.take(1, 0), queue.flush):
        with pytest.raises(QueueClosedError, match="open it anew"):
            use()
    queue.close()
    with FileQueue(tmp_path / "log.txt") as queue:
        queue.put([{"n": 4}])
        batch = queue.take(9, timeout=0)
        assert [record["n"] for record in batch.records] == [1, 2, 4]
        assert batch.corrupt == []


class InterruptedHeldDisk(HeldDisk):
    """The first sync waits until it is let go, and then Ctrl-C comes."""

    def sync(self, fd):
        super().sync(fd)
        raise KeyboardInterrupt


def test_who_waits_behind_an_interrupted_put_is_told_and_does_not_hang(tmp_path):
    disk, failed = InterruptedHeldDisk(), []

    def put(number):
        try:
            queue.put([{"n": number}])
        except (KeyboardInterrupt, QueueClosedError) as error:
            failed.append((number, type(error).__name__, str(error)))

    queue = FileQueue(tmp_path / "log.txt", storage=disk)
    threads = [start(lambda: put(0))]
    assert disk.entered.acquire(timeout=10)
    threads += [start(lambda n=n: put(n)) for n in range(1, 4)]
    wait_for_line(queue, 3)
    disk.go.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    queue.close()
    assert failed[0][:2] == (0, "KeyboardInterrupt")
    assert sorted(number for number, *_ in failed) == [0, 1, 2, 3]
    assert all("nothing of it was written" in text for _, _, text in failed[1:])
    with FileQueue(tmp_path / "log.txt") as queue:
        assert [r["n"] for r in queue.take(9, timeout=0).records] == [0]
