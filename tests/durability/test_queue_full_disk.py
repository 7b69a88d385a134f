"""A full disk: what is there is drained, also by those who come only now, and puts go on after."""

import contextlib
import errno

import pytest

from DurableText.storage import Storage
from Queue import QueueUnavailableError
from Queue.text.numbered_lines import frame_numbered
from tests.durability.simulated_disk import PAGE, SimulatedDisk
from tests.queue.of_dicts import FileQueue
from tests.small_disk import mounted

pytestmark = pytest.mark.usefixtures("no_inotify")


def drain(queue):
    numbers = []
    while batch := queue.take(7, timeout=0):
        assert batch.corrupt == []
        numbers += [record["n"] for record in batch.records]
        queue.commit(batch)
    return numbers


def open_queue(disk):
    return FileQueue(disk.folder / "log.txt", storage=disk.process())


@pytest.fixture
def disk(tmp_path):
    return SimulatedDisk(tmp_path)


def test_a_consumer_that_comes_when_the_disk_is_full_already_drains_it(disk):
    with open_queue(disk) as producer:
        producer.put([{"n": number} for number in range(20)])
    disk.full = True
    with open_queue(disk) as consumer:
        assert drain(consumer) == list(range(20))


def test_a_queue_whose_last_line_is_torn_at_the_end_of_its_last_block_opens_and_is_drained(
    disk, caplog
):
    """Not even the newline that would end the line has room: only a put has to say so."""
    lines = b"".join(frame_numbered([b'"n":%d' % n for n in range(9)], 1))
    open_queue(disk).close()
    disk.put(disk.folder / "log.txt", lines + b'{"seq":10,"n":'.ljust(PAGE - len(lines), b"x"))
    disk.full = True
    with open_queue(disk) as queue:
        assert "no record can be put for now" in caplog.text
        batch = queue.take(4, timeout=0)
        assert len(batch) == 4
        queue.commit(batch)
        with pytest.raises(QueueUnavailableError, match="No space left"):
            queue.put([{"n": 9}])
        assert drain(queue) == list(range(4, 9))
        disk.full = False
        queue.put([{"n": 9}])
        assert drain(queue) == [9]


class SmallDisk(Storage):
    """A disk with room for `room` bytes in `folder`."""

    def __init__(self, folder, room):
        self.folder, self.room = folder, room

    def append(self, fd, data):
        left = self.room - sum(file.stat().st_size for file in self.folder.glob("*.txt"))
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().append(fd, bytes(data)[:left])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_disk_smaller_than_a_segment_is_written_again_once_all_is_committed(tmp_path, restarted):
    disk = SmallDisk(tmp_path, 5000)
    queue, consumer = (FileQueue(tmp_path / "log.txt", storage=disk) for _ in range(2))
    number, taken, acknowledged = 0, [], []
    for _ in range(4):
        with pytest.raises(QueueUnavailableError):
            while True:
                number += 1
                queue.put([{"n": number}])
                acknowledged.append(number)
        if restarted:
            queue.close()
            queue = FileQueue(tmp_path / "log.txt", storage=disk)
        with pytest.raises(QueueUnavailableError):
            queue.put([{"n": -1}])  # what waits to be taken is not given up for it
        while batch := consumer.take(9, timeout=0):
            assert batch.corrupt == []
            taken += [record["n"] for record in batch.records]
            consumer.commit(batch)
    assert taken == acknowledged
    assert len(taken) > 400
    queue.close()
    consumer.close()


def test_a_damaged_line_that_nobody_was_told_of_is_not_given_up_for_room(tmp_path):
    lines = b"".join(frame_numbered([b'"n":%d' % n for n in range(3)], 1))
    (tmp_path / "log.txt").write_bytes(lines)
    with FileQueue(tmp_path / "log.txt") as queue:
        assert drain(queue) == [0, 1, 2]
    (tmp_path / "log.txt").write_bytes(lines + b"rotten\n" + b'{"seq":5')
    with FileQueue(tmp_path / "log.txt", storage=SmallDisk(tmp_path, len(lines) + 15)) as queue:
        for _ in range(3):
            with pytest.raises(QueueUnavailableError):
                queue.put([{"n": 9}])
        assert [line.raw for line in queue.take(9, timeout=0).corrupt] == [b"rotten"]


# ---------------------------------------------------------------------- a real file system


@pytest.fixture
def tiny_disk(tmp_path):
    with mounted(tmp_path / "disk", 256 << 10) as folder:
        yield folder


def test_a_full_disk_loses_nothing_is_drained_and_written_again(tiny_disk):
    (tiny_disk / "ballast").write_bytes(b"x" * 100_000)
    with FileQueue(tiny_disk / "log.txt", segment_bytes=20_000) as queue:
        stored, refused = [], 0
        for number in range(0, 2000, 10):
            records = [{"n": number + i, "pad": "x" * 100} for i in range(10)]
            try:
                queue.put(records)
                stored += range(number, number + 10)
            except QueueUnavailableError as error:
                stored += range(number, number + error.appended)
                refused += 1
        assert refused > 5
        taken = []
        while batch := queue.take(100, timeout=0):
            taken += [record["n"] for record in batch.records]
            if not batch.corrupt:
                queue.commit(batch)
                continue
            (tiny_disk / "ballast").unlink(missing_ok=True)  # the quarantine needs a block
            queue.commit(batch)
        assert taken == stored
        queue.put([{"n": -1}])
        last = queue.take(10, timeout=0)  # with what the last refused put has left
        assert [record["n"] for record in last.records] == [-1]
        queue.commit(last)


def test_a_queue_on_a_disk_smaller_than_a_segment_goes_on_once_all_is_committed(tiny_disk):
    """Also for producers and consumers that come when it is full."""
    for number in range(5):
        with contextlib.suppress(QueueUnavailableError), FileQueue(tiny_disk / "log.txt") as queue:
            while True:
                queue.put([{"n": number, "pad": "x" * 100}] * 7)
        with FileQueue(tiny_disk / "log.txt") as queue:
            taken = drain(queue)
        assert len(taken) > 500
        assert set(taken) == {number}
