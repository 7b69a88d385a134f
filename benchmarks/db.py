"""The DB at a million rows and, if asked, at ten million: inserts, memory, reopening, summary.

    python -m benchmarks.db                      a million rows, about a minute
    python -m benchmarks.db --rows 10000000      ten million, needs about 6 GB of disk

Results of about 300 bytes with UUIDv7 ids go in in durable batches of 256. Only the inserts are
timed, not the making of the results. Beside it: an SQLite table with the id as its primary key, at
`synchronous=FULL`, and a bare loop of encode + write + fdatasync.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import uuid_utils

from DB.text.database import TextDatabase
from DB.text.reader import TextReader

RESULTS = Path(__file__).resolve().parent / "results" / "db.json"
BATCH = 256
# Batches that are timed together: the index writes once in each, so its share is in every rate.
STRETCH = 64
# Rates are the median of the last six stretches, about 100,000 rows.
WINDOW_ROWS = 6 * STRETCH * BATCH

FIELDS = {
    "class_index": 7,
    "confidence": 0.99871,
    "model": "mnist_cnn_model@3f2a9c1d0b77",
    "source": "mnist-test/0",
    "expected_label": "7",
    "published_at": "2026-01-01T12:00:00.123Z",
    "received_at": "2026-01-01T12:00:00.223Z",
    "predicted_at": "2026-01-01T12:00:00.323Z",
}


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="db-benchmark-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def new_results(count: int, new_id: Callable[[], object]) -> list[dict[str, Any]]:
    return [{"id": str(new_id()), "label": "7", **FIELDS} for _ in range(count)]


def insert_rate(
    insert: Callable[[list[dict[str, Any]]], object], rows: int, new_id: Callable[[], object]
) -> float:
    """Return the rows per second, in batches, without the time to make them: the median stretch."""
    rates = []
    for _ in range(-(-rows // (BATCH * STRETCH))):
        seconds = 0.0
        for _ in range(STRETCH):
            batch = new_results(BATCH, new_id)
            begin = time.perf_counter()
            insert(batch)
            seconds += time.perf_counter() - begin
        rates.append(BATCH * STRETCH / seconds)
    return statistics.median(rates)


def grow(db: TextDatabase, rows: int, marks: list[int]) -> dict[str, Any]:
    """Insert rows; return the rate at each mark and the highest resident memory."""
    figures: dict[str, Any] = {}
    process, highest, stored = psutil.Process(), 0, 0
    while stored < rows:
        rate = insert_rate(db.insert, WINDOW_ROWS, uuid_utils.uuid7)
        stored += WINDOW_ROWS
        highest = max(highest, process.memory_info().rss)
        for mark in [mark for mark in marks if mark <= stored]:
            marks.remove(mark)
            figures[f"insert_per_s_at_{mark}_rows"] = round(rate)
            print(f"{stored:,} rows: {rate:,.0f}/s, {highest >> 20} MiB resident", flush=True)
    figures["resident_mib_highest"] = highest >> 20
    return figures


def sqlite_rate(path: Path, rows: int) -> float:
    connection = sqlite3.connect(path / "table.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE results (id TEXT PRIMARY KEY, result BLOB)")

    def insert(batch: list[dict[str, Any]]) -> None:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT OR IGNORE INTO results VALUES (?, ?)",
            [(result["id"], orjson.dumps(result)) for result in batch],
        )
        connection.execute("COMMIT")

    rate = insert_rate(insert, rows, uuid_utils.uuid7)
    connection.close()
    return rate


def bare_rate(path: Path, rows: int) -> float:
    fd = os.open(path / "bare.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def insert(batch: list[dict[str, Any]]) -> None:
        os.write(fd, b"\n".join([orjson.dumps(result) for result in batch]) + b"\n")
        os.fdatasync(fd)

    rate = insert_rate(insert, rows, uuid_utils.uuid7)
    os.close(fd)
    return rate


def duplicate_rate(db: TextDatabase, rounds: int) -> float:
    batch = new_results(BATCH, uuid_utils.uuid7)
    db.insert(batch)
    begin = time.perf_counter()
    for _ in range(rounds):
        assert db.insert(batch).duplicates == BATCH
    return BATCH * rounds / (time.perf_counter() - begin)


def reopen(path: Path) -> float:
    begin = time.perf_counter()
    TextDatabase(path).close()
    return time.perf_counter() - begin


def measure(rows: int) -> dict[str, Any]:
    results: dict[str, Any] = {"rows": rows, "batch": BATCH}
    with folder() as path:
        bare, table = [], []
        for number in range(3):
            (path / str(number)).mkdir()
            bare.append(bare_rate(path / str(number), 50_000))
            table.append(sqlite_rate(path / str(number), 50_000))
        results["bare_loop_per_s"] = round(statistics.median(bare))
        results["sqlite_table_per_s"] = round(statistics.median(table))
        marks = [mark for mark in (100_000, 1_000_000, 3_000_000, 10_000_000) if mark <= rows]
        text = path / "db.txt"
        with TextDatabase(text) as db:
            results |= grow(db, rows, marks)
            results["duplicates_per_s"] = round(duplicate_rate(db, 100))
            random_ids = insert_rate(db.insert, 50_000, _random_id)
            results[f"insert_per_s_random_ids_at_{rows}_rows"] = round(random_ids)
            results["resident_mib_highest"] = max(
                results["resident_mib_highest"], psutil.Process().memory_info().rss >> 20
            )
        results["reopen_s"] = round(statistics.median(reopen(text) for _ in range(3)), 4)
        results["text_bytes"] = text.stat().st_size
        results["index_bytes_a_row"] = round((path / "db.index").stat().st_size / rows, 1)
        begin = time.perf_counter()
        summary = TextReader(text).summary()
        results["summary_rows_per_s"] = round(summary.rows / (time.perf_counter() - begin))
        (path / "db.index").unlink()
        results["reopen_without_an_index_s"] = round(reopen(text), 2)
    return results


def _random_id() -> str:
    return f"{random.getrandbits(128):032x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    results = measure(options.rows)
    for name, value in results.items():
        print(f"{name:50} {value:>16,}")
    RESULTS.parent.mkdir(exist_ok=True)
    name = RESULTS if options.rows <= 1_000_000 else RESULTS.with_stem(f"db_{options.rows}_rows")
    name.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
