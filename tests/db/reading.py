"""What a text DB says of itself, as the commands ask it."""

from __future__ import annotations

from pathlib import Path

from DB import open_database
from DB.database_interface import DatabaseVerification
from DB.summary import Summary


def summarise(path: Path) -> Summary:
    """Return the summary."""
    with open_database(path, read_only=True) as db:
        return db.summary()


def verify(path: Path) -> DatabaseVerification:
    """Return what is wrong."""
    with open_database(path, read_only=True) as db:
        return db.verify()
