"""A user of the DB who writes down what was promised, and the oracle that holds it to that.

The text lies on a simulated disk; the index is a real SQLite file. After a crash the index is left
as it is (it may be ahead of the text), or an older copy of it is put back, or it is gone.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from DB import DatabaseUnavailableError
from DB.text.database import TextDatabase
from DurableText import codec
from tests.durability.simulated_disk import Crash, SimulatedDisk, SimulatedProcess

TRIES = 5

INDEX_FATES = ("kept", "older", "gone")
INDEX_FILES = "db.*index*"
"""The index of the rows and that of the conflicts."""


class DatabaseStory:
    """What one user did and saw, over all lives."""

    def __init__(self, disk: SimulatedDisk, seed: int) -> None:
        self.disk = disk
        self.path = disk.folder / "db.txt"
        self.rng = random.Random(seed)
        self.next_id = 1
        self.acknowledged: dict[str, str] = {}
        self.conflicts: set[str] = set()
        for file in disk.folder.glob(INDEX_FILES):
            file.unlink()

    def live(self, process: SimulatedProcess, steps: int) -> bool:
        """Lives one life; returns False if it ended in a crash."""
        db = None
        try:
            db = _until_it_works(lambda: TextDatabase(self.path, wait=False, storage=process))
            for _ in range(steps):
                self._step(db)
            _until_it_works(db.close)
        except Crash:
            return False
        finally:
            abandon(db)
        return True

    def check(self) -> None:
        """Recovers and holds the DB to what it promised."""
        self.live(self.disk.process(), steps=3)
        self._compare()
        before = self.disk.content(self.path)
        with TextDatabase(self.path, wait=False, storage=self.disk.process()) as db:
            again = [{"id": i, "label": label} for i, label in self.acknowledged.items()]
            outcome = db.insert(again)
            assert outcome.duplicates == len(again), "a stored result was not recognised"
        assert self.disk.content(self.path) == before, "a second recovery changed the text"

    def _compare(self) -> None:
        rows = [codec.decode(line) for line in self.disk.content(self.path).split(b"\n")]
        ids = [row["id"] for row in rows if row is not None]
        assert len(ids) == len(set(ids)), "an id stands twice"
        labels = {row["id"]: row["label"] for row in rows if row is not None}
        lost = {i for i, label in self.acknowledged.items() if labels.get(i) != label}
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        kept = self.disk.names.get(self.path.with_name("db.conflicts.txt"))
        kept_rows = [codec.decode(line) for line in bytes(kept.seen).split(b"\n")] if kept else []
        kept_ids = [row["id"] for row in kept_rows if row is not None]
        assert self.conflicts <= set(kept_ids), "a reported conflict was not kept"
        assert len(kept_ids) == len(set(kept_ids)), "the same conflict was kept twice"

    def _step(self, db: TextDatabase) -> None:
        count = self.rng.randint(1, 5)
        rows = [
            {"id": f"id-{number}", "label": str(number % 10)}
            for number in range(self.next_id, self.next_id + count)
        ]
        self.next_id += count
        known = sorted(self.acknowledged)
        if known and self.rng.random() < 0.5:
            again = self.rng.choice(known)
            rows.append({"id": again, "label": self.acknowledged[again]})
        refused = None
        if known and self.rng.random() < 0.2:
            refused = self.rng.choice(known)
            rows.append({"id": refused, "label": "wrong"})
        for _ in range(TRIES):
            try:
                db.insert(rows)
            except DatabaseUnavailableError:
                continue
            for row in rows:
                self.acknowledged.setdefault(row["id"], row["label"])
            if refused is not None:
                self.conflicts.add(refused)
            return


class IndexCopies:
    """Copies of the index as it was earlier, to be put back after a crash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copies = folder / "copies"

    def save(self) -> None:
        """Keeps the index as it is."""
        shutil.rmtree(self.copies, ignore_errors=True)
        self.copies.mkdir()
        for file in self.folder.glob(INDEX_FILES):
            shutil.copy(file, self.copies)

    def meet(self, fate: str) -> None:
        """Leaves the index as it is, puts the saved one back, or removes it."""
        if fate != "kept":
            for file in self.folder.glob(INDEX_FILES):
                file.unlink()
        if fate == "older" and self.copies.exists():
            for file in self.copies.iterdir():
                shutil.copy(file, self.folder)


def abandon(db: TextDatabase | None) -> None:
    """Closes the real indexes of a DB whose process crashed, without writing to them."""
    if db is not None:
        db._rows.index.abandon()
        if db._conflicts._kept is not None:
            db._conflicts._kept.index.abandon()


def _until_it_works(action: Callable[[], Any]) -> Any:
    for _ in range(TRIES):
        try:
            return action()
        except DatabaseUnavailableError as error:
            last = error
    raise last
