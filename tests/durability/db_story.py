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

from DB import DatabaseUnavailableError, Rotation
from DB.text.database import TextDatabase
from DB.text.part_list import differences, read_list
from DB.text.parts import part_numbers, part_path
from DurableText import codec
from tests.durability.simulated_disk import Crash, SimulatedDisk, SimulatedProcess

TRIES = 5

INDEX_FATES = ("kept", "older", "gone")
INDEX_FILES = "db.*index*"
"""The indexes of the rows, the conflicts and the shadows, and of their parts."""


class DatabaseStory:
    """What one user did and saw, over all lives."""

    def __init__(self, disk: SimulatedDisk, seed: int, rotation: Rotation | None = None) -> None:
        self.disk = disk
        self.rotation = rotation
        self.path = disk.folder / "db.txt"
        self.rng = random.Random(seed)
        self.next_id = 1
        self.acknowledged: dict[str, str] = {}
        self.conflicts: set[str] = set()
        self.shadows: set[str] = set()
        for file in disk.folder.glob(INDEX_FILES):
            file.unlink()

    def live(self, process: SimulatedProcess, steps: int) -> bool:
        """Lives one life; returns False if it ended in a crash."""
        db = None
        try:
            db = _until_it_works(lambda: self._open(process))
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
        before = self._content("db")
        with self._open(self.disk.process()) as db:
            again = [{"id": i, "label": label} for i, label in self.acknowledged.items()]
            outcome = db.insert(again)
            assert outcome.duplicates == len(again), "a stored result was not recognised"
        assert self._content("db") == before, "a second recovery changed the text"

    def _open(self, process: SimulatedProcess) -> TextDatabase:
        return TextDatabase(self.path, wait=False, storage=process, rotation=self.rotation)

    def _content(self, stem: str) -> bytes:
        """All parts of a text, and the text."""
        text = self.path.with_name(f"{stem}.txt")
        parts = sorted(name for name in self.disk.names if name.name.startswith(f"{stem}.part-"))
        return b"".join(
            self.disk.content(name)
            for name in [*parts, text]
            if name in self.disk.names and name.suffix == ".txt"
        )

    def _rows(self, stem: str) -> list[dict[str, Any]]:
        rows = [codec.decode(line) for line in self._content(stem).split(b"\n")]
        return [row for row in rows if row is not None]

    def _compare(self) -> None:
        rows = self._rows("db")
        ids = [row["id"] for row in rows]
        assert len(ids) == len(set(ids)), "an id stands twice"
        labels = {row["id"]: row["label"] for row in rows}
        lost = {i for i, label in self.acknowledged.items() if labels.get(i) != label}
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        kept_ids = [row["id"] for row in self._rows("db.conflicts")]
        assert self.conflicts <= set(kept_ids), "a reported conflict was not kept"
        assert len(kept_ids) == len(set(kept_ids)), "the same conflict was kept twice"
        shadows = [row["id"] for row in self._rows("db.shadow")]
        assert self.shadows <= set(shadows), "a shadow's answer was lost"
        assert len(shadows) == len(set(shadows)), "a shadow's answer stands twice"
        self._compare_lists()

    def _compare_lists(self) -> None:
        """What `verify` says of the parts: nothing, whatever call the process stopped at."""
        for stem in ("db", "db.conflicts", "db.shadow"):
            path = self.path.with_name(f"{stem}.txt")
            process = self.disk.process()
            found = {each: part_path(path, each) for each in part_numbers(path, process)}
            listed = read_list(path, process)
            assert listed is not None or not found, "parts without a list"
            if listed is not None:
                assert differences(path, process, found, listed) == []

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
            break
        if self.rotation is not None:
            self._store_shadows(db, rows)

    def _store_shadows(self, db: TextDatabase, rows: list[dict[str, Any]]) -> None:
        shadows = {row["id"]: {"id": row["id"], "label": "7", "model": "new"} for row in rows}
        for _ in range(TRIES):
            try:
                db.insert_shadow(list(shadows.values()))
            except DatabaseUnavailableError:
                continue
            self.shadows.update(shadows)
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
        db._rows.abandon()
        db._refused.abandon()
        db._shadow.abandon()


def _until_it_works(action: Callable[[], Any]) -> Any:
    for _ in range(TRIES):
        try:
            return action()
        except DatabaseUnavailableError as error:
            last = error
    raise last
