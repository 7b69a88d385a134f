"""Two producers and a consumer, in random steps that come between the calls of one another.

The first producer's calls fail or crash now and then; before any of them, the consumer or the other
producer may act (a producer only while the first one does not hold the lock: it would wait). Now
and then a process is killed, and the power fails. What the tests beside this one try one by one
comes together here, in ways that nobody has thought of. A seed that fails is printed.
"""

import errno
import random

import pytest

from Queue import QueueUnavailableError
from tests.durability.queue_story import SEGMENT_BYTES, Story, abandon
from tests.durability.simulated_disk import POWER_LOSSES, Crash, SimulatedDisk
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")

LIVES, STEPS = 3, 40
OTHERS_IDS = 1_000_000
"""The other producer's ids count from here: each producer keeps an order of its own."""


class Trio:
    """The three processes, on one disk."""

    def __init__(self, folder, seed):
        self.rng = random.Random(seed)
        self.disk = SimulatedDisk(folder)
        self.story = Story(self.disk, seed)
        self.queues = {"first": None, "other": None, "consumer": None}
        self.taken = []
        self.others_next = OTHERS_IDS
        self.others_acknowledged = set()
        self.fault_share = self.rng.choice([0.0, 0.02, 0.1])
        self.acting = False

    def live(self):
        for _ in range(LIVES):
            for _ in range(STEPS):
                self.step()
            if self.rng.random() < 0.5:
                self.kill(*self.queues)
                self.disk.lose_power(self.rng.choice(POWER_LOSSES), self.rng.randrange(1 << 30))
        self.kill(*self.queues)

    def step(self):
        try:
            if self.rng.random() < 0.6:
                self.story._put(self.open("first", self.faults), self.rng.randint(1, 4))
            else:
                self.consume()
        except QueueUnavailableError:
            return
        except Crash:
            self.kill("first")

    def open(self, who, faults=None):
        if self.queues[who] is None:
            process = self.disk.process(faults, seed=self.rng.random())
            self.queues[who] = FileQueue(
                self.story.path, segment_bytes=SEGMENT_BYTES, storage=process
            )
        return self.queues[who]

    def kill(self, *whom):
        for who in whom:
            queue, self.queues[who] = self.queues[who], None
            if queue is not None:
                queue._storage.kill()
                abandon(queue)
            if who == "consumer":
                self.taken = []

    def faults(self, name, number):
        if self.acting:
            return
        if self.rng.random() < 0.08:
            self.acting = True
            try:
                self.act()
            finally:
                self.acting = False
        share = {"sync": 1, "rename": 0.25, "open": 0.25, "sync_directory": 0.25, "read": 0.1}
        if self.rng.random() < self.fault_share * share.get(name, 0):
            raise OSError(errno.EIO, "the disk fails")
        if self.rng.random() < 0.0008:
            raise Crash

    def act(self):
        lock = self.disk.names.get(self.disk.folder / "log.producer.lock")
        if self.rng.random() < 0.5 and (lock is None or lock.holder is None):
            if self.rng.random() < 0.1:
                self.kill("other")
            self.put_of_the_other()
        else:
            self.consume()

    def put_of_the_other(self):
        count = self.rng.randint(1, 3)
        ids = range(self.others_next, self.others_next + count)
        self.others_next += count
        self.open("other").put([{"n": number} for number in ids])
        self.others_acknowledged.update(ids)

    def consume(self):
        queue = self.open("consumer")
        if self.taken and self.rng.random() < 0.4:
            self.story._commit(queue, self.taken.pop(0))
        elif self.rng.random() < 0.05:
            self.kill("consumer")
        elif batch := queue.take(self.rng.randint(1, 5), timeout=0):
            self.story._deliver(batch)
            self.taken.append(batch)

    def check(self):
        story = self.story
        with FileQueue(
            story.path, segment_bytes=SEGMENT_BYTES, storage=self.disk.process()
        ) as queue:
            story._drain(queue)
            story._put(queue, 1)
            story._drain(queue)
        assert story.wrong == []
        for acknowledged, mine in (
            (story.acknowledged, [n for n in story.delivered if n < OTHERS_IDS]),
            (self.others_acknowledged, [n for n in story.delivered if n >= OTHERS_IDS]),
        ):
            lost = acknowledged - set(mine)
            assert not lost, f"acknowledged and lost: {sorted(lost)}"
            first = list(dict.fromkeys(mine))
            assert first == sorted(first), f"out of order: {first}"


@pytest.mark.parametrize("start", range(0, 1000, 100))
def test_whatever_comes_together_nothing_is_lost_and_each_producer_keeps_its_order(tmp_path, start):
    for seed in range(start, start + 100):
        print(f"seed {seed}")
        trio = Trio(tmp_path, seed)
        trio.live()
        trio.check()


@pytest.mark.parametrize(
    "seed",
    [pytest.param(100_628, id="a torn line alone in a log that is sealed before the commit")],
)
def test_what_failed_once_does_not_any_more(tmp_path, seed):
    trio = Trio(tmp_path, seed)
    trio.live()
    trio.check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("start", range(100_000, 120_000, 1000))
def test_whatever_comes_together_for_long(tmp_path, start):
    for seed in range(start, start + 1000):
        print(f"seed {seed}")
        trio = Trio(tmp_path, seed)
        trio.live()
        trio.check()
