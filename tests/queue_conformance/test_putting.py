"""Putting"""

from __future__ import annotations

import threading
import time

import pytest

from Queue import (
    QueueFullError,
    QueueRecordError,
    Record,
    encode_record,
)
from tests.queue_conformance.harness import SMALL, QueueUnderTest
from tests.queue_conformance.stories import drained, first_of_each, ids_of, named, numbered


def test_a_record_comes_out_as_it_was_put(engine: QueueUnderTest) -> None:
    """A record is taken byte by byte as it was put, with its id."""
    queue = engine.open()
    records = [
        encode_record({"id": "0199-a", "label": "7", "confidence": 0.99871}),
        Record("b", b'{"label":"7", "id":"b", "list": [1, {"x": null}]}'),
        encode_record({"id": 'ä"\\\n七', "label": "\u2028\x00 '; FLUSHALL"}),
        Record("", b'{"label":"7"}'),
        Record("", b"{}"),
    ]

    queue.put(records)

    assert queue.take(10, timeout=5).records == records


def test_in_order(engine: QueueUnderTest) -> None:
    """Records come out in the order in which they were put, over several puts and takes."""
    queue = engine.open()
    for start in range(0, 100, 20):
        queue.put(numbered(20, start))

    assert drained(queue) == [str(n) for n in range(100)]


def test_nothing_is_fine(engine: QueueUnderTest) -> None:
    """A put of nothing puts nothing."""
    queue = engine.open()

    queue.put([])
    queue.flush()

    assert not queue.take(10, timeout=0)


def test_many_at_once(engine: QueueUnderTest) -> None:
    """One put takes thousands of records, and all of them come out."""
    queue = engine.open()

    queue.put(numbered(5000))

    assert drained(queue) == [str(n) for n in range(5000)]


def test_a_long_record(engine: QueueUnderTest) -> None:
    """A record of almost a mebibyte is put and taken."""
    queue = engine.open()
    long = encode_record({"id": "long", "text": "x" * ((1 << 20) - 300)})

    queue.put([*numbered(1), long, *numbered(1, 1)])

    assert queue.take(10, timeout=5).records == [*numbered(1), long, *numbered(1, 1)]


def test_durable_on_return(engine: QueueUnderTest) -> None:
    """What a put returned for is there for whoever opens the queue afterwards."""
    first = engine.open()
    first.put(numbered(300))
    first.close()

    assert drained(engine.open()) == [str(n) for n in range(300)]


def test_a_bad_record_stores_nothing(engine: QueueUnderTest) -> None:
    """A record that is refused stores nothing of its put, and says which one it is."""
    queue = engine.open()

    for bad in (b"", b"[]", b'{"a":\n1}', b' {"a":1}', b'{"a":1', b'{"a":"' + b"x" * (1 << 20)):
        with pytest.raises(QueueRecordError, match="record 2 of the put"):
            queue.put([*numbered(2), Record("bad", bad), *numbered(1, 2)])
    with pytest.raises(QueueRecordError):
        queue.put(numbered(1)[0])  # type: ignore[arg-type]

    queue.put(named("good"))
    assert drained(queue) == ["good"]


def test_puts_beside_each_other(engine: QueueUnderTest) -> None:
    """The records of a put stand together, whatever three others put at the same time."""
    queue = engine.open()

    def put(name: str) -> None:
        for number in range(10):
            queue.put(named(*(f"{name}-{number}-{n}" for n in range(5))))

    threads = [threading.Thread(target=put, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ids = drained(queue)
    assert len(ids) == 200
    puts = [ids[n : n + 5] for n in range(0, 200, 5)]
    assert all(len({each.rpartition("-")[0] for each in put}) == 1 for put in puts)
    for name in "abcd":
        own = [each for each in ids if each.startswith(name)]
        assert own == [f"{name}-{number}-{n}" for number in range(10) for n in range(5)]


def test_full(engine: QueueUnderTest) -> None:
    """A full queue lets a put wait for its timeout, then refuses it; nothing of it is stored."""
    queue = engine.open_small()
    stored = 0
    began = time.monotonic()
    with pytest.raises(QueueFullError, match=r"(?i)full"):
        for _ in range(SMALL):
            queue.put(numbered(8, stored), timeout=0.2)
            stored += 8
    assert time.monotonic() - began >= 0.2

    assert stored
    assert drained(queue) == [str(n) for n in range(stored)]


def test_full_and_drained_again(engine: QueueUnderTest) -> None:
    """A put that waits for room goes on once there is some; what was refused is put again."""
    queue = engine.open_small()
    stored = 0
    with pytest.raises(QueueFullError):
        for _ in range(SMALL):
            queue.put(numbered(8, stored), timeout=0)
            stored += 8
    waiting = threading.Thread(target=queue.put, args=(numbered(8, stored), 60.0))
    waiting.start()

    ids: list[str] = []
    while len(ids) < stored + 8:
        batch = queue.take(100, timeout=20)
        assert batch
        ids += ids_of(batch)
        queue.commit(batch)
    waiting.join()

    assert first_of_each(ids) == [str(n) for n in range(stored + 8)]


def test_what_never_fits(engine: QueueUnderTest) -> None:
    """A put that can never fit is refused at once, without a timeout as well."""
    queue = engine.open_small()

    with pytest.raises(QueueFullError, match="never fit"):
        queue.put(numbered(20 * SMALL))

    assert not queue.take(10, timeout=0)
