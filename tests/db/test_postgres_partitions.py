"""The statements of docs/scaling.md about retention and partitions, run as they stand there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uuid_utils

from DB import open_database
from DurableText.moments import timestamp
from tests.db_conformance.stories import ids_of, numbered
from tests.engines.postgres_server import PostgresServer

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"


def statements(title: str) -> str:
    """Return the block of SQL that begins with a comment."""
    blocks = re.findall(r"```sql\n-- (.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if re.match(rf"{title}[:\n]", block)]
    return found.partition("\n")[2]


def uuid_at(moment: datetime) -> str:
    """Return a UUIDv7 of a moment."""
    now = f"{int(moment.timestamp() * 1000):012x}"
    return f"{now[:8]}-{now[8:]}{str(uuid_utils.uuid7())[13:]}"


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A database of its own: the statements name the tables as they are by default."""
    postgres.run("DROP DATABASE IF EXISTS trial")
    postgres.run("CREATE DATABASE trial")
    return postgres.url("trial")


def test_old_rows_are_deleted_in_portions(postgres: PostgresServer, url: str) -> None:
    with open_database(url) as db:
        db.insert(numbered(3))
        old = timestamp(datetime(2020, 1, 1, tzinfo=UTC))
        db.take_over([{**each, "stored_at": old} for each in numbered(5, start=3)])

        postgres.run(statements("retention"), "trial")

        assert ids_of(db) == ["0", "1", "2"]
        assert db.insert(numbered(4)).inserted_ids == ("3",)


def test_a_table_of_partitions_keeps_every_promise(postgres: PostgresServer, url: str) -> None:
    november = [uuid_at(datetime(2026, 11, day, tzinfo=UTC)) for day in (1, 15, 30)]
    december = [uuid_at(datetime(2026, 12, day, tzinfo=UTC)) for day in (1, 31)]
    others = [uuid_at(datetime(2026, 10, 31, tzinfo=UTC)), "http://camera#1", "zzz"]
    results = [{"id": each, "label": "7"} for each in (*november, *december, *others)]
    with open_database(url) as db:
        db.insert(results[::2])

    postgres.run(statements("partitions"), "trial")

    with open_database(url) as db:
        outcome = db.insert(results)
        assert (outcome.inserted, outcome.duplicates) == (4, 4)
        assert db.insert([{**each, "label": "8"} for each in results]).conflicts == 8
        assert sorted(ids_of(db)) == sorted(each["id"] for each in results)
        assert len(db.newest(3)) == 3
        assert (db.summary().rows, db.verify().problems) == (8, [])
        parts = {
            name: {
                str(each) for (each,) in postgres.run(f"SELECT id FROM inferences_{name}", "trial")
            }
            for name in ("2026_11", "2026_12", "others")
        }
        assert parts == {"2026_11": set(november), "2026_12": set(december), "others": set(others)}

        postgres.run(statements("retention by partitions"), "trial")

        assert sorted(ids_of(db)) == sorted((*december, *others))
        db.check(5.0)
