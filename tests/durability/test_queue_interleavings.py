"""One process acts between any two system calls of another: sealing, removal, takeover."""

import pytest

from Queue import QueueFullError
from tests.durability.queue_story import abandon
from tests.durability.simulated_disk import SimulatedDisk
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")

ROUNDS = 12
SEGMENT_BYTES = 120


class Meeting:
    """A process whose call number `call` is preceded by an act of another process.

    A producer's act waits, as it would, while the process holds the producers' lock.
    """

    def __init__(self, disk, call, act):
        self.disk, self.call, self.act, self.happened = disk, call, act, False
        self.waits_for_the_lock = True

    def __call__(self, name, number):
        lock = self.disk.names.get(self.disk.folder / "log.producer.lock")
        is_free = lock is None or lock.holder is None or not self.waits_for_the_lock
        if number >= self.call and not self.happened and is_free:
            self.happened = True
            self.act()


def open_queue(disk, faults=None, **options):
    process = disk.process(faults)
    options = {"segment_bytes": SEGMENT_BYTES, **options}
    return FileQueue(disk.folder / "log.txt", storage=process, **options)


class Numbers:
    """Puts and takes consecutive numbers, and notes what came."""

    def __init__(self):
        self.put_up_to, self.taken = 0, []

    def put(self, queue, count):
        numbers = range(self.put_up_to + 1, self.put_up_to + count + 1)
        self.put_up_to += count
        queue.put([{"n": number} for number in numbers])

    def take(self, queue, count=4):
        batch = queue.take(count, timeout=0)
        assert batch.corrupt == []
        self.taken += [record["n"] for record in batch.records]
        queue.commit(batch)
        return batch

    def check(self, queue):
        while self.take(queue):
            pass
        while self.taken[-1] < self.put_up_to:  # the other one has acted during the last take
            assert self.take(queue)
        assert self.taken == list(range(1, self.put_up_to + 1))


def test_a_producer_may_put_and_seal_between_any_two_calls_of_a_consumer(tmp_path):
    call, met = 0, True
    while met:
        call += 1
        disk, numbers = SimulatedDisk(tmp_path), Numbers()
        producer = open_queue(disk)

        def act(producer=producer, numbers=numbers):
            for _ in range(3):
                numbers.put(producer, 3)

        meeting = Meeting(disk, call, act)
        numbers.put(producer, 5)
        with open_queue(disk, meeting) as consumer:
            for _ in range(ROUNDS):
                numbers.take(consumer)
                numbers.put(producer, 2)
            numbers.check(consumer)
        met = meeting.happened
        producer.close()
    assert call > 100


def test_a_consumer_may_take_commit_and_remove_between_any_two_calls_of_a_producer(tmp_path):
    call, met = 0, True
    while met:
        call += 1
        disk, numbers = SimulatedDisk(tmp_path), Numbers()
        consumer = open_queue(disk)
        meeting = Meeting(disk, call, lambda c=consumer, n=numbers: [n.take(c) for _ in range(3)])
        meeting.waits_for_the_lock = False
        with open_queue(disk, meeting) as producer:
            for _ in range(ROUNDS):
                numbers.put(producer, 3)
                if numbers.put_up_to % 4 == 0:
                    numbers.take(consumer)
        numbers.check(consumer)
        consumer.close()
        met = meeting.happened
    assert call > 50


def test_a_producer_may_put_and_seal_between_any_two_calls_of_a_consumer_that_takes_over(tmp_path):
    call, met = 0, True
    while met:
        call += 1
        disk, numbers = SimulatedDisk(tmp_path), Numbers()
        producer, first = open_queue(disk), open_queue(disk)
        for _ in range(4):
            numbers.put(producer, 3)
            numbers.take(first, 2)
        first._storage.kill()
        abandon(first)
        meeting = Meeting(disk, call, lambda p=producer, n=numbers: [n.put(p, 3) for _ in range(3)])
        with open_queue(disk, meeting) as second:
            numbers.check(second)
            met = meeting.happened
        producer.close()
    assert call > 30


def test_a_consumer_may_remove_everything_between_any_two_calls_of_a_producer_that_starts(tmp_path):
    """The numbers of what it removes must not be used again: the consumer takes them for old."""
    call, met = 0, True
    while met:
        call += 1
        disk, numbers = SimulatedDisk(tmp_path), Numbers()
        # Full, its log is empty: what was there is sealed.
        with open_queue(disk, max_bytes=600) as first, pytest.raises(QueueFullError):
            while True:
                first.put([{"n": numbers.put_up_to + 1}], timeout=0)
                numbers.put_up_to += 1
        consumer = open_queue(disk)
        meeting = Meeting(disk, call, lambda c=consumer, n=numbers: [n.take(c) for _ in range(12)])
        meeting.waits_for_the_lock = False
        with open_queue(disk, meeting) as producer:
            numbers.put(producer, 2)
        numbers.check(consumer)
        consumer.close()
        met = meeting.happened
    assert call > 15
