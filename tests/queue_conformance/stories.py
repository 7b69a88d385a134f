"""What the stories of the behaviours are told with."""

from __future__ import annotations

import time
from functools import partial

from Queue import QueueBatch, QueuePassingError, Record, ResultQueue, encode_record
from tests import waiting

# Try again as the scripts do.
until_it_works = partial(waiting.until_it_works, trouble=QueuePassingError)


def named(*ids: str) -> list[Record]:
    """Make records with these ids."""
    return [encode_record({"id": each, "label": "7"}) for each in ids]


def numbered(count: int, start: int = 0) -> list[Record]:
    """Make records with the ids "0", "1", …"""
    return named(*map(str, range(start, start + count)))


def ids_of(batch: QueueBatch) -> list[str]:
    """Return the ids of a batch, in their order."""
    return [record.id for record in batch.records]


def drained(queue: ResultQueue, timeout: float = 0.1) -> list[str]:
    """Take and commit until nothing has come for a while; return the ids."""
    found: list[str] = []
    while batch := queue.take(100, timeout):
        found += ids_of(batch)
        queue.commit(batch)
    return found


def take_until(queue: ResultQueue, ids: set[str], seconds: float = 30.0) -> list[str]:
    """Take and commit until all of `ids` have come; return what came."""
    found: list[str] = []
    deadline = time.monotonic() + seconds
    while not ids <= set(found):
        assert time.monotonic() < deadline, f"missing: {sorted(ids - set(found))[:10]}"
        batch = queue.take(100, timeout=0.5)
        found += ids_of(batch)
        queue.commit(batch)
    return found


def first_of_each(ids: list[str]) -> list[str]:
    """Return the ids without repetitions, each where it came first."""
    return list(dict.fromkeys(ids))
