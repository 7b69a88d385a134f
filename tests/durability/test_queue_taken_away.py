"""The queue's files are taken away while it runs: noticed before anything is promised, and then on.

Each row of the table in `docs/durability.md`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from DurableText.storage import Storage
from Queue import QueueReplacedError, QueueUnavailableError
from tests.durability.taken_away import TAKEN
from tests.queue.of_dicts import FileQueue

FIRST, SECOND = [{"n": 1}, {"n": 2}], [{"n": 3}, {"n": 4}]
LATER = [{"n": 5}, {"n": 6}]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


@pytest.fixture
def producer(log: Path) -> Iterator[FileQueue]:
    with FileQueue(log) as queue:
        yield queue


@pytest.fixture
def consumer(log: Path, producer: FileQueue) -> Iterator[FileQueue]:
    with FileQueue(log) as queue:
        yield queue


def numbers(queue: FileQueue) -> list[int]:
    """Take and commit all there is."""
    found = []
    while batch := queue.take(100, timeout=0):
        found += [record["n"] for record in batch.records]
        queue.commit(batch)
    return found


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("committed", [True, False])
def test_a_put_into_a_log_that_was_taken_away_is_not_acknowledged(
    log: Path, producer: FileQueue, how: str, committed: bool
) -> None:
    producer.put(FIRST)
    older = log.read_bytes()
    producer.put(SECOND)
    if committed:
        with FileQueue(log) as consumer:
            assert numbers(consumer) == [1, 2, 3, 4]
    TAKEN[how](log, older)
    for _ in range(2):
        with pytest.raises(QueueReplacedError, match=r"log\.txt.*records up to 4 were written"):
            producer.put(LATER)
    producer.close()
    with FileQueue(log) as again:
        again.put(LATER)
        assert numbers(again)[-2:] == [5, 6]


@pytest.mark.parametrize("how", TAKEN)
def test_a_log_that_goes_in_the_middle_of_a_put_takes_its_promise_along(
    log: Path, how: str
) -> None:
    class TakenAtTheSync(Storage):
        armed = False

        def sync(self, fd: int) -> None:
            super().sync(fd)
            if self.armed:
                TAKEN[how](log, b"")

    storage = TakenAtTheSync()
    with FileQueue(log, storage=storage) as queue:
        queue.put(FIRST)
        storage.armed = True
        with pytest.raises(QueueReplacedError):
            queue.put(SECOND)
        storage.armed = False
        with pytest.raises(QueueReplacedError):
            queue.put(SECOND)


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("committed", [True, False])
def test_a_consumer_of_a_log_that_was_taken_away_does_not_wait_in_silence(
    log: Path, producer: FileQueue, consumer: FileQueue, how: str, committed: bool
) -> None:
    producer.put(FIRST)
    older = log.read_bytes()
    producer.put(SECOND)
    batch = consumer.take(100, timeout=0)
    if committed:
        consumer.commit(batch)
    TAKEN[how](log, older)
    with pytest.raises(QueueReplacedError, match=r"log\.txt.*records up to 4 were read"):
        consumer.take(100, timeout=0)


@pytest.mark.parametrize("how", TAKEN)
def test_a_log_that_has_grown_past_the_consumers_place_is_still_another_one(
    log: Path, producer: FileQueue, consumer: FileQueue, how: str
) -> None:
    producer.put(FIRST)
    older = log.read_bytes()
    producer.put(SECOND)
    taken = consumer.take(100, timeout=0)  # and not committed
    TAKEN[how](log, older)
    with pytest.raises(QueueReplacedError):
        producer.put(LATER)
    producer.close()
    with FileQueue(log) as again:
        again.put([{"n": n} for n in range(100, 200)])
    with pytest.raises(QueueReplacedError):
        consumer.commit(taken)
    with pytest.raises(QueueReplacedError):
        consumer.take(100, timeout=0)
    consumer.close()
    with FileQueue(log) as next_one:
        assert numbers(next_one)[-100:] == [*range(100, 200)], "what came later is not lost"


@pytest.mark.parametrize("how", TAKEN)
def test_a_batch_whose_log_is_gone_is_not_committed(
    log: Path, producer: FileQueue, consumer: FileQueue, how: str
) -> None:
    producer.put(FIRST)
    older = log.read_bytes()
    producer.put(SECOND)
    batch = consumer.take(100, timeout=0)
    TAKEN[how](log, older)
    before = log.with_name("log.cursor").read_bytes()
    with pytest.raises(QueueReplacedError, match="records up to 4 were taken"):
        consumer.commit(batch)
    assert log.with_name("log.cursor").read_bytes() == before


@pytest.mark.parametrize("how", ["deleted", "replaced by an older copy", "moved"])
def test_a_commit_into_a_cursor_that_was_taken_away_is_not_acknowledged(
    log: Path, producer: FileQueue, consumer: FileQueue, how: str
) -> None:
    cursor = log.with_name("log.cursor")
    producer.put(FIRST)
    assert numbers(consumer) == [1, 2]
    older = cursor.read_bytes()
    producer.put(SECOND)
    assert numbers(consumer) == [3, 4]
    producer.put(LATER)
    batch = consumer.take(100, timeout=0)
    TAKEN[how](cursor, older)
    with pytest.raises(QueueReplacedError, match=r"log\.cursor"):
        consumer.commit(batch)
    consumer.close()
    with FileQueue(log) as again:
        assert numbers(again)[-2:] == [5, 6], "some come again, none is lost"


@pytest.mark.parametrize("how", ["overwritten by an older copy", "truncated"])
@pytest.mark.parametrize("batches", [1, 2])  # for each of the two slots
def test_a_cursor_that_was_changed_in_its_place_is_right_with_the_next_commit_that_returns(
    log: Path, producer: FileQueue, consumer: FileQueue, how: str, batches: int
) -> None:
    cursor = log.with_name("log.cursor")
    producer.put(FIRST)
    assert numbers(consumer) == [1, 2]
    older = cursor.read_bytes()
    producer.put(SECOND)
    assert numbers(consumer) == [3, 4]
    producer.put(LATER)
    if batches == 2:
        consumer.commit(consumer.take(1, timeout=0))
    TAKEN[how](cursor, older)
    try:
        numbers(consumer)
    except QueueReplacedError:
        left = [5, 6][batches - 1 :]
    else:
        left = []
    consumer.close()
    with FileQueue(log) as again:
        assert numbers(again)[-2:] in ([], left), "what was committed does not come again"


def sealed_queue(log: Path) -> Path:
    """Two records in a sealed segment, two in the log."""
    with FileQueue(log, segment_bytes=10) as queue:
        queue.put(FIRST)
        queue.put(SECOND)
    return log.with_name("log.1.txt")


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_sealed_segment_that_is_gone_before_it_is_read_is_told_as_a_gap(
    log: Path, how: str
) -> None:
    with FileQueue(log) as queue:
        queue.put([{"n": 0}])
        assert numbers(queue) == [0]
    sealed = log.with_name("log.1.txt")
    with FileQueue(log, segment_bytes=10) as queue:
        queue.put(FIRST)
        queue.put(SECOND)
    segments = sorted(log.parent.glob("log.[0-9]*.txt"))
    assert sealed in segments
    TAKEN[how](segments[-1], b"")
    with FileQueue(log) as queue:
        batch = queue.take(100, timeout=0)
        assert [record["n"] for record in batch.records] == [3, 4]
        assert "missing" in batch.corrupt[0].reason


@pytest.mark.parametrize("how", TAKEN)
def test_a_sealed_segment_that_is_taken_away_while_it_is_read(log: Path, how: str) -> None:
    sealed = sealed_queue(log)
    older = sealed.read_bytes().split(b"\n")[1] + b"\n"  # of another kind: a segment never changes
    with FileQueue(log) as queue:
        batch = queue.take(1, timeout=0)
        TAKEN[how](sealed, older)
        with pytest.raises(QueueReplacedError):
            queue.commit(batch)
    with FileQueue(log) as queue:
        assert numbers(queue)[-2:] == [3, 4]


@pytest.mark.parametrize("how", TAKEN)
def test_a_quarantine_that_was_taken_away_takes_the_next_entry(log: Path, how: str) -> None:
    quarantine = log.with_name("log.quarantine.txt")
    with FileQueue(log) as queue:
        for number, broken in enumerate([b"first\n", b"second\n"]):
            queue.put([{"n": number}])
            with log.open("ab") as file:
                file.write(broken)
            assert numbers(queue) == [number]
            if not number:
                TAKEN[how](quarantine, b"")
        queue.put([{"n": 2}])
        assert numbers(queue) == [2]
    assert '"text":"second"' in quarantine.read_text()


class ReadOnly(Storage):
    """A file system that was mounted anew, read only."""

    is_so = False

    def refuse(self) -> None:
        if self.is_so:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def append(self, fd: int, data: bytes | memoryview) -> int:
        self.refuse()
        return super().append(fd, data)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.refuse()
        return super().write(fd, data, offset)


def test_a_queue_that_is_read_only_is_waited_out(log: Path) -> None:
    storage = ReadOnly()
    with FileQueue(log, storage=storage) as queue:
        queue.put(FIRST)
        batch = queue.take(100, timeout=0)
        storage.is_so = True
        with pytest.raises(QueueUnavailableError, match="Read-only"):
            queue.put(SECOND)
        with pytest.raises(QueueUnavailableError, match="Read-only"):
            queue.commit(batch)
        storage.is_so = False
        queue.commit(batch)
        queue.put(SECOND)
        assert numbers(queue) == [3, 4]


def test_what_the_queue_itself_seals_and_removes_is_no_loss(log: Path) -> None:
    with FileQueue(log, segment_bytes=10) as one, FileQueue(log, segment_bytes=10) as other:
        for n in range(0, 20, 2):
            one.put([{"n": n}])
            other.put([{"n": n + 1}])
            assert numbers(one) == [n, n + 1]


@pytest.mark.parametrize("how", TAKEN)
def test_a_batch_that_ends_with_its_segment_is_not_committed_when_that_is_gone(
    log: Path, how: str
) -> None:
    sealed = sealed_queue(log)
    with FileQueue(log, segment_bytes=10) as queue:
        batch = queue.take(100, timeout=0)  # leaves two sealed segments for a log without a line
        TAKEN[how](sealed.with_name("log.3.txt"), b"")
        with pytest.raises(QueueReplacedError, match="records up to 4 were taken"):
            queue.commit(batch)
