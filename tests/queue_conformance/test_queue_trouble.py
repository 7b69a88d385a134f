"""Trouble that passes"""

from __future__ import annotations

import time

import pytest

from Queue import QueuePassingError, QueueUnavailableError
from tests.queue_conformance.harness import PATIENCE_SECONDS, QueueUnderTest
from tests.queue_conformance.stories import (
    drained,
    first_of_each,
    ids_of,
    numbered,
    take_until,
    until_it_works,
)

# What a call may take beyond the engine's patience, on a machine with other work.
MORE_SECONDS = 20.0


def test_away(engine: QueueUnderTest) -> None:
    """An engine that is away is trouble that passes; afterwards the same put is right."""
    queue = engine.open()
    queue.put(numbered(3))

    with engine.away():
        for _ in range(2):
            with pytest.raises(QueueUnavailableError):
                queue.put(numbered(2, 3), timeout=0.2)

    until_it_works(lambda: queue.put(numbered(2, 3)))
    assert first_of_each(drained(queue)) == ["0", "1", "2", "3", "4"]


def test_hanging(engine: QueueUnderTest) -> None:
    """An engine that hangs is not waited for without end; afterwards the same put is right."""
    queue = engine.open_impatient()
    queue.put(numbered(3))

    with engine.hanging():
        began = time.monotonic()
        with pytest.raises(QueueUnavailableError):
            queue.put(numbered(2, 3))
        assert time.monotonic() - began < PATIENCE_SECONDS + MORE_SECONDS

    until_it_works(lambda: queue.put(numbered(2, 3)))
    assert first_of_each(drained(queue)) == ["0", "1", "2", "3", "4"]


def test_full_disk_or_memory(engine: QueueUnderTest) -> None:
    """A full disk or memory is trouble that passes, and the queue can be drained meanwhile."""
    queue = engine.open()
    queue.put(numbered(30))

    with engine.full():
        for _ in range(2):
            with pytest.raises(QueuePassingError):
                queue.put(numbered(2, 30), timeout=0.2)
        assert drained(queue) == [str(n) for n in range(30)]

    until_it_works(lambda: queue.put(numbered(2, 30)))
    assert first_of_each(drained(queue)) == ["30", "31"]


def test_read_only(engine: QueueUnderTest) -> None:
    """A queue that has become read only is trouble that passes, for puts and for commits."""
    queue = engine.open()
    queue.put(numbered(3))
    batch = queue.take(3, timeout=5)

    with engine.read_only():
        with pytest.raises(QueueUnavailableError):
            queue.put(numbered(2, 3), timeout=0.2)
        with pytest.raises(QueueUnavailableError):
            queue.commit(batch)

    until_it_works(lambda: queue.commit(batch))
    until_it_works(lambda: queue.put(numbered(2, 3)))
    assert first_of_each(drained(queue)) == ["3", "4"]


def test_a_take_in_trouble(engine: QueueUnderTest) -> None:
    """A take that met trouble is taken again, and skips nothing."""
    queue = engine.open_impatient()
    queue.put(numbered(3))
    ids = ids_of(queue.take(1, timeout=5))
    for trouble in (engine.away, engine.hanging):
        with trouble(), pytest.raises(QueueUnavailableError):
            while True:  # what was read before is handed out all the same
                ids += ids_of(queue.take(1, timeout=0.2))
                queue.put(numbered(1, 9), timeout=0.2)

    until_it_works(lambda: queue.put(numbered(1, 3)))
    while "3" not in ids:
        ids += ids_of(until_it_works(lambda: queue.take(1, timeout=5)))
    assert [each for each in first_of_each(ids) if each != "9"] == ["0", "1", "2", "3"]


def test_a_commit_in_trouble(engine: QueueUnderTest) -> None:
    """A commit that met trouble may be committed again, and counts once."""
    queue = engine.open()
    queue.put(numbered(4))
    first, second = queue.take(2, timeout=5), queue.take(2, timeout=5)

    with engine.away(), pytest.raises(QueueUnavailableError):
        queue.commit(first)

    for batch in (first, second):
        until_it_works(lambda batch=batch: queue.commit(batch))
    assert engine.reader().status().depth == 0
    until_it_works(lambda: queue.put(numbered(1, 4)))
    assert take_until(queue, {"4"}) == ["4"]


def test_check(engine: QueueUnderTest) -> None:
    """A check tells that records can be put, and in bounded time that they cannot."""
    queue = engine.open()
    queue.check(5.0)
    engine.reader().check(5.0)

    with engine.gone():
        began = time.monotonic()
        with pytest.raises(QueueUnavailableError):
            queue.check(0.5)
        assert time.monotonic() - began < MORE_SECONDS

    until_it_works(lambda: queue.check(5.0))


def test_the_message_helps(engine: QueueUnderTest) -> None:
    """The error says what was tried and where."""
    queue = engine.open()

    with (
        engine.away(),
        pytest.raises(QueueUnavailableError, match=r"cannot (append|connect)|appended") as error,
    ):
        queue.put(numbered(1), timeout=0.2)

    assert queue.name in str(error.value)


def test_a_queue_that_is_away_at_the_start(engine: QueueUnderTest) -> None:
    """A queue that cannot be opened for now says so as trouble that passes."""
    engine.open().put(numbered(1))
    engine.end_test()

    with engine.gone(), pytest.raises(QueueUnavailableError):
        engine.open()

    assert drained(until_it_works(engine.open)) == ["0"]
