"""Somebody removes lock files, as stale ones, or the folder of a queue, while they are in use.

A lock on a file that has no name keeps nobody out: two who believe that they are alone lose rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from DB import DatabaseReplacedError
from DB.text.database import TextDatabase
from DurableText.lock import FileLock
from DurableText.storage import STORAGE, Storage
from Queue import QueueLockedError, QueueReplacedError
from tests.queue.of_dicts import FileQueue

FIRST, SECOND = [{"n": 1}, {"n": 2}], [{"n": 3}, {"n": 4}]
A, B = {"id": "a", "label": "7"}, {"id": "b", "label": "7"}


class RemovedAtTheSync(Storage):
    """Somebody removes a file just as something is synced."""

    victim: Path | None = None

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if self.victim is not None:
            self.victim.unlink(missing_ok=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


@pytest.fixture
def make(path: Path) -> Iterator[Callable[[], FileLock]]:
    made: list[FileLock] = []

    def lock() -> FileLock:
        made.append(FileLock(path, STORAGE))
        return made[-1]

    yield lock
    for each in made:
        each.close()


def test_a_lock_whose_file_was_removed_is_that_of_whoever_came_later(
    path: Path, make: Callable[[], FileLock]
) -> None:
    early = make()
    path.unlink()
    later = make()
    assert later.try_acquire()
    assert not early.try_acquire()
    later.release()
    assert early.try_acquire()
    assert not later.try_acquire()


def test_a_holder_knows_that_its_lock_was_removed_and_a_standby_does_not_take_it(
    path: Path, make: Callable[[], FileLock]
) -> None:
    holder, standby = make(), make()
    assert holder.try_acquire()
    assert holder.is_in_place()
    path.unlink()
    assert not holder.is_in_place()
    later = make()
    assert later.try_acquire()
    holder.release()
    assert not standby.try_acquire()
    later.release()
    assert standby.try_acquire()


def test_producers_from_before_and_after_lose_no_record(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with FileQueue(log) as early:
        early.put(FIRST)
        log.with_name("log.producer.lock").unlink()
        with FileQueue(log) as later:
            assert later._producer._lock.try_acquire()
            with pytest.raises(QueueLockedError):
                early.put(SECOND, timeout=0)
            later._producer._lock.release()
            early.put(SECOND)
            assert [record["n"] for record in later.take(100, timeout=0).records] == [1, 2, 3, 4]


def test_a_put_under_a_lock_that_is_removed_meanwhile_is_not_acknowledged(tmp_path: Path) -> None:
    log, storage = tmp_path / "log.txt", RemovedAtTheSync()
    with FileQueue(log, storage=storage) as queue:
        queue.put(FIRST)
        storage.victim = log.with_name("log.producer.lock")
        with pytest.raises(QueueReplacedError, match=r"log\.producer\.lock"):
            queue.put(SECOND)
        storage.victim = None
        queue.put(SECOND)


def test_a_consumer_whose_lock_was_removed_takes_no_more_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.txt"
    with FileQueue(log) as early, FileQueue(log) as later:
        early.put(FIRST + SECOND)
        early.commit(early.take(2, timeout=0))
        log.with_name("log.consumer.lock").unlink()
        with pytest.raises(QueueReplacedError, match=r"log\.consumer\.lock"):
            early.take(1, timeout=0)
        assert [record["n"] for record in later.take(100, timeout=0).records] == [3, 4]


def test_a_db_whose_lock_was_removed_takes_no_row_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "db.txt"
    with TextDatabase(path) as early:
        early.insert([A])
        path.with_name("db.lock").unlink()
        with TextDatabase(path, wait=False) as later:
            later.insert([B])
            for insert in (early.insert, early.insert_shadow):
                with pytest.raises(DatabaseReplacedError, match=r"db\.lock"):
                    insert([{**B, "model": "m"}])
            assert [row["id"] for row in later] == ["a", "b"]


def test_an_insert_under_a_lock_that_is_removed_meanwhile_is_not_acknowledged(
    tmp_path: Path,
) -> None:
    path, storage = tmp_path / "db.txt", RemovedAtTheSync()
    with TextDatabase(path, storage=storage) as db:
        db.insert([A])
        storage.victim = path.with_name("db.lock")
        with pytest.raises(DatabaseReplacedError, match=r"db\.lock"):
            db.insert([B])


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("take_away", [remove, move])
@pytest.mark.parametrize("records", [[], FIRST])
def test_a_queue_whose_folder_is_gone_says_so_and_the_next_start_goes_on(
    tmp_path: Path, take_away: Callable[[Path], None], records: list[dict[str, int]]
) -> None:
    log = tmp_path / "queue" / "log.txt"
    with FileQueue(log) as producer, FileQueue(log) as consumer:
        producer.put(records)
        batch = consumer.take(1, timeout=0)
        take_away(log.parent)
        for _ in range(2):
            with pytest.raises(QueueReplacedError):
                producer.put(SECOND)
            with pytest.raises(QueueReplacedError):
                consumer.take(1, timeout=0)
            if batch:
                with pytest.raises(QueueReplacedError):
                    consumer.commit(batch)
    with FileQueue(log) as again:
        again.put(SECOND)
        assert [record["n"] for record in again.take(100, timeout=0).records] == [3, 4]
