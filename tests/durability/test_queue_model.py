"""The queue against a plain list: Hypothesis looks for steps that tell them apart."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.durability.queue_story import abandon
from tests.durability.simulated_disk import POWER_LOSSES, SimulatedDisk
from tests.queue.of_dicts import FileQueue

STEPS = ["put"] * 5 + ["take"] * 5 + ["commit"] * 4 + ["flush"] * 3 + ["seal"]


class QueueModel(RuleBasedStateMachine):
    """`waiting` is the model: what was put and not committed, oldest first."""

    def __init__(self):
        super().__init__()
        self.disk = SimulatedDisk(Path(tempfile.gettempdir()).resolve())
        self.queue = None
        self.next_id = 1
        self.waiting = []
        self.taken = []
        self.safe = set()
        self.unsafe = set()
        self.committed_to = 0

    @initialize(fsync=st.sampled_from(["always", "never"]))
    def start(self, fsync):
        self.fsync = fsync
        self.open()

    def open(self):
        self.process = self.disk.process()
        self.queue = FileQueue(
            self.disk.folder / "log.txt", segment_bytes=200, fsync=self.fsync, storage=self.process
        )
        self.taken = []
        self.unsafe = set()

    @rule(step=st.sampled_from(STEPS), count=st.integers(1, 5))
    def step(self, step, count):
        getattr(self, step)(count)

    def put(self, count):
        ids = list(range(self.next_id, self.next_id + count))
        self.next_id += count
        self.queue.put([{"n": number} for number in ids])
        self.waiting += ids
        self.unsafe.update(ids)
        if self.fsync == "always":
            self.flush(count)

    def take(self, count):
        batch = self.queue.take(count, timeout=0)
        assert batch.corrupt == []
        in_flight = sum(len(batch) for batch in self.taken)
        expected = self.waiting[in_flight : in_flight + count]
        assert [record["n"] for record in batch.records] == expected
        if batch:
            self.taken.append(batch)

    def commit(self, count):
        for batch in self.taken[:count]:
            self.queue.commit(batch)
            self.committed_to = batch.records[-1]["n"]
            del self.waiting[: len(batch)]
        del self.taken[:count]

    def flush(self, count):
        """What this process has put is safe now; what another one put and did not flush is not."""
        self.queue.flush()
        self.safe |= self.unsafe

    def seal(self, count):
        producer = self.queue._producer
        assert producer._lock.try_acquire()
        if producer._writer.prepare():
            producer._writer.seal()
        producer._lock.release()

    @rule()
    def reopen(self):
        self.queue.close()
        self.open()

    @rule()
    def kill(self):
        self.process.kill()
        abandon(self.queue)
        self.open()

    @rule(how=st.sampled_from(POWER_LOSSES), seed=st.integers(0, 1000))
    def power_loss(self, how, seed):
        self.process.kill()
        abandon(self.queue)
        self.disk.lose_power(how, seed)
        self.open()
        if self.fsync == "always":
            return
        # What was not flushed may be gone, and the cursor may be old; nothing else.
        found = []
        while batch := self.queue.take(10, timeout=0):
            found += [record["n"] for record in batch.records]
            self.queue.commit(batch)
        assert found == sorted(found)
        assert self.safe.intersection(self.waiting) <= set(found)
        self.waiting, self.taken = [], []

    @precondition(lambda self: self.queue is not None)
    @rule()
    def nothing_old_stays(self):
        """Segments are removed once all of them is committed and the consumer has seen that."""
        if not self.waiting and not self.queue.take(1, timeout=0):
            names = [path.name for path in self.disk.names if path.suffix == ".txt"]
            assert [name for name in names if name != "log.txt"] in ([], ["log.quarantine.txt"])

    def teardown(self):
        if self.queue is not None:
            self.queue.close()


@pytest.mark.usefixtures("no_inotify")
class TestQueueModel(QueueModel.TestCase):
    settings = settings(
        max_examples=150,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("no_inotify")
class TestQueueModelForLong(QueueModel.TestCase):
    settings = settings(
        max_examples=2000,
        stateful_step_count=80,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
