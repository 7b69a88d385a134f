"""Takes what one DB holds over into another: from the text file, say, into PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from DB.database_interface import ResultDatabase, Row
from DurableText.progress import Advance, uncounted

# Rows that are taken over at a time: they are in memory, and durable together.
BATCH = 1000


def transfer(
    source: ResultDatabase, target: ResultDatabase, advance: Advance = uncounted
) -> dict[str, int]:
    """Take over results, conflicts and shadows; again, after whatever ended it, is right.

    Args:
        source: which is read.
        target: which they are stored in.
        advance: is told how many more are.

    Returns:
        How many rows were read, and of them new, duplicates and conflicts; and new shadows.

    Raises:
        DatabaseError: reading or storing failed; what was stored so far stays.
    """
    counts = dict.fromkeys(("rows", "new", "duplicates", "conflicts", "shadows"), 0)
    for rows in _batches(iter(source)):
        outcome = target.take_over(rows)
        counts["rows"] += len(rows)
        counts["new"] += outcome.inserted
        counts["duplicates"] += outcome.duplicates
        counts["conflicts"] += outcome.conflicts
        advance(len(rows))
    for refused in _batches(source.conflicts()):
        # Refused there as here: the id is stored and says something else. One whose result is
        # lost at the source must not take its place.
        known = [_as_result(row) for row in refused if target.get(row["id"]) is not None]
        counts["conflicts"] += target.insert(known).conflicts
        advance(len(refused))
    for shadows in _batches(source.iter_shadow()):
        results = [_without(row, "stored_at") for row in shadows]
        counts["shadows"] += target.insert_shadow(results).inserted
        advance(len(shadows))
    return counts


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _as_result(row: Row) -> Row:
    return _without(row, "stored_label", "refused_at")


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}
