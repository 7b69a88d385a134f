"""How many rows the index of a text holds back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import uuid_utils

from DB.text.index import PENDING_NEIGHBOURS, PENDING_ROWS, Index

AT_ONCE = 64


@pytest.mark.parametrize(
    ("make_id", "most"), [(uuid_utils.uuid7, PENDING_NEIGHBOURS), (uuid_utils.uuid4, PENDING_ROWS)]
)
def test_rows_are_written_in_groups_that_no_insert_waits_for(
    tmp_path: Path, make_id: Callable[[], object], most: int
) -> None:
    assert _written(tmp_path / "few", make_id, most - AT_ONCE) == 0
    assert _written(tmp_path / "enough", make_id, most) == most


def _written(path: Path, make_id: Callable[[], object], rows: int) -> int:
    """Return how many of so many rows are in the file, while the others are in memory."""
    index = Index(path)
    for start in range(0, rows, AT_ONCE):
        keys = [index.key_of(str(make_id())) for _ in range(AT_ONCE)]
        offsets = [(key, start + number) for number, key in enumerate(keys)]
        index.add(offsets, start + AT_ONCE, b"the last bytes")
    index.abandon()
    with sqlite3.connect(path) as database:
        return int(database.execute("SELECT count(*) FROM rows").fetchone()[0])
