"""The engines behind the queue side by side: the text file, a real Redis with one and with many.

    python -m benchmarks.queue_engines                about a minute

Batches of 256 results of about 300 bytes, durable when `put` and `commit` return. The engines take
turns call by call; a ratio is the median of the ratios of neighbours, so compare those. The server
runs on the same machine: its work and the client's share the cores. Redis syncs with each answer
(`appendfsync always`); `REDIS_SERVER` names another server, Valkey for example.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.path[0] == str(Path(__file__).resolve().parent):
    # Run by its path: `queue` beside it must not be taken for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uuid_utils

from benchmarks.queue import RECORD, folder, in_turns, percentile, wake_ups
from Queue import Record, ResultQueue, encode_record, open_queue
from tests.engines.redis_server import RedisServer

RESULTS = Path(__file__).resolve().parent / "results" / "queue_engines.json"
BATCH = 256
# Records for the memory that one takes.
HELD = 100_000


def records(count: int) -> list[Record]:
    return [encode_record({**RECORD, "id": str(uuid_utils.uuid7())}) for _ in range(count)]


@contextmanager
def engines() -> Iterator[tuple[dict[str, str], RedisServer]]:
    """Start the server; return where each engine's queue is."""
    with ExitStack() as stack:
        path = stack.enter_context(folder())
        server = stack.enter_context(RedisServer())
        places = {
            "text": str(path / "log.txt"),
            "redis_one": server.url("one", consumers="one"),
            "redis_many": server.url("many", consumers="many"),
        }
        yield places, server


def compare(results: dict[str, Any], what: str, seconds: dict[str, list[float]]) -> None:
    """Note rates, and the ratios to the text file of the same turn."""
    for name, times in seconds.items():
        results[f"{what}_per_s_{name}"] = BATCH / statistics.median(times)
        if name != "text":
            ratios = [text / mine for mine, text in zip(times, seconds["text"], strict=True)]
            results[f"{what}_to_text_{name}"] = statistics.median(ratios)


def measure_calls(results: dict[str, Any], places: dict[str, str], rounds: int) -> None:
    batch = records(BATCH)
    turns = rounds * 50
    with ExitStack() as stack:
        queues = {name: stack.enter_context(open_queue(where)) for name, where in places.items()}

        def put(queue: ResultQueue) -> Callable[[], object]:
            return lambda: queue.put(batch)

        def take(queue: ResultQueue) -> Callable[[], object]:
            return lambda: queue.commit(queue.take(BATCH, timeout=10))

        in_turns({name: put(queue) for name, queue in queues.items()}, 5)  # warm
        compare(results, "put", in_turns({n: put(queue) for n, queue in queues.items()}, turns))
        for name, queue in queues.items():
            begin = time.process_time()
            for _ in range(20):
                queue.put(batch)
            cpu = time.process_time() - begin
            results[f"put_client_us_a_record_{name}"] = cpu / (20 * BATCH) * 1e6
        in_turns({name: take(queue) for name, queue in queues.items()}, 5)
        found = in_turns({name: take(queue) for name, queue in queues.items()}, turns)
        compare(results, "take_and_commit", found)


def measure_the_server(results: dict[str, Any], server: RedisServer, turns: int) -> None:
    """Note what the server itself has of CPU for a record: put, and taken and committed."""
    for consumers in ("one", "many"):
        with open_queue(server.url(f"cost_{consumers}", consumers=consumers)) as queue:
            given = [records(BATCH) for _ in range(turns)]
            queue.put(given[0])
            queue.commit(queue.take(BATCH, timeout=10))
            before = server.cpu_seconds()
            for batch in given:
                queue.put(batch)
            between = server.cpu_seconds()
            for _ in given:
                queue.commit(queue.take(BATCH, timeout=10))
            count = turns * BATCH
            results[f"redis_server_put_us_a_record_{consumers}"] = (between - before) / count * 1e6
            taking = server.cpu_seconds() - between
            results[f"redis_server_take_us_a_record_{consumers}"] = taking / count * 1e6


def measure_wake_ups(results: dict[str, Any], places: dict[str, str], rounds: int) -> None:
    for name, where in places.items():
        fresh = where.replace("log.txt", "wake.txt").replace("stream=", "stream=wake_")
        arrivals, idle = wake_ups(fresh, rounds * 200)
        results[f"put_to_take_ms_p50_{name}"] = percentile(arrivals, 0.5)
        results[f"put_to_take_ms_p99_{name}"] = percentile(arrivals, 0.99)
        results[f"idle_share_of_a_core_{name}"] = idle
    for name in places:
        if name != "text":
            results[f"put_to_take_p99_to_text_{name}"] = (
                results[f"put_to_take_ms_p99_{name}"] / results["put_to_take_ms_p99_text"]
            )


def measure_memory(results: dict[str, Any], server: RedisServer) -> None:
    def resident() -> int:
        return int(server.ask("INFO", "memory")["used_memory"])

    with open_queue(server.url("held")) as queue:
        before = resident()
        for _ in range(HELD // 1000):
            queue.put(records(1000))
        results["redis_bytes_a_record"] = (resident() - before) / HELD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with engines() as (places, server):
        measure_calls(results, places, options.rounds)
        measure_the_server(results, server, options.rounds * 40)
        measure_wake_ups(results, places, options.rounds)
        measure_memory(results, server)
    for name, value in results.items():
        shown = f"{value:,.0f}" if value > 100 else f"{value:.3f}"
        print(f"{name:50} {shown:>16}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
