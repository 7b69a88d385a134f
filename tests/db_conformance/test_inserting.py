"""Inserting and reading"""

from __future__ import annotations

import pytest
import uuid_utils

from DB import DatabaseClosedError, DatabaseUnavailableError
from DurableText.moments import age_of, seconds_of
from tests.db_conformance.harness import DatabaseUnderTest
from tests.db_conformance.stories import ids_of, numbered, without_time


def test_a_result_comes_back_as_it_was(engine: DatabaseUnderTest) -> None:
    """A result that was inserted is read as it was, with the time at which it was stored."""
    db = engine.open()
    result = {"id": "a", "label": "7", "confidence": 0.99871, "published_at": "2026-01-01T12:00Z"}

    outcome = db.insert([result])

    assert outcome.inserted_ids == ("a",)
    (row,) = db
    assert without_time(row) == result
    assert list(row) == [*result, "stored_at"]
    age = age_of(row["stored_at"])
    assert age is not None
    assert age < 60


def test_fields_keep_their_values(engine: DatabaseUnderTest) -> None:
    """Numbers, lists, objects, null and texts in any script keep values and order."""
    db = engine.open()
    result = {
        "z": [1, 2.5, -0.0, 1e300, 2**53, None, True, {"b": {}, "a": []}],
        "id": "ä/≠#1",
        "label": "七\n\t\"\\\x7f\u2028 '; DROP TABLE inferences; --",
        "empty": "",
        "0": "0199\\u0000",
    }

    db.insert([result])

    (row,) = db
    assert without_time(row) == result
    assert list(row)[:-1] == list(result)


def test_results_come_back_in_order(engine: DatabaseUnderTest) -> None:
    """Results are read in the order in which they were inserted, whatever their ids."""
    db = engine.open()
    ids = ["9", "b", "1", str(uuid_utils.uuid7()), "a", "B"]

    for some in (ids[:4], ids[4:]):
        db.insert([{"id": each, "label": "7"} for each in some])

    assert ids_of(db) == ids


def test_durable_on_return(engine: DatabaseUnderTest) -> None:
    """What an insert returned for is there for whoever opens the DB afterwards."""
    first = engine.open()
    first.insert(numbered(300))
    first.close()

    second = engine.open()

    assert ids_of(second) == ids_of(numbered(300))
    assert second.insert(numbered(300)).duplicates == 300


def test_nothing_is_fine(engine: DatabaseUnderTest) -> None:
    """An insert of nothing stores nothing."""
    db = engine.open()

    assert db.insert([]).inserted == 0
    assert db.insert_shadow([]).inserted == 0
    assert list(db) == []


def test_many_at_once(engine: DatabaseUnderTest) -> None:
    """One insert takes any number of results, with the same id among them as well."""
    db = engine.open()
    results = numbered(5000) + numbered(10)

    outcome = db.insert(results)

    assert (outcome.inserted, outcome.duplicates, outcome.conflicts) == (5000, 10, 0)
    assert outcome.duplicate_ids == tuple(str(n) for n in range(10))
    assert ids_of(db) == ids_of(numbered(5000))
    assert db.count() == 5000


def test_ids_of_any_form(engine: DatabaseUnderTest) -> None:
    """Ids of any form are told apart: letters' case, accents, blanks, a kilobyte of anything."""
    ids = ["a", "A", "ä", "a\u0308", " a", "a ", "http://x#1", "http://x#2", "0" * 36]
    ids += [str(uuid_utils.uuid4()), str(uuid_utils.uuid7()), "é" * 512, "é" * 511 + "x", "%_"]
    results = [{"id": each, "label": "1"} for each in ids]
    db = engine.open()

    assert db.insert(results).inserted == len(ids)
    assert db.insert(results).duplicates == len(ids)
    assert ids_of(db) == ids


def test_long_results(engine: DatabaseUnderTest) -> None:
    """A result of almost a mebibyte is stored and read again."""
    db = engine.open()
    result = {"id": "a", "label": "7", "text": "x" * ((1 << 20) - 200)}

    db.insert([result, *numbered(3)])

    assert without_time(db.get("a")) == result
    assert ids_of(db) == ["a", "0", "1", "2"]


def test_one_by_its_id(engine: DatabaseUnderTest) -> None:
    """A result is found by its id, by the writer and by a reader; one that is not there is not."""
    db, reader = engine.open(), engine.reader()
    db.insert(numbered(100))

    for each in (db, reader):
        assert without_time(each.get("42")) == {"id": "42", "label": "7"}
        assert each.get("nobody") is None
        assert each.get("") is None
        assert each.get("\0") is None


def test_the_newest(engine: DatabaseUnderTest) -> None:
    """The newest results are read first, without reading the others."""
    db, reader = engine.open(), engine.reader()
    db.insert(numbered(500))
    db.insert(numbered(2, start=500))

    assert ids_of(reader.newest(4)) == ["501", "500", "499", "498"]
    assert len(reader.newest(1000)) == 502
    assert db.newest(0) == []


def test_the_newest_are_as_many_as_are_asked_for(engine: DatabaseUnderTest) -> None:
    """The newest results are as many as are asked for, however much a row holds."""
    db, reader = engine.open(), engine.reader()
    db.insert(numbered(4000, label="7" * 700))

    assert ids_of(reader.newest(3500)) == [str(number) for number in range(3999, 499, -1)]


def test_a_reader_beside_a_writer(engine: DatabaseUnderTest) -> None:
    """One that was opened to read sees what is stored while another one writes."""
    db, reader = engine.open(), engine.reader()
    db.insert(numbered(3))
    assert (reader.count(), ids_of(reader)) == (3, ["0", "1", "2"])

    db.insert(numbered(3, start=3))

    assert reader.count() == db.count() == 6
    assert ids_of(reader)[3:] == ["3", "4", "5"]


def test_a_reader_stores_nothing(engine: DatabaseUnderTest) -> None:
    """One that was opened to read refuses to store, and makes nothing."""
    reader = engine.reader()
    with pytest.raises(DatabaseUnavailableError):
        reader.count()
    engine.open().insert(numbered(1))

    for refused in (reader.insert, reader.insert_shadow, reader.take_over):
        with pytest.raises(DatabaseClosedError, match="opened to read"):
            refused([{"id": "b", "model": "m", "stored_at": "2026-01-01T00:00:00Z"}])

    assert reader.count() == 1


def test_summary(engine: DatabaseUnderTest) -> None:
    """The summary tells labels, models, how many were right, and how long they took."""
    db = engine.open()
    told = {"expected_label": "7", "model": "m@1", "published_at": "2026-01-01T00:00:00Z"}
    db.insert([{**each, **told} for each in numbered(8)])
    db.insert([{**each, **told} for each in numbered(2, "1", start=8)])

    summary = engine.reader().summary()

    assert (summary.rows, summary.labels) == (10, {"7": 8, "1": 2})
    assert (summary.known, summary.correct) == (10, 8)
    assert summary.confusions == [("7", "1", 2)]
    assert summary.models == {"m@1": 10}
    assert summary.latency_p50 is not None
    assert summary.latency_p50 > 0


def test_verify(engine: DatabaseUnderTest) -> None:
    """A DB that is sound is found sound, and tells how many conflicts it keeps."""
    db = engine.open()
    db.insert([*numbered(100), {"id": "x", "boxes": [1]}])
    db.insert(numbered(3, "8"))

    found = engine.reader().verify()

    assert (found.problems, found.rows) == ([], 101)
    assert found.bytes > 0
    assert any(note.startswith("3 conflicts") for note in found.notes)


def test_rows_of_another_db(engine: DatabaseUnderTest) -> None:
    """Rows that come from another DB keep the time at which they were stored there."""
    db = engine.open()
    moments = [f"2020-01-01T00:00:0{n}.500Z" for n in range(3)]
    rows = [{**each, "stored_at": moments[n]} for n, each in enumerate(numbered(3))]

    assert db.take_over(rows).inserted == 3
    assert db.take_over(rows).duplicates == 3

    assert [seconds_of(row["stored_at"]) for row in db] == [seconds_of(each) for each in moments]
