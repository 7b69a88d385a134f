"""Repetitions, conflicts, shadows"""

from __future__ import annotations

import pytest

from DB import DatabaseRecordError
from tests.db_conformance.harness import DatabaseUnderTest
from tests.db_conformance.stories import ids_of, numbered, without_time


def test_again(engine: DatabaseUnderTest) -> None:
    """Inserting again stores nothing and says so, whatever else is in the insert."""
    db = engine.open()
    db.insert(numbered(10))

    outcome = db.insert([*numbered(5), {"id": "x", "label": "7"}, *numbered(5, start=5)])

    assert outcome.inserted_ids == ("x",)
    assert outcome.duplicate_ids == tuple(str(n) for n in range(10))
    assert db.count() == 11


def test_twice_in_one_insert(engine: DatabaseUnderTest) -> None:
    """The same id twice in one insert is stored once: the first of them."""
    db = engine.open()

    outcome = db.insert([{"id": "a", "label": "1", "n": n} for n in range(3)])

    assert (outcome.inserted, outcome.duplicates) == (1, 2)
    assert without_time(db.get("a")) == {"id": "a", "label": "1", "n": 0}


def test_another_label(engine: DatabaseUnderTest) -> None:
    """The same id with another label is a conflict, which is reported, kept and changes nothing."""
    db = engine.open()
    db.insert([{"id": "a", "label": "7"}])

    outcome = db.insert([{"id": "a", "label": "8", "model": "other"}, {"id": "b", "label": "1"}])

    assert (outcome.conflict_ids, outcome.inserted_ids) == (("a",), ("b",))
    assert without_time(db.get("a")) == {"id": "a", "label": "7"}
    (kept,) = engine.reader().conflicts()
    assert (kept["id"], kept["label"], kept["stored_label"]) == ("a", "8", "7")
    assert kept["refused_at"].endswith("Z")


def test_a_conflict_is_kept_once(engine: DatabaseUnderTest) -> None:
    """A conflict is reported each time and kept once, also over a restart; another one too."""
    db = engine.open()
    db.insert(numbered(3))
    for _ in range(2):
        assert db.insert(numbered(2, "8") + numbered(2, "8")).conflicts == 4
    db.close()

    again = engine.open()
    assert again.insert(numbered(2, "8")).conflicts == 2
    assert again.insert(numbered(1, "9")).conflicts == 1

    kept = [(row["id"], row["label"]) for row in again.conflicts()]
    assert kept == [("0", "8"), ("1", "8"), ("0", "9")]


def test_a_conflict_within_one_insert(engine: DatabaseUnderTest) -> None:
    """Two labels of one id in one insert: the first is stored, the other is a conflict."""
    db = engine.open()

    outcome = db.insert([{"id": "a", "label": "1"}, {"id": "a", "label": "2"}])

    assert (outcome.inserted_ids, outcome.conflict_ids) == (("a",), ("a",))
    (kept,) = db.conflicts()
    assert (kept["label"], kept["stored_label"]) == ("2", "1")


def test_conflicts_without_a_label(engine: DatabaseUnderTest) -> None:
    """Without a label another value of any field that is not reserved is a conflict."""
    db = engine.open()
    db.insert([{"id": "a", "boxes": [1, 2], "model": "m@1", "predicted_at": "then"}])

    same = {"id": "a", "model": "m@2", "boxes": [1, 2], "source": "s", "seen_at": "now", "top": []}
    assert db.insert([same]).duplicates == 1
    assert db.insert([{"id": "a", "boxes": [2, 1]}]).conflicts == 1
    assert db.insert([{"id": "a", "boxes": [1, 2], "score": 1}]).conflicts == 1
    assert db.insert([{"id": "a", "boxes": [1, 2], "label": "7"}]).conflicts == 1

    assert [row["stored_label"] for row in db.conflicts()] == [None, None, None]


def test_labels_that_are_no_text(engine: DatabaseUnderTest) -> None:
    """A label that is no text is no conflict with itself, and one with another."""
    labels = [None, 7, float("nan"), ["a", 1], ("a", 1), {"b": float("inf"), "a": 1}, True, ""]
    db = engine.open()
    for number, label in enumerate(labels):
        result = {"id": str(number), "label": label}
        assert db.insert([result]).inserted == 1
        assert db.insert([result, result]).duplicates == 2
    db.close()

    again = engine.open()
    results = [{"id": str(number), "label": label} for number, label in enumerate(labels)]
    assert again.insert(results).duplicates == len(labels)
    assert again.insert([{**each, "label": "other"} for each in results]).conflicts == len(labels)


def test_long_labels(engine: DatabaseUnderTest) -> None:
    """A conflict of labels of half a mebibyte is kept once, and can be read."""
    db = engine.open()
    db.insert([{"id": "a", "label": '"' * 400_000}])

    for _ in range(2):
        assert db.insert([{"id": "a", "label": "x" * 700_000}]).conflicts == 1

    assert [len(row["label"]) for row in db.conflicts()] == [700_000]


def test_a_shadow_stands_apart(engine: DatabaseUnderTest) -> None:
    """What a shadow model says is kept apart from the results, by id and model."""
    db = engine.open()
    db.insert([{"id": "a", "label": "7", "model": "m@1"}])

    outcome = db.insert_shadow(
        [{"id": "a", "label": "8", "model": "m@2"}, {"id": "a", "label": "9", "model": "m@3"}]
    )

    assert outcome.inserted == 2
    assert [row["label"] for row in db] == ["7"]
    shadows = list(engine.reader().iter_shadow())
    assert [(row["id"], row["model"], row["label"]) for row in shadows] == [
        ("a", "m@2", "8"),
        ("a", "m@3", "9"),
    ]
    assert all(row["stored_at"] for row in shadows)


def test_a_shadow_says_it_once(engine: DatabaseUnderTest) -> None:
    """A shadow's answer that comes again is stored once; a conflict of it is told, not kept."""
    db = engine.open()
    answer = {"id": "a", "label": "8", "model": "m@2"}
    assert db.insert_shadow([answer, answer]).duplicates == 1
    db.close()

    again = engine.open()
    assert again.insert_shadow([answer]).duplicates == 1
    assert again.insert_shadow([{**answer, "label": "9"}]).conflicts == 1

    assert ids_of(again.iter_shadow()) == ["a"]
    assert list(again.conflicts()) == []


def test_a_shadow_has_a_model(engine: DatabaseUnderTest) -> None:
    """A shadow's answer without the name of its model is refused."""
    db = engine.open()

    with pytest.raises(DatabaseRecordError, match="result 1"):
        db.insert_shadow([{"id": "a", "model": "m"}, {"id": "b", "label": "8"}])

    assert list(db.iter_shadow()) == []
