"""Several writers, and the end of one"""

from __future__ import annotations

import os
import threading
import time

import pytest

from DB import (
    DatabaseClosedError,
    DatabaseConfigurationError,
    DatabaseLockedError,
    DatabaseReplacedError,
    InsertOutcome,
    open_database,
)
from tests.db_conformance.harness import DatabaseUnderTest
from tests.db_conformance.stories import ids_of, numbered, stored_once, until_it_works


def test_a_second_writer(engine: DatabaseUnderTest) -> None:
    """A second writer works beside the first where that is promised, and else waits for its end."""
    first = engine.open()
    first.insert(numbered(1))
    if first.shared:
        second = open_database(engine.place)
    else:
        with pytest.raises(DatabaseLockedError, match=f"process {os.getpid()} on"):
            open_database(engine.place, wait=False)
        threading.Timer(0.2, first.close).start()
        second = open_database(engine.place, timeout=20)

    with second:
        assert second.insert(numbered(2)).duplicate_ids == ("0",)
        assert ids_of(second) == ["0", "1"]


def test_the_same_ids_from_four_writers(engine: DatabaseUnderTest) -> None:
    """Of four processes that bring the same ids at once one is told of each that it was new."""
    engine.open().close()
    count = 1500
    writers = [engine.writer("same", seed, count) for seed in range(4)]

    told = [tuple(map(int, writer.finish()[-1].split())) for writer in writers]

    assert sum(inserted for inserted, _ in told) == count
    assert [inserted + duplicates for inserted, duplicates in told] == [count] * 4
    assert stored_once(engine.reader(), map(str, range(count)))


def test_several_begin_at_once(engine: DatabaseUnderTest) -> None:
    """Several that start at once where there is nothing yet make one DB."""
    writers = [engine.writer("same", seed, 64) for seed in range(6)]

    told = [tuple(map(int, writer.finish()[-1].split())) for writer in writers]

    assert sum(inserted for inserted, _ in told) == 64
    assert stored_once(engine.reader(), map(str, range(64)))


def test_threads(engine: DatabaseUnderTest) -> None:
    """Any thread may insert and read at any time."""
    db = engine.open()
    outcomes: list[InsertOutcome] = []

    def insert(start: int) -> None:
        for n in range(start, start + 100, 20):
            outcomes.append(db.insert(numbered(20, start=n)))
            db.count()
            db.get(str(n))

    threads = [threading.Thread(target=insert, args=(start,)) for start in (0, 100, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(each.inserted for each in outcomes) == 300
    assert sum(each.duplicates for each in outcomes) == 100
    assert stored_once(db, map(str, range(300)))


def test_a_killed_writer(engine: DatabaseUnderTest) -> None:
    """What a writer was told is stored survives kill -9 in the middle of an insert."""
    for number in range(3):
        writer = engine.writer("stream", f"w{number}")
        said = writer.lines(5 + number)
        said += writer.kill()

        db = engine.open()
        acknowledged = [f"w{number}-{n}" for n in range(int(said[-1]))]
        assert stored_once(db, acknowledged)
        again = db.insert([{"id": each, "label": "7"} for each in acknowledged])
        assert again.duplicates == len(acknowledged)
        db.close()


def test_a_killed_engine(engine: DatabaseUnderTest) -> None:
    """What a writer was told is stored survives kill -9 of whatever does the writing."""
    for number in range(2):
        writer = engine.writer("stream", f"e{number}")
        said = writer.lines(4) + engine.kill_engine(writer)

        db = engine.open()
        assert stored_once(db, [f"e{number}-{n}" for n in range(int(said[-1]))])
        db.close()


def test_a_writer_that_was_killed_holds_nobody_up(engine: DatabaseUnderTest) -> None:
    """After kill -9 of a writer the next one goes on at once."""
    writer = engine.writer("stream", "w")
    writer.lines(2)
    writer.kill()

    began = time.monotonic()
    assert engine.open().insert(numbered(1)).inserted == 1
    assert time.monotonic() - began < 20


def test_closed(engine: DatabaseUnderTest) -> None:
    """A closed DB refuses everything; closing it twice is fine."""
    db = engine.open()
    db.insert(numbered(1))
    db.close()
    db.close()

    for call in (
        lambda: db.insert(numbered(1)),
        lambda: db.insert_shadow([]),
        lambda: list(db),
        lambda: db.get("0"),
        lambda: db.check(1.0),
    ):
        with pytest.raises(DatabaseClosedError):
            call()


def test_closed_while_it_is_read(engine: DatabaseUnderTest) -> None:
    """A DB that is closed while it is read says so."""
    db = engine.open()
    db.insert([{**each, "text": "x" * 500} for each in numbered(5000)])
    rows = iter(db)
    assert next(rows)["id"] == "0"

    db.close()

    with pytest.raises(DatabaseClosedError):
        list(rows)


def test_forked(engine: DatabaseUnderTest) -> None:
    """In a child made by fork a DB refuses to work, and its parent's goes on."""
    db = engine.open()
    db.insert(numbered(1))
    child = os.fork()
    if not child:
        try:
            db.insert(numbered(2))
        except DatabaseClosedError:
            db.close()
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert db.insert(numbered(2)).inserted_ids == ("1",)


def test_somebody_else_s(engine: DatabaseUnderTest) -> None:
    """What another program has made at the DB's place is refused and left alone."""
    engine.put_something_foreign()

    with pytest.raises(DatabaseConfigurationError, match=r"another|--db|table="):
        engine.open()

    assert engine.foreign_is_untouched()


def test_lost(engine: DatabaseUnderTest) -> None:
    """A DB that came back empty is noticed: it takes nothing more until somebody starts anew."""
    db = engine.open()
    db.insert(numbered(3))
    engine.lose_everything()

    for _ in range(2):
        with pytest.raises(DatabaseReplacedError):
            until_it_works(lambda: db.insert(numbered(1, start=3)))
    db.close()

    assert engine.open().insert(numbered(4)).inserted == 4


def test_its_name(engine: DatabaseUnderTest) -> None:
    """A DB tells where it is, for logs and errors."""
    db = engine.open()

    assert db.name
    assert engine.place.split("?")[0] in db.name
