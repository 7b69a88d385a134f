"""Taking and committing"""

from __future__ import annotations

import threading
import time

import pytest

from Queue import QueueClosedError, QueueError, QueueOrderError
from tests.queue_conformance.harness import QueueUnderTest
from tests.queue_conformance.stories import drained, ids_of, named, numbered, take_until


def test_empty(engine: QueueUnderTest) -> None:
    """A take from an empty queue gives an empty batch at its timeout; 0 only looks."""
    queue = engine.open()
    began = time.monotonic()

    assert not queue.take(10, timeout=0)
    assert not queue.take(10, timeout=0.3)

    assert time.monotonic() - began >= 0.3


def test_at_most(engine: QueueUnderTest) -> None:
    """A take gives what is there, the oldest first, and no more than was asked for."""
    queue = engine.open()
    queue.put(numbered(10))

    assert ids_of(queue.take(4, timeout=5)) == ["0", "1", "2", "3"]
    assert ids_of(queue.take(100, timeout=5)) == ["4", "5", "6", "7", "8", "9"]
    with pytest.raises(QueueError):
        queue.take(0)


def test_taken_and_not_committed_comes_again(engine: QueueUnderTest) -> None:
    """What was taken and not committed goes to the next consumer as soon as this one is closed."""
    first = engine.open()
    first.put(numbered(10))
    first.commit(first.take(3, timeout=5))
    first.take(3, timeout=5)
    first.close()

    second = engine.open()
    ids = take_until(second, {str(n) for n in range(3, 10)}, 20)
    assert sorted(ids, key=int) == [str(n) for n in range(3, 10)]


def test_committed_never_comes_again(engine: QueueUnderTest) -> None:
    """What was committed is never handed out again."""
    for start in (0, 10, 20):
        queue = engine.open()
        queue.put(numbered(10, start))
        assert drained(queue) == [str(n) for n in range(start, start + 10)]
        queue.close()

    assert drained(engine.open()) == []
    assert engine.reader().status().depth == 0


def test_committed_twice(engine: QueueUnderTest) -> None:
    """Committing twice, and committing nothing, is fine."""
    queue = engine.open()
    queue.put(numbered(4))
    first, empty = queue.take(2, timeout=5), queue.take(0 + 1, timeout=5)
    queue.commit(first)
    queue.commit(first)
    queue.commit(empty)
    queue.commit(queue.take(5, timeout=5))
    queue.commit(queue.take(5, timeout=0))
    queue.commit(first)

    assert engine.reader().status().depth == 0


def test_commits_in_another_order(engine: QueueUnderTest) -> None:
    """A batch before whose turn it is is not committed; in order both are."""
    queue = engine.open()
    queue.put(numbered(4))
    first, second = queue.take(2, timeout=5), queue.take(2, timeout=5)

    with pytest.raises(QueueOrderError):
        queue.commit(second)
    assert engine.reader().status().depth == 4

    queue.commit(first)
    queue.commit(second)
    assert engine.reader().status().depth == 0


def test_a_waiting_take_wakes(engine: QueueUnderTest) -> None:
    """A take that waits gets what is put meanwhile, from another process's queue as well."""
    queue, other = engine.open(), engine.open()
    assert not queue.take(1, timeout=0)
    putting = threading.Timer(0.3, other.put, [named("a")])
    putting.start()
    began = time.monotonic()

    assert ids_of(queue.take(10, timeout=60)) == ["a"]
    putting.join()

    assert time.monotonic() - began < 30


def test_what_is_no_record(engine: QueueUnderTest) -> None:
    """What is no record is handed over as such, with its place; its neighbours pass."""
    queue = engine.open()
    queue.put(numbered(2))
    raw = engine.damage()
    queue.put(numbered(2, 2))

    found, corrupt = [], []
    while batch := queue.take(10, timeout=0.5):
        found += ids_of(batch)
        corrupt += batch.corrupt
        queue.commit(batch)

    assert found == ["0", "1", "2", "3"]
    (damaged,) = [each for each in corrupt if each.raw]
    assert damaged.raw == raw
    assert damaged.reason
    assert damaged.found_at


def test_what_is_no_record_comes_once(engine: QueueUnderTest) -> None:
    """What is no record does not come again once it is committed, alone in its batch or not."""
    queue = engine.open()
    queue.put(numbered(1))
    engine.damage()
    while batch := queue.take(10, timeout=0.5):
        queue.commit(batch)
    queue.close()

    second = engine.open()
    second.put(numbered(1, 1))
    batch = second.take(10, timeout=5)

    assert ids_of(batch) == ["1"]
    assert not [each for each in batch.corrupt if each.raw]


def test_closed_while_it_waits(engine: QueueUnderTest) -> None:
    """A take, and a put that waits for room, end when the queue is closed."""
    queue = engine.open()
    queue.take(1, timeout=0)
    threading.Timer(0.3, queue.close).start()
    began = time.monotonic()

    with pytest.raises(QueueClosedError):
        queue.take(10)

    assert time.monotonic() - began < 20
