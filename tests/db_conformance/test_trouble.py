"""Trouble that passes"""

from __future__ import annotations

import time

import pytest

from DB import DatabaseUnavailableError
from tests.db_conformance.harness import PATIENCE_SECONDS, DatabaseUnderTest
from tests.db_conformance.stories import ids_of, numbered, until_it_works

# What a call may take beyond the engine's patience, on a machine with other work.
MORE_SECONDS = 20.0


def test_away(engine: DatabaseUnderTest) -> None:
    """An engine that is away is trouble that passes; afterwards the same insert is right."""
    db = engine.open()
    db.insert(numbered(3))

    with engine.away():
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                db.insert(numbered(5))

    outcome = until_it_works(lambda: db.insert(numbered(5)))
    assert outcome.inserted + outcome.duplicates == 5
    assert ids_of(db) == ["0", "1", "2", "3", "4"]


def test_hanging(engine: DatabaseUnderTest) -> None:
    """An engine that hangs is not waited for without end; afterwards the same insert is right."""
    db = engine.open()
    db.insert(numbered(3))

    with engine.hanging():
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailableError):
            db.insert(numbered(5))
        assert time.monotonic() - began < PATIENCE_SECONDS + MORE_SECONDS

    outcome = until_it_works(lambda: db.insert(numbered(5)))
    assert outcome.inserted + outcome.duplicates == 5
    assert ids_of(db) == ["0", "1", "2", "3", "4"]


def test_full(engine: DatabaseUnderTest) -> None:
    """A full disk is trouble that passes; what was stored stays, and then there is more."""
    db = engine.open()
    db.insert(numbered(3))
    large = [{**each, "text": "x" * 20_000} for each in numbered(50, start=3)]

    with engine.full():
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                db.insert(large)
        assert ids_of(engine.reader())[:3] == ["0", "1", "2"]

    outcome = db.insert(large)
    assert outcome.inserted + outcome.duplicates == 50
    assert len(ids_of(db)) == len(set(ids_of(db))) == 53


def test_read_only(engine: DatabaseUnderTest) -> None:
    """A DB that has become read only is trouble that passes."""
    db = engine.open()
    db.insert(numbered(3))

    with engine.read_only(), pytest.raises(DatabaseUnavailableError):
        db.insert(numbered(5))

    outcome = until_it_works(lambda: db.insert(numbered(5)))
    assert outcome.inserted + outcome.duplicates == 5


def test_conflicts_and_shadows_in_trouble(engine: DatabaseUnderTest) -> None:
    """Conflicts and a shadow's answers that met trouble are stored once by the next try."""
    db = engine.open()
    db.insert(numbered(3))
    shadow = [{**each, "model": "m"} for each in numbered(3)]

    with engine.away():
        with pytest.raises(DatabaseUnavailableError):
            db.insert(numbered(3, "8"))
        with pytest.raises(DatabaseUnavailableError):
            db.insert_shadow(shadow)

    until_it_works(lambda: db.insert(numbered(3, "8")))
    until_it_works(lambda: db.insert_shadow(shadow))
    assert ids_of(db.conflicts()) == ["0", "1", "2"]
    assert ids_of(db.iter_shadow()) == ["0", "1", "2"]


def test_check(engine: DatabaseUnderTest) -> None:
    """A check tells that results can be stored, and in bounded time that they cannot."""
    db = engine.open()
    db.check(5.0)

    with engine.away():
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailableError):
            db.check(0.5)
        assert time.monotonic() - began < MORE_SECONDS

    until_it_works(lambda: db.check(5.0))
    engine.reader().check(5.0)


def test_the_message_helps(engine: DatabaseUnderTest) -> None:
    """The error says what was tried and where."""
    db = engine.open()

    with (
        engine.away(),
        pytest.raises(DatabaseUnavailableError, match=r"(insert into|connect to) the DB") as error,
    ):
        db.insert(numbered(1))

    assert db.name in str(error.value)
