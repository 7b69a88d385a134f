"""A producer or consumer in a process of its own.

    python -m tests.queue_conformance.worker PLACE put NAME     puts for ever, `NAME-0`, …
    python -m tests.queue_conformance.worker PLACE take         takes once, commits when told to
    python -m tests.queue_conformance.worker PLACE drain        takes and commits until told to end

`put` prints the number of records that are acknowledged after each put, and goes on after errors
that pass. `take` prints the ids that it took, waits for a line, commits, prints "committed" and
waits for its end. `drain` prints "ready", and the ids of each batch before it is committed.
"""

from __future__ import annotations

import sys
import threading
import time

from Queue import QueuePassingError, ResultQueue, open_queue
from tests.queue_conformance.stories import ids_of, named

BATCH = 16
SECONDS = 60.0


def main() -> None:
    """Do what the arguments say."""
    place, task, *arguments = sys.argv[1:]
    with opened(place) as queue:
        if task == "put":
            put(queue, arguments[0])
        elif task == "take":
            take(queue)
        else:
            drain(queue)


def opened(place: str) -> ResultQueue:
    """Open the queue, which may be away for now."""
    while True:
        try:
            return open_queue(place)
        except QueuePassingError:
            time.sleep(0.05)


def put(queue: ResultQueue, name: str) -> None:
    """Put until killed."""
    number = 0
    while True:
        records = named(*(f"{name}-{number + n}" for n in range(BATCH)))
        try:
            queue.put(records, timeout=1.0)
        except QueuePassingError:
            time.sleep(0.05)
            continue
        number += BATCH
        print(number, flush=True)


def take(queue: ResultQueue) -> None:
    """Take a batch and commit it when told to."""
    batch = queue.take(4, timeout=SECONDS)
    print(*ids_of(batch), flush=True)
    sys.stdin.readline()
    queue.commit(batch)
    print("committed", flush=True)
    sys.stdin.readline()


def drain(queue: ResultQueue) -> None:
    """Take and commit until told to end."""
    end = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), end.set()), daemon=True).start()
    print("ready", flush=True)
    while not end.is_set():
        try:
            if batch := queue.take(7, timeout=0.2):
                print(*ids_of(batch), flush=True)
                queue.commit(batch)
        except QueuePassingError:
            time.sleep(0.05)


if __name__ == "__main__":
    main()
