"""A user of the queue who writes down what was promised, and the oracle that holds it to that.

A `Story` spans several lives: each opens the queue, puts, takes and commits until it ends, crashes
or is cut off. Ids are increasing numbers, put in that order. Whatever happened in between:

* acknowledged ⊆ delivered: every id whose `put` returned is handed out;
* first deliveries are in the order of the puts;
* what was committed is not handed out again;
* a second recovery finds nothing new, and the queue goes on working.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from Queue import QueueBatch, QueueUnavailableError
from tests.durability.simulated_disk import Crash, SimulatedDisk, SimulatedProcess
from tests.queue.of_dicts import FileQueue

SEGMENT_BYTES = 300
"""Small, so that a story of a few dozen records seals and removes several segments."""

TRIES = 5
"""How often a put or commit that failed is tried again."""


class Story:
    """What one user did and saw, over all lives."""

    def __init__(self, disk: SimulatedDisk, seed: int) -> None:
        self.disk = disk
        self.path = disk.folder / "log.txt"
        self.rng = random.Random(seed)
        self.next_id = 1
        self.acknowledged: set[int] = set()
        self.put_twice: set[int] = set()
        self.delivered: list[int] = []
        self.committed: set[int] = set()
        self.corrupt: list[bytes] = []
        self.wrong: list[str] = []

    def live(self, process: SimulatedProcess, steps: int, fsync: str = "always") -> bool:
        """Lives one life; returns False if it ended in a crash."""
        queue = None
        try:
            queue = _until_it_works(
                lambda: FileQueue(
                    self.path, segment_bytes=SEGMENT_BYTES, storage=process, fsync=fsync
                )
            )
            taken: list[QueueBatch] = []
            for _ in range(steps):
                self._step(queue, taken)
            _until_it_works(queue.close)
        except Crash:
            return False
        finally:
            abandon(queue)
        return True

    def check(self) -> None:
        """Recovers, takes everything, and holds the queue to what it promised."""
        process = self.disk.process()
        queue = FileQueue(self.path, segment_bytes=SEGMENT_BYTES, storage=process)
        self._drain(queue)
        self._put(queue, 1)
        self._drain(queue)
        queue.close()
        before = len(self.delivered)
        with FileQueue(
            self.path, segment_bytes=SEGMENT_BYTES, storage=self.disk.process()
        ) as queue:
            self._drain(queue)
        assert self.delivered[before:] == [], "a second recovery handed out something again"
        assert self.wrong == []
        lost = self.acknowledged - set(self.delivered)
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        first = list(dict.fromkeys(self.delivered))
        assert first == sorted(first), f"out of order: {first}"

    def _step(self, queue: FileQueue, taken: list[QueueBatch]) -> None:
        choice = self.rng.random()
        if choice < 0.45:
            self._put(queue, self.rng.randint(1, 4))
        elif choice < 0.75:
            batch = _until_it_works(lambda: queue.take(self.rng.randint(1, 5), timeout=0))
            if batch:
                self._deliver(batch)
                taken.append(batch)
        elif taken:
            self._commit(queue, taken.pop(0))

    def _put(self, queue: FileQueue, count: int) -> None:
        ids = list(range(self.next_id, self.next_id + count))
        self.next_id += count
        for _ in range(TRIES):
            try:
                queue.put([{"n": number} for number in ids])
            except QueueUnavailableError as error:
                self.acknowledged.update(ids[: error.appended])
                ids = ids[error.appended :]
                self.put_twice.update(ids)
            else:
                self.acknowledged.update(ids)
                return

    def _deliver(self, batch: QueueBatch) -> None:
        ids = [record["n"] for record in batch.records]
        again = (self.committed - self.put_twice).intersection(ids)
        if again:
            self.wrong.append(f"committed, and handed out again: {sorted(again)}")
        self.delivered += ids
        self.corrupt += [line.raw for line in batch.corrupt]

    def _commit(self, queue: FileQueue, batch: QueueBatch) -> None:
        _until_it_works(lambda: queue.commit(batch))
        self.committed.update(record["n"] for record in batch.records)

    def _drain(self, queue: FileQueue) -> None:
        while batch := queue.take(7, timeout=0):
            self._deliver(batch)
            self._commit(queue, batch)


def abandon(queue: FileQueue | None) -> None:
    """Closes what a queue whose process crashed has open in the real system."""
    slot = None if queue is None else queue._slot
    if slot is not None and not queue._closing.is_set():
        slot._watch.close()


def _until_it_works(action: Callable[[], Any]) -> Any:
    for _ in range(TRIES):
        try:
            return action()
        except QueueUnavailableError as error:
            last = error
    raise last


def calls_of_a_whole_life(folder: Path, seed: int, steps: int) -> list[str]:
    """Returns the system calls of a life without faults."""
    story = Story(SimulatedDisk(folder), seed)
    process = story.disk.process()
    assert story.live(process, steps)
    story.check()
    return process.calls


class DuoStory(Story):
    """Producer and consumer are two processes; one crashes or fails, the other goes on."""

    def run(self, steps: int, producing: SimulatedProcess, consuming: SimulatedProcess) -> None:
        """Lives on; a process that crashes is started again, without faults."""
        queues: dict[str, FileQueue | None] = {"producer": None, "consumer": None}
        processes = {"producer": producing, "consumer": consuming}
        taken: list[QueueBatch] = []
        steps_done = 0
        while steps_done < steps:
            who = "producer" if self.rng.random() < 0.45 else "consumer"
            try:
                queue = queues[who] = queues[who] or self._open(processes[who])
                if who == "producer":
                    self._put(queue, self.rng.randint(1, 4))
                else:
                    self._consume(queue, taken)
                steps_done += 1
            except Crash:
                abandon(queues[who])
                queues[who], processes[who] = None, self.disk.process()
                if who == "consumer":
                    taken.clear()
        for queue in queues.values():
            if queue is not None:
                _until_it_works(queue.close)

    def _open(self, process: SimulatedProcess) -> FileQueue:
        return _until_it_works(
            lambda: FileQueue(self.path, segment_bytes=SEGMENT_BYTES, storage=process)
        )

    def _consume(self, queue: FileQueue, taken: list[QueueBatch]) -> None:
        if taken and self.rng.random() < 0.45:
            self._commit(queue, taken.pop(0))
            return
        batch = _until_it_works(lambda: queue.take(self.rng.randint(1, 5), timeout=0))
        if batch:
            self._deliver(batch)
            taken.append(batch)
