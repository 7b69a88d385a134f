"""Looking at it, and what stands at its place"""

from __future__ import annotations

import pytest

from Queue import (
    QueueClosedError,
    QueueConfigurationError,
    QueueError,
    QueueReplacedError,
    QueueUnavailableError,
)
from tests.queue_conformance.harness import QueueUnderTest
from tests.queue_conformance.stories import drained, numbered, until_it_works


def test_status(engine: QueueUnderTest) -> None:
    """The status tells how many records are not committed, and the oldest of them."""
    queue, reader = engine.open(), engine.reader()
    assert (queue.status().depth, queue.status().oldest) == (0, None)
    queue.put(numbered(10))
    batch = queue.take(4, timeout=5)
    assert (reader.status().depth, reader.status().oldest) == (10, numbered(1)[0])

    queue.commit(batch)

    state = reader.status()
    assert (state.depth, state.oldest) == (6, numbered(1, 4)[0])
    assert state.as_dict()["depth"] == 6
    assert any("6 records" in line for line in state.lines(queue.name))


def test_the_status_tells_who_takes(engine: QueueUnderTest) -> None:
    """The status names the process that takes."""
    queue, reader = engine.open(), engine.reader()
    queue.put(numbered(1))
    queue.take(1, timeout=5)

    assert "process" in str(reader.status().as_dict()["consumer"])


def test_verify(engine: QueueUnderTest) -> None:
    """A sound queue is found sound; what is no record is found."""
    queue, reader = engine.open(), engine.reader()
    queue.put(numbered(300))
    sound = reader.verify()
    assert (sound.problem_count, sound.records) == (0, 300)

    engine.damage()

    assert reader.verify().problem_count == 1


def test_a_reader_changes_nothing(engine: QueueUnderTest) -> None:
    """One that was opened to look makes nothing, refuses to put and to take, and may come first."""
    reader = engine.reader()
    with pytest.raises(QueueUnavailableError, match="there is no queue"):
        reader.status()
    queue = engine.open()
    queue.put(numbered(3))

    for use in (lambda: reader.put(numbered(1)), lambda: reader.take(1, 0), reader.flush):
        with pytest.raises(QueueClosedError, match="to look at it"):
            use()

    assert not reader.active
    assert reader.status().depth == 3
    assert drained(queue) == ["0", "1", "2"]


def test_closed(engine: QueueUnderTest) -> None:
    """A closed queue refuses everything; closing it twice is fine."""
    queue = engine.open()
    queue.put(numbered(2))
    batch = queue.take(1, timeout=5)
    queue.close()
    queue.close()

    for use in (
        lambda: queue.put(numbered(1)),
        lambda: queue.take(1, timeout=0),
        lambda: queue.commit(batch),
        queue.flush,
        lambda: queue.check(1.0),
    ):
        with pytest.raises(QueueClosedError):
            use()


def test_its_name(engine: QueueUnderTest) -> None:
    """A queue tells where it is, for logs and errors."""
    queue = engine.open()

    assert queue.name
    assert engine.place.partition("&")[0] in queue.name


def test_somebody_else_s(engine: QueueUnderTest) -> None:
    """What another program has made at the queue's place is refused and left alone."""
    engine.put_something_foreign()

    with pytest.raises(QueueConfigurationError):
        engine.open()

    assert engine.foreign_is_untouched()


def test_lost(engine: QueueUnderTest) -> None:
    """A queue that came back empty is noticed before a put counts; a start goes on."""
    queue = engine.open()
    queue.put(numbered(3))
    engine.lose_everything()

    with pytest.raises(QueueReplacedError):
        until_it_works(lambda: queue.put(numbered(1, 3), timeout=0.2))
    queue.close()

    again = engine.open()
    again.put(numbered(1, 3))
    assert drained(again) == ["3"]


def test_lost_in_the_middle_of_a_batch(engine: QueueUnderTest) -> None:
    """A queue that came back empty takes no commit of what was taken before."""
    queue = engine.open()
    queue.put(numbered(3))
    batch = queue.take(3, timeout=5)
    engine.lose_everything()

    with pytest.raises(QueueReplacedError) as error:
        until_it_works(lambda: queue.commit(batch))

    assert isinstance(error.value, QueueError)
