"""A look at the DB waits no longer than it is told to, whatever other threads do there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from DB import DatabaseUnavailableError, ResultDatabase
from DB.sqlite.database import SqliteDatabase
from DB.text.database import TextDatabase
from DurableText.storage import Storage


class Disk:
    """One on which a write may take until it is told to end."""

    def __init__(self) -> None:
        self.hangs = threading.Event()
        self.is_reached = threading.Event()
        self.answers = threading.Event()

    def touch(self) -> None:
        if self.hangs.is_set():
            self.is_reached.set()
            assert self.answers.wait(20)


class HangingStorage(Storage):
    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def sync(self, fd: int) -> None:
        self.disk.touch()
        super().sync(fd)


def connecting_to(disk: Disk) -> Any:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                disk.touch()
            return super().execute(sql, *arguments)

    return lambda *arguments, **named: sqlite3.connect(*arguments, factory=Connection, **named)


@pytest.fixture(params=["text", "sqlite"])
def db_on_a_disk(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[ResultDatabase, Disk]]:
    disk = Disk()
    db: ResultDatabase
    if request.param == "text":
        db = TextDatabase(tmp_path / "db.txt", storage=HangingStorage(disk))
    else:
        db = SqliteDatabase(tmp_path / "db.sqlite", connect=connecting_to(disk))
    with db:
        yield db, disk


def test_a_check_beside_an_insert_that_hangs(
    db_on_a_disk: tuple[ResultDatabase, Disk],
) -> None:
    db, disk = db_on_a_disk
    disk.hangs.set()
    with ThreadPoolExecutor() as pool:
        inserting = pool.submit(db.insert, [{"id": "a", "label": "7"}])
        try:
            assert disk.is_reached.wait(20)
            with pytest.raises(DatabaseUnavailableError, match="another thread is at work"):
                db.check(0.05)
        finally:
            disk.answers.set()
        assert inserting.result(20).inserted == 1
    db.check(5.0)
