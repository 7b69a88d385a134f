"""A writer in a process of its own.

    python -m tests.db_conformance.worker PLACE stream NAME     inserts for ever, `NAME-0`, …
    python -m tests.db_conformance.worker PLACE same SEED COUNT the ids 0 to COUNT, shuffled

`stream` prints the number of results that are acknowledged after each insert, and goes on after
errors that pass. `same` prints how many were new to the DB, then how many were duplicates.
"""

from __future__ import annotations

import random
import sys
import time

from DB import DatabasePassingError, ResultDatabase, open_database

BATCH = 64


def main() -> None:
    """Do what the arguments say."""
    place, task, *arguments = sys.argv[1:]
    with opened(place) as db:
        if task == "stream":
            stream(db, arguments[0])
        else:
            same(db, int(arguments[0]), int(arguments[1]))


def opened(place: str) -> ResultDatabase:
    """Open the DB, which may be away for now."""
    while True:
        try:
            return open_database(place)
        except DatabasePassingError:
            time.sleep(0.05)


def stream(db: ResultDatabase, name: str) -> None:
    """Insert until killed."""
    number = 0
    while True:
        results = [{"id": f"{name}-{number + n}", "label": "7"} for n in range(BATCH)]
        try:
            db.insert(results)
        except DatabasePassingError:
            time.sleep(0.05)
            continue
        number += BATCH
        print(number, flush=True)


def same(db: ResultDatabase, seed: int, count: int) -> None:
    """Insert what others insert as well."""
    ids = [str(n) for n in range(count)]
    random.Random(seed).shuffle(ids)
    inserted = duplicates = 0
    for start in range(0, count, BATCH):
        outcome = db.insert([{"id": each, "label": "7"} for each in ids[start : start + BATCH]])
        inserted += outcome.inserted
        duplicates += outcome.duplicates
    print(inserted, duplicates, flush=True)


if __name__ == "__main__":
    main()
