"""The queue against a bare loop of encode + write + fdatasync, persist-queue and litequeue.

    python -m benchmarks.queue              all of it, about a minute
    python -m benchmarks.queue --rounds 9   more repetitions

Records are inference events of about 300 bytes, encoded with orjson by all. What is compared takes
turns call by call in folders of the same disk, and the rate is the records of a call by its median
time: so the ratios hold on a machine that others use as well. Threads take turns in short runs.
persist-queue is its SQLite queue (its file queue is never synced); litequeue is SQLite too, here
with a lock around its one connection. Both run at `synchronous=FULL`: a put is durable, as ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.path[0] == str(Path(__file__).resolve().parent):
    # Run by its path: this file must not be taken for the standard library's `queue`.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson

from benchmarks.percentiles import percentile
from Queue import FileQueue, ResultQueue, encode_record, open_queue

RESULTS = Path(__file__).resolve().parent / "results" / "queue.json"

RECORD = {
    "id": "0199a5b2-7c1f-7e3a-9d3e-0a1b2c3d4e5f",
    "label": "7",
    "class_index": 7,
    "confidence": 0.99871,
    "model": "mnist_cnn_model@3f2a9c1d0b77",
    "source": "mnist-test/0",
    "expected_label": "7",
    "published_at": "2026-01-01T12:00:00.123Z",
    "received_at": "2026-01-01T12:00:00.223Z",
    "predicted_at": "2026-01-01T12:00:00.323Z",
}

GROUP_SIZES = (1, 16, 256, 1024)
THREADS = 8


@contextmanager
def folder() -> Any:
    path = Path(tempfile.mkdtemp(prefix="queue-benchmark-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Call each in turn, `rounds` times; return the seconds of every call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


class Bare:
    """The least that a durable put can be."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path / "bare.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def put(self, records: list[dict[str, Any]]) -> None:
        os.write(self.fd, b"\n".join([orjson.dumps(record) for record in records]) + b"\n")
        os.fdatasync(self.fd)


class BareGroup(Bare):
    """The least that durable puts of many threads can be: the last that comes writes for all.

    It knows how many come, and knows no other process, no damage, no deadline and no signal.
    """

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path)
        self.threads = threads
        self.mutex = threading.Lock()
        self.group: list[tuple[dict[str, Any], threading.Lock]] = []

    def put(self, records: list[dict[str, Any]]) -> None:
        written = threading.Lock()
        written.acquire()
        with self.mutex:
            self.group.append((records[0], written))
            if len(self.group) == self.threads:
                super().put([record for record, _ in self.group])
                for _, each in self.group:
                    each.release()
                self.group = []
        written.acquire()


class Lite:
    def __init__(self, path: Path) -> None:
        from litequeue import LiteQueue

        self.queue = LiteQueue(str(path / "lite.db"))
        self.queue.conn.execute("PRAGMA synchronous=FULL")
        self.lock = threading.Lock()

    def put(self, records: list[dict[str, Any]]) -> None:
        texts = [orjson.dumps(record).decode() for record in records]
        with self.lock:
            if len(texts) == 1:
                self.queue.put(texts[0])
                return
            with self.queue.transaction():
                for text in texts:
                    self.queue.put(text)


class _Serializer:
    """orjson for persist-queue, which pickles by default."""

    @staticmethod
    def dumps(value: Any, *_: Any, **__: Any) -> bytes:
        return orjson.dumps(value)

    @staticmethod
    def loads(value: bytes) -> Any:
        return orjson.loads(value)


class Persist:
    def __init__(self, path: Path, grouped: bool) -> None:
        import persistqueue

        self.queue = persistqueue.SQLiteQueue(
            str(path / f"persist-{grouped}"),
            auto_commit=not grouped,
            multithreading=True,
            serializer=_Serializer,
        )
        self.queue._putter.execute("PRAGMA synchronous=FULL")
        self.grouped = grouped

    def put(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self.queue.put(record)
        if self.grouped:
            self.queue.task_done()  # commits


def put_encoded(queue: ResultQueue, records: list[dict[str, Any]]) -> None:
    """Encode, as all the others do, and put."""
    queue.put([encode_record(record) for record in records])


# --- one durable call after the other ---


def measure_groups(results: dict[str, Any], rounds: int) -> None:
    for group in GROUP_SIZES:
        with folder() as path, FileQueue(path / "log.txt") as queue:
            records = [RECORD] * group
            calls: dict[str, Callable[[], object]] = {
                "bare_loop": partial(Bare(path).put, records),
                "put": partial(put_encoded, queue, records),
            }
            if group == 256:
                calls["litequeue"] = partial(Lite(path).put, records)
                calls["persist_queue"] = partial(Persist(path, grouped=True).put, records)
            seconds = in_turns(calls, rounds * 50)
        rates = {name: group / statistics.median(times) for name, times in seconds.items()}
        for name, rate in rates.items():
            results[f"groups_of_{group}_per_s_{name}"] = round(rate)
        results[f"groups_of_{group}_ratio_to_bare"] = round(rates["put"] / rates["bare_loop"], 3)
        if group == 1:
            for name, times in seconds.items():
                results[f"single_ms_p50_{name}"] = round(percentile(times, 0.5) * 1000, 3)
        if group == 256:
            faster = max(rates["litequeue"], rates["persist_queue"])
            results["groups_of_256_times_the_faster_peer"] = round(rates["put"] / faster, 2)


def measure_take_and_commit(results: dict[str, Any], rounds: int) -> None:
    batches = rounds * 50
    with folder() as path:
        with FileQueue(path / "log.txt", fsync="never") as queue:
            for _ in range(batches):
                put_encoded(queue, [RECORD] * 256)
        with FileQueue(path / "log.txt") as queue:
            queue.commit(queue.take(1, timeout=0))

            def take_and_commit() -> None:
                queue.commit(queue.take(256, timeout=0))

            seconds = in_turns({"take": take_and_commit}, batches - 1)["take"]
    results["take_and_commit_per_s_batches_of_256"] = round(256 / statistics.median(seconds))


# --- one record a durable call, from eight threads ---


def from_threads(put: Callable[[list[dict[str, Any]]], object], calls: int) -> float:
    def work() -> None:
        for _ in range(calls):
            put([RECORD])

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return THREADS * calls / (time.perf_counter() - begin)


def measure_threads(results: dict[str, Any], rounds: int) -> None:
    with folder() as path, FileQueue(path / "log.txt") as queue:
        # So many calls a thread that each runs for about as long.
        contenders = {
            "bare_group": (BareGroup(path, THREADS).put, 600),
            "put": (partial(put_encoded, queue), 600),
            "litequeue": (Lite(path).put, 120),
            "persist_queue": (Persist(path, grouped=False).put, 120),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds * 3):
            for name, (put, calls) in contenders.items():
                rates[name].append(from_threads(put, calls))
    medians = {name: statistics.median(seen) for name, seen in rates.items()}
    for name, rate in medians.items():
        results[f"eight_threads_per_s_{name}"] = round(rate)
    faster = max(medians["litequeue"], medians["persist_queue"])
    results["eight_threads_times_the_faster_peer"] = round(medians["put"] / faster, 2)
    results["eight_threads_times_the_faster_peer_bare_group"] = round(
        medians["bare_group"] / faster, 2
    )


# --- from a put to a take that waits in another process ---


def _report_arrivals(where: str, count: int, pipe: Any) -> None:
    with open_queue(where) as queue:
        queue.take(1, timeout=0)
        pipe.send("ready")
        arrivals = []
        while len(arrivals) < count:
            batch = queue.take(256, timeout=10)
            now = time.monotonic_ns()
            arrivals += [
                (now - orjson.loads(record.body)["put_at"]) / 1e6 for record in batch.records
            ]
            queue.commit(batch)
        begin = time.process_time()
        queue.take(1, timeout=5)
        pipe.send((arrivals, (time.process_time() - begin) / 5))


def wake_ups(where: str, count: int) -> tuple[list[float], float]:
    """Return the ms from a put's begin to its arrival, and an idle consumer's share of a core."""
    with open_queue(where) as queue:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        consumer = multiprocessing.get_context("spawn").Process(
            target=_report_arrivals, args=(where, count, theirs)
        )
        consumer.start()
        ours.recv()
        for _ in range(count):
            time.sleep(0.003)
            put_encoded(queue, [{**RECORD, "put_at": time.monotonic_ns()}])
        result = ours.recv()
        consumer.join()
        return result  # type: ignore[no-any-return]


def measure_wake_ups(results: dict[str, Any], rounds: int) -> None:
    with folder() as path:
        arrivals, idle = wake_ups(str(path / "log.txt"), rounds * 200)
    results["put_to_take_ms_p50"] = round(percentile(arrivals, 0.5), 3)
    results["put_to_take_ms_p99"] = round(percentile(arrivals, 0.99), 3)
    results["idle_consumer_share_of_a_core"] = round(idle, 5)


def measure(rounds: int) -> dict[str, Any]:
    results: dict[str, Any] = {"record_bytes": len(orjson.dumps(RECORD)), "rounds": rounds}
    measure_groups(results, rounds)
    measure_take_and_commit(results, rounds)
    measure_threads(results, rounds)
    measure_wake_ups(results, rounds)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = measure(options.rounds)
    for name, value in results.items():
        print(f"{name:55} {value:>14,}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
