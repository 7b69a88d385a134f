"""A sync fails, and somebody is reading or comes later: the file that is void, and its numbers."""

import contextlib
import errno

import pytest

from DurableText.storage import Storage
from Queue import QueueUnavailableError
from Queue.text.report import verify
from tests.durability.queue_story import abandon
from tests.durability.simulated_disk import Crash, SimulatedDisk
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")

SEGMENT_BYTES = 300


class FailingSyncs:
    """Faults: the next `left` syncs fail; `then` happens at the next call named `at`."""

    def __init__(self):
        self.left, self.at, self.then = 0, "", None

    def __call__(self, name, number):
        if name == "sync" and self.left:
            self.left -= 1
            raise OSError(errno.EIO, "the disk fails")
        if name == self.at and self.then is not None:
            act, self.then = self.then, None
            act()


def open_queue(disk, faults=None, **options):
    options = {"segment_bytes": SEGMENT_BYTES, **options}
    return FileQueue(disk.folder / "log.txt", storage=disk.process(faults), **options)


def take(queue, count=4):
    batch = queue.take(count, timeout=0)
    assert batch.corrupt == []
    queue.commit(batch)
    return [record["n"] for record in batch.records]


def drain(queue, torn=0):
    numbers, corrupt = [], []
    while batch := queue.take(4, timeout=0):
        numbers += [record["n"] for record in batch.records]
        corrupt += batch.corrupt
        queue.commit(batch)
    assert len(corrupt) <= torn, corrupt
    return numbers


def names(disk):
    return sorted(path.name for path in disk.names if path.suffix == ".txt")


def put(queue, first, last):
    queue.put([{"n": number} for number in range(first, last + 1)])


@pytest.fixture
def disk(tmp_path):
    return SimulatedDisk(tmp_path)


@pytest.mark.parametrize("taken_before", [0, 1, 2, 3])
def test_records_behind_a_failed_first_sync_reach_a_consumer_that_stood_in_the_void_file(
    disk, taken_before
):
    faults = FailingSyncs()
    producer, consumer = open_queue(disk, faults), open_queue(disk)
    assert take(consumer) == []  # it has the file open that is about to be void
    numbers = []
    if taken_before:  # it reads in the void file, before the one in its place is begun
        faults.at, faults.then = "rename", lambda: numbers.extend(take(consumer, taken_before))
    faults.left = 1
    for first in range(1, 40, 3):
        put(producer, first, first + 2)
    assert numbers + drain(consumer) == list(range(1, 40))
    for first in range(40, 60, 3):  # the void file goes with the next sealing
        put(producer, first, first + 2)
    assert drain(consumer) == list(range(40, 61))
    assert names(disk) == ["log.txt"]
    producer.close()
    consumer.close()


def test_a_commit_of_what_was_read_in_a_void_file_removes_no_file_that_is_waited_for(disk):
    faults = FailingSyncs()
    producer = open_queue(disk, faults)
    faults.left = 1
    put(producer, 1, 3)
    with open_queue(disk) as consumer:
        batch = consumer.take(2, timeout=0)
        for first in range(4, 40, 3):
            put(producer, first, first + 2)
        consumer.commit(batch)
    with open_queue(disk) as consumer:
        assert drain(consumer) == list(range(3, 40))
    producer.close()


@pytest.mark.parametrize("at", ["open", "sync_directory", "write"])
def test_the_numbers_of_a_void_file_are_not_given_to_other_records(disk, at):
    """The producer is killed before the records stand in the new file; a consumer has read them."""
    faults = FailingSyncs()
    producer, consumer = open_queue(disk, faults), open_queue(disk)
    assert take(consumer) == []

    def crash():
        raise Crash

    def meet():
        assert take(consumer) == [1, 2, 3]
        faults.at, faults.then = at, crash

    faults.left, faults.at, faults.then = 1, "rename", meet
    with pytest.raises(Crash):
        put(producer, 1, 3)
    abandon(producer)
    with open_queue(disk) as producer:
        put(producer, 4, 5)
        assert drain(consumer, torn=1) == [4, 5]
        for first in range(6, 30, 3):
            put(producer, first, first + 2)
        assert drain(consumer) == list(range(6, 30))
    assert not [name for name in names(disk) if "void" in name], "it goes with the next sealing"
    consumer.close()


def test_a_log_of_nothing_but_damage_does_not_share_its_number_with_what_follows(disk):
    open_queue(disk).close()  # else the text might be another program's
    disk.put(disk.folder / "log.txt", b"garbage")
    faults = FailingSyncs()
    producer, consumer = open_queue(disk, faults), open_queue(disk)
    batch = consumer.take(9, timeout=0)
    assert [line.raw for line in batch.corrupt] == [b"garbage"]
    consumer.commit(batch)
    faults.left = 1
    for first in range(1, 40, 3):
        put(producer, first, first + 2)
    assert drain(consumer) == list(range(1, 40))
    consumer.close()
    with open_queue(disk) as consumer:
        assert drain(consumer) == []
    producer.close()


class _FirstSyncFails(Storage):
    failing = False

    def sync(self, fd):
        if self.failing:
            self.failing = False
            raise OSError(errno.EIO, "the disk fails")
        super().sync(fd)

    def unlink(self, path):
        raise OSError(errno.EIO, "the disk fails")


def test_a_void_file_that_stays_is_told_of_and_no_problem(tmp_path):
    disk = _FirstSyncFails()
    with FileQueue(tmp_path / "log.txt", storage=disk) as queue:
        disk.failing = True
        put(queue, 1, 3)
        found = verify(queue.path)
    assert (found.records, found.problem_count) == (3, 0)
    assert any("log.void-3-" in note for note in found.notes)


def test_a_put_whose_new_file_failed_too_is_not_acknowledged_and_the_next_one_is(disk):
    faults = FailingSyncs()
    with open_queue(disk, faults) as queue:
        faults.left = 2
        with pytest.raises(QueueUnavailableError, match="a new file did not help"):
            put(queue, 1, 3)
        put(queue, 4, 6)
        assert drain(queue)[-3:] == [4, 5, 6]


@pytest.mark.parametrize("seals", [False, True])
def test_a_flush_tells_of_a_failed_sync_that_nobody_was_told_of(disk, seals):
    """The sync in the background, or the one before a sealing, has failed: a flush must not lie."""
    faults = FailingSyncs()
    with open_queue(
        disk, faults, fsync="interval", fsync_interval=0.001 if not seals else 60
    ) as queue:
        put(queue, 1, 8)
        faults.left = 1
        while faults.left:
            with contextlib.suppress(
                QueueUnavailableError
            ):  # a put that was to seal: it is put again
                put(queue, 9, 9) if seals else queue._closing.wait(0.001)
        with pytest.raises(QueueUnavailableError, match="cannot sync"):
            queue.flush()
        put(queue, 10, 12)
        queue.flush()
        queue._storage.kill()
        abandon(queue)
    disk.lose_power("none", seed=1)
    with open_queue(disk) as queue:
        found = queue.take(99, timeout=0)
        assert [record["n"] for record in found.records][-3:] == [10, 11, 12]


def test_a_close_tells_of_a_failed_sync_in_the_background(disk):
    faults = FailingSyncs()
    queue = open_queue(disk, faults, fsync="interval", fsync_interval=0.001)
    faults.left = 1
    put(queue, 1, 3)
    while faults.left:
        queue._closing.wait(0.001)
    with pytest.raises(QueueUnavailableError, match="cannot close"):
        queue.close()
    queue.close()


def test_a_failed_sync_of_other_producers_records_is_no_loss_of_ours(disk):
    faults = FailingSyncs()
    with open_queue(disk, faults) as queue:
        put(queue, 1, 10)
        faults.left = 1
        with pytest.raises(QueueUnavailableError):
            put(queue, 11, 11)  # it was to seal first
        put(queue, 11, 11)
        queue.flush()
