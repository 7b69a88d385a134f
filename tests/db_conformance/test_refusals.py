"""Refusals, the same on every engine"""

from __future__ import annotations

import pytest

from DB import DatabaseRecordError, ResultDatabase
from tests.db_conformance.harness import DatabaseUnderTest
from tests.db_conformance.stories import ids_of, numbered


def assert_refused(db: ResultDatabase, bad: object, problem: str = "") -> None:
    """The one bad result is named, nothing is stored, and the others can be."""
    before = db.count()
    with pytest.raises(DatabaseRecordError, match=f"result 2: .*{problem}") as caught:
        db.insert([*numbered(2), bad])  # type: ignore[list-item]
    assert caught.value.index == 2
    assert db.count() == before


def test_what_is_no_result(engine: DatabaseUnderTest) -> None:
    """What is no JSON object with a text id is named, and nothing of its insert is stored."""
    db = engine.open()

    for bad in (
        {"label": "1"},
        {"id": 7},
        {"id": ""},
        {"id": None},
        "text",
        None,
        {"id": "a", "label": object()},
        {"id": "a", 7: "7"},
    ):
        assert_refused(db, bad)

    assert db.insert(numbered(2)).inserted == 2


def test_reserved_fields(engine: DatabaseUnderTest) -> None:
    """Fields that the DB itself adds are refused."""
    db = engine.open()

    assert_refused(db, {"id": "a", "crc": "0"}, "reserved")
    assert_refused(db, {"id": "a", "stored_at": "now"}, "reserved")


def test_nul(engine: DatabaseUnderTest) -> None:
    """The character NUL is refused in every text: an id, a label, a name, deep inside."""
    db = engine.open()

    for bad in (
        {"id": "a\0", "label": "7"},
        {"id": "a", "label": "\0"},
        {"id": "a", "n\0": 1},
        {"id": "a", "deep": [{"x": ["\\\\\0"]}]},
    ):
        assert_refused(db, bad, "NUL")

    fine = {"id": "a", "label": "\\u0000", "x": "\\\\u0000", "0": "u0000"}
    assert db.insert([fine]).inserted == 1


def test_half_of_a_surrogate_pair(engine: DatabaseUnderTest) -> None:
    """Half of a surrogate pair is no character, and refused."""
    db = engine.open()

    for bad in ({"id": "\ud800"}, {"id": "a", "label": "x\udfff"}, {"id": "a", "\ud834": 1}):
        assert_refused(db, bad)


def test_too_long(engine: DatabaseUnderTest) -> None:
    """A result of more than a mebibyte is refused."""
    db = engine.open()

    assert_refused(db, {"id": "a", "label": "x" * (1 << 20)})


def test_too_deep(engine: DatabaseUnderTest) -> None:
    """A result that is nested deeper than JSON is read anywhere is refused."""
    db = engine.open()
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]

    assert_refused(db, {"id": "a", "deep": deep})


def test_a_refusal_costs_one(engine: DatabaseUnderTest) -> None:
    """A refused result costs itself alone: the others are stored by inserts of their own."""
    db = engine.open()
    results = [*numbered(2), {"id": "bad", "label": "\0"}, *numbered(2, start=2)]

    refused = []
    for result in results:
        try:
            db.insert([result])
        except DatabaseRecordError as error:
            refused.append((result["id"], error.index))

    assert refused == [("bad", 0)]
    assert ids_of(db) == ["0", "1", "2", "3"]


def test_rows_without_a_time(engine: DatabaseUnderTest) -> None:
    """Rows of another DB without the time at which they were stored are refused."""
    db = engine.open()
    good = {"id": "a", "label": "7", "stored_at": "2026-01-01T00:00:00Z"}

    for bad in ({"id": "b"}, {"id": "b", "stored_at": "yesterday"}, {"id": "b", "stored_at": 7}):
        with pytest.raises(DatabaseRecordError, match="result 1"):
            db.take_over([good, bad])

    assert db.count() == 0
