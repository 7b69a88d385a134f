"""The engines behind the DB side by side: the text file, SQLite, a real PostgreSQL.

    python -m benchmarks.db_engines                    about three minutes
    python -m benchmarks.db_engines --rows 1000000     the size of the large table

Batches of 256 results with UUIDv7 ids, durable when `insert` returns. The engines take turns, in
another order each round, and the figures are medians of the rounds; so compare the ratios. The
server runs on the same machine: its work and the client's share the cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uuid_utils

from benchmarks.db import BATCH, folder, new_results
from DB import ResultDatabase, open_database
from tests.engines.postgres_server import PostgresServer

RESULTS = Path(__file__).resolve().parent / "results" / "db_engines.json"
BATCHES = 150
WARM_UP = 10
# The engines take turns after so many batches; so often in a round.
STRETCH = 10
STRETCHES = 10
# A table is filled quickly: durability of what fills it does not matter here.
FILL_BATCH = 2048

Place = Callable[[str], str]
Batches = list[list[dict[str, Any]]]


def batches(count: int = BATCHES) -> Batches:
    return [new_results(BATCH, uuid_utils.uuid7) for _ in range(count)]


def timed(db: ResultDatabase, given: Batches) -> tuple[float, float]:
    """Return rows per second, and µs of CPU a row in this process."""
    cpu, begin = time.process_time(), time.perf_counter()
    for batch in given:
        db.insert(batch)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    rows = sum(map(len, given))
    return rows / seconds, cpu / rows * 1e6


def write(where: str, gate: Any, rates: Any) -> None:
    """Insert in a process of its own, beside others."""
    with open_database(where) as db:
        given = batches()
        timed(db, batches(WARM_UP))
        gate.wait(120)
        begin = time.perf_counter()
        timed(db, given)
        rates.put((begin, time.perf_counter()))


def writers(where: str, count: int) -> float:
    """Return the rows per second of several processes together."""
    context = multiprocessing.get_context("spawn")
    gate, times = context.Barrier(count), context.Queue()
    processes = [context.Process(target=write, args=(where, gate, times)) for _ in range(count)]
    for process in processes:
        process.start()
    spans = [times.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return count * BATCHES * BATCH / seconds


@contextmanager
def engines() -> Iterator[tuple[dict[str, Place], PostgresServer]]:
    with ExitStack() as stack:
        path = stack.enter_context(folder())
        server = stack.enter_context(PostgresServer(shared_buffers="256MB"))
        places: dict[str, Place] = {
            "text": lambda name: str(path / f"{name}.txt"),
            "sqlite": lambda name: f"sqlite:///{path}/{name}.db",
            "postgres": lambda name: server.url(table=name),
        }
        yield places, server


def side_by_side(places: dict[str, Place], rounds: int) -> dict[str, Any]:
    """Let the engines take turns, a stretch each, with new results and then the same again."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds):
        with ExitStack() as stack:
            dbs = {
                name: stack.enter_context(open_database(place(f"r{number}")))
                for name, place in places.items()
            }
            for db in dbs.values():
                timed(db, batches(STRETCH))
            for _ in range(STRETCHES):
                given = batches(STRETCH)
                for what in ("new", "duplicates"):
                    for name in random.sample(list(dbs), len(dbs)):
                        found.setdefault(f"{name}_{what}", []).append(timed(dbs[name], given))
    results = {}
    for name, figures in found.items():
        engine, _, what = name.partition("_")
        results[f"{name}_per_s"] = statistics.median(rate for rate, _ in figures)
        if what == "new":
            results[f"{engine}_client_us_a_row"] = statistics.median(cpu for _, cpu in figures)
        if engine != "text":
            pairs = zip(figures, found[f"text_{what}"], strict=True)
            ratios = [mine / text for (mine, _), (text, _) in pairs]
            results[f"{name}_to_text"] = statistics.median(ratios)
    return results


def side_by_side_writers(places: dict[str, Place], rounds: int) -> dict[str, Any]:
    """Compare two and four writers with one, where several may write."""
    results = {}
    for name in ("sqlite", "postgres"):
        rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
        for number in range(rounds):
            for count in random.sample(list(rates), len(rates)):
                rates[count].append(writers(places[name](f"w{number}_{count}"), count))
        for count in (2, 4):
            ratios = [many / one for many, one in zip(rates[count], rates[1], strict=True)]
            results[f"{name}_{count}_writers_to_1"] = statistics.median(ratios)
            results[f"{name}_{count}_writers_per_s"] = statistics.median(rates[count])
    return results


def large_table(place: Place, server: PostgresServer, rows: int, rounds: int) -> dict[str, Any]:
    """Compare a table of many rows with an empty one; and what a row takes of the server."""
    with open_database(place("large")) as large:
        for _ in range(rows // FILL_BATCH):
            large.insert(new_results(FILL_BATCH, uuid_utils.uuid7))
        size = int(str(server.run("SELECT pg_total_relation_size('large')")[0][0]))
        given, before = batches(STRETCH * STRETCHES), server.cpu_seconds()
        timed(large, given)
        cpu = server.cpu_seconds() - before
        ratios, at_rows = [], []
        with open_database(place("empty")) as empty:
            timed(empty, batches(STRETCH))
            timed(large, batches(STRETCH))
            for number in range(rounds * STRETCHES):
                pair = [large, empty] if number % 2 else [empty, large]
                rates = {db: timed(db, batches(STRETCH))[0] for db in pair}
                at_rows.append(rates[large])
                ratios.append(rates[large] / rates[empty])
    return {
        "postgres_server_us_a_row": cpu / (len(given) * BATCH) * 1e6,
        "postgres_bytes_a_row": size / (rows // FILL_BATCH * FILL_BATCH),
        f"postgres_new_per_s_at_{rows}_rows": statistics.median(at_rows),
        f"postgres_at_{rows}_rows_to_empty": statistics.median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with engines() as (places, server):
        results = side_by_side(places, options.rounds)
        results |= side_by_side_writers(places, options.rounds)
        results |= large_table(places["postgres"], server, options.rows, options.rounds)
    for name, value in results.items():
        shown = f"{value:,.0f}" if value > 100 else f"{value:.2f}"
        print(f"{name:50} {shown:>16}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
