"""Several processes, and the end of one"""

from __future__ import annotations

import os
import threading

from Queue import QueueClosedError, QueueRecordError
from tests.queue_conformance.harness import LEASE_SECONDS, QueueUnderTest
from tests.queue_conformance.stories import (
    drained,
    first_of_each,
    ids_of,
    named,
    numbered,
    take_until,
)
from tests.waiting import wait_until


def test_a_second_consumer(engine: QueueUnderTest) -> None:
    """A second consumer takes beside the first where that is promised, and else stands by."""
    first, second = engine.open(), engine.open()
    first.put(numbered(4))

    assert ids_of(first.take(2, timeout=5)) == ["0", "1"]
    batch = second.take(2, timeout=0.5)

    assert first.active
    assert second.active == second.shared == first.shared
    assert ids_of(batch) == (["2", "3"] if second.shared else [])


def test_the_next_one_goes_on_at_once(engine: QueueUnderTest) -> None:
    """A consumer that is closed lets the next one go on at once, with what it had not committed."""
    first, second = engine.open(), engine.open()
    first.put(numbered(4))
    first.take(4, timeout=5)
    second.take(1, timeout=0)
    threading.Timer(0.2, first.close).start()

    assert sorted(take_until(second, {"0", "1", "2", "3"})) == ["0", "1", "2", "3"]


def test_a_killed_consumer(engine: QueueUnderTest) -> None:
    """What a consumer had taken when it was killed goes to another one; nothing is lost."""
    queue = engine.open()
    queue.put(numbered(12))
    worker = engine.worker("take")
    assert worker.ids() == ["0", "1", "2", "3"]

    worker.kill()

    ids = take_until(queue, {str(n) for n in range(12)})
    if not queue.shared:
        assert ids == [str(n) for n in range(12)]


def test_a_consumer_that_hangs(engine: QueueUnderTest) -> None:
    """What a hung consumer took is lost for nobody; that it commits late changes nothing."""
    queue = engine.open()
    queue.put(numbered(4))
    worker = engine.worker("take")
    assert worker.ids() == ["0", "1", "2", "3"]
    worker.suspend()

    try:
        if engine.superseded:
            batch = queue.take(2, timeout=20 * LEASE_SECONDS)
            assert ids_of(batch) == ["0", "1"]
            rest = queue.take(2, timeout=5)
    finally:
        worker.resume()
    worker.tell()
    assert worker.lines(1) == ["committed"]

    if engine.superseded:
        queue.commit(batch)
        queue.commit(rest)
    worker.kill()
    queue.put(numbered(1, 4))
    assert take_until(queue, {"4"}) == ["4"]


def test_a_publish_that_lasts(engine: QueueUnderTest) -> None:
    """A consumer that works for long, and lives, keeps what it took."""
    first, second = engine.open(), engine.open()
    first.put(numbered(3))
    batch = first.take(3, timeout=5)

    assert not second.take(3, timeout=1.5 * LEASE_SECONDS if engine.superseded else 0.2)

    first.commit(batch)
    assert engine.reader().status().depth == 0


def test_a_killed_producer(engine: QueueUnderTest) -> None:
    """What a producer was told is put survives kill -9 in the middle of a put, in whole puts."""
    queue = engine.open()
    for number in range(2):
        worker = engine.worker("put", f"p{number}")
        said = worker.lines(4)
        said += worker.kill()

        ids = drained(queue)
        assert len(ids) >= int(said[-1])
        assert ids == [f"p{number}-{n}" for n in range(len(ids))]


def test_a_killed_engine(engine: QueueUnderTest) -> None:
    """What a producer was told is put survives kill -9 of whatever does the writing."""
    engine.open().close()
    for number in range(2):
        worker = engine.worker("put", f"e{number}")
        said = worker.lines(4)
        said += engine.kill_engine(worker)

        ids = first_of_each(drained(engine.open()))
        assert ids[: int(said[-1])] == [f"e{number}-{n}" for n in range(int(said[-1]))]
        engine.end_test()


def test_several_producers(engine: QueueUnderTest) -> None:
    """Each record of four producers comes once, those of one producer in their order."""
    queue = engine.open()
    workers = [engine.worker("put", f"w{number}") for number in range(4)]
    said = [worker.lines(6) for worker in workers]
    for lines, worker in zip(said, workers, strict=True):
        lines += worker.kill()

    ids = drained(queue)

    assert len(ids) == len(set(ids))
    for number, lines in enumerate(said):
        own = [each for each in ids if each.startswith(f"w{number}-")]
        assert own == [f"w{number}-{n}" for n in range(len(own))]
        assert len(own) >= int(lines[-1])


def test_several_consumers(engine: QueueUnderTest) -> None:
    """Whoever takes, each record goes out; of two that both live, each once."""
    queue = engine.open()
    workers = [engine.worker("drain") for _ in range(2)]
    for worker in workers:
        assert worker.lines(1) == ["ready"]
    for start in range(0, 140, 7):
        queue.put(numbered(7, start))
    reader = engine.reader()
    wait_until(lambda: reader.status().depth == 0, "all is taken")

    ids = " ".join(line for worker in workers for line in worker.finish()).split()

    assert sorted(ids, key=int) == [str(n) for n in range(140)]


def test_threads(engine: QueueUnderTest) -> None:
    """Any thread may put, take, commit and look at any time."""
    queue = engine.open()
    found: list[str] = []

    def put(start: int) -> None:
        for n in range(start, start + 50, 10):
            queue.put(numbered(10, n))
            queue.status()

    def take() -> None:
        while len(found) < 200:
            batch = queue.take(16, timeout=0.2)
            found.extend(ids_of(batch))
            queue.commit(batch)

    threads = [threading.Thread(target=put, args=(start,)) for start in (0, 50, 100, 150)]
    threads.append(threading.Thread(target=take))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(found, key=int) == [str(n) for n in range(200)]


def test_forked(engine: QueueUnderTest) -> None:
    """In a child made by fork a queue refuses to work, and its parent's goes on."""
    queue = engine.open()
    queue.put(numbered(2))
    queue.take(1, timeout=5)
    child = os.fork()
    if not child:
        try:
            queue.put(named("child"))
        except QueueClosedError:
            queue.close()
            os._exit(0)
        except QueueRecordError:
            os._exit(2)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ids_of(queue.take(5, timeout=5)) == ["1"]
