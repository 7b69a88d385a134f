"""Several threads and processes at one queue: who puts, who takes, who stands by."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from Queue import (
    QueueClosedError,
    QueueFullError,
)
from tests.queue.of_dicts import FileQueue
from tests.queue.stories import drain, records


@pytest.fixture
def path(tmp_path):
    return tmp_path / "q" / "log.txt"


SPAWN = multiprocessing.get_context("spawn")


def test_a_put_that_waits_for_room_goes_on_once_a_consumer_has_caught_up(path):
    with FileQueue(path, max_bytes=4000) as queue:
        stored = 0
        try:
            while True:
                queue.put(records(stored, 10), timeout=0)
                stored += 10
        except QueueFullError:
            pass
        waiter = threading.Thread(target=queue.put, args=(records(stored, 10),))
        waiter.start()
        taken = []
        while len(taken) < stored + 10:
            batch = queue.take(10, timeout=5)
            taken += batch.records
            queue.commit(batch)
        waiter.join(5)
        assert not waiter.is_alive()
        assert taken == records(0, stored + 10)


def test_eight_threads_put_and_every_thread_keeps_its_order(path):
    with FileQueue(path, segment_bytes=4000) as queue:

        def work(name):
            for number in range(50):
                queue.put([{"thread": name, "number": number}])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = drain(queue)
    assert len(taken) == 400
    for name in range(8):
        assert [r["number"] for r in taken if r["thread"] == name] == list(range(50))


def _produce(path, name, count):
    with FileQueue(path, segment_bytes=3000) as queue:
        for number in range(count):
            queue.put([{"producer": name, "number": number}])


def test_three_processes_put_while_a_fourth_consumes(path):
    producers = [SPAWN.Process(target=_produce, args=(path, name, 100)) for name in range(3)]
    for producer in producers:
        producer.start()
    taken = []
    with FileQueue(path, segment_bytes=3000) as queue:
        while len(taken) < 300:
            batch = queue.take(50, timeout=30)
            assert batch
            assert batch.corrupt == []
            taken += batch.records
            queue.commit(batch)
    for producer in producers:
        producer.join(10)
        assert producer.exitcode == 0
    for name in range(3):
        assert [r["number"] for r in taken if r["producer"] == name] == list(range(100))


def test_a_second_consumer_stands_by_and_takes_over_when_the_first_is_gone(path):
    first, second = FileQueue(path), FileQueue(path)
    first.put(records(0, 4))
    first.commit(first.take(2, 0))
    assert not second.take(2, timeout=0.05)
    first.close()
    assert second.take(4, timeout=5).records == records(2, 2)
    second.close()


def test_a_standby_takes_over_when_the_active_consumer_is_killed(path):
    code = (
        "import sys; from tests.queue.of_dicts import FileQueue\n"
        f"queue = FileQueue({str(path)!r}); queue.put([{{'n': 1}}, {{'n': 2}}])\n"
        "queue.commit(queue.take(1, 5)); print('ready', flush=True); sys.stdin.read()"
    )
    active = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert active.stdout.readline() == b"ready\n"
    with FileQueue(path) as queue:
        assert not queue.take(1, timeout=0.1)
        active.kill()
        assert queue.take(10, timeout=5).records == [{"n": 2}]
    active.communicate()


def test_who_waits_for_whom_is_said_once(path, caplog):
    first, second = FileQueue(path), FileQueue(path)
    first.take(1, 0)
    for _ in range(3):
        second.take(1, timeout=0.03)
    lines = [r.getMessage() for r in caplog.records if "standing by" in r.getMessage()]
    assert len(lines) == 1
    assert f"process {os.getpid()} on" in lines[0]
    first.close()
    second.close()


def test_a_waiting_take_ends_when_the_queue_is_closed(path):
    queue = FileQueue(path)
    errors = []

    def wait():
        try:
            queue.take(1, timeout=30)
        except QueueClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    queue.close()
    thread.join(5)
    assert len(errors) == 1
    with pytest.raises(QueueClosedError):
        queue.put(records(0, 1))
    queue.close()


def test_a_signal_during_a_take_runs_its_handler_and_take_returns_at_its_timeout(path):
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        with FileQueue(path) as queue:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            assert not queue.take(1, timeout=0.2)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [1]


def test_a_take_keeps_its_timeout_while_another_thread_waits_longer(path):
    with FileQueue(path) as queue:
        patient = threading.Thread(target=queue.take, args=(1, 10))
        patient.start()
        begin = time.monotonic()
        assert not queue.take(1, timeout=0.05)
        assert time.monotonic() - begin < 5
        queue.put(records(0, 1))
        patient.join(10)
        assert not patient.is_alive()
