"""Removing old parts of the DB: on a disk that is full, and whatever call it stops at."""

import subprocess
import sys
from pathlib import Path

import pytest

from DB import Rotation, open_database
from DB.text.database import TextDatabase
from DB.text.part_list import differences, read_list
from DB.text.parts import part_numbers, part_path, part_paths
from DurableText import codec
from DurableText.storage import STORAGE
from tests.durability.db_story import abandon
from tests.durability.simulated_disk import POWER_LOSSES, Crash, SimulatedDisk, crash_at
from tests.small_disk import fill, mounted

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_disk(tmp_path):
    with mounted(tmp_path / "disk", 4 << 20) as folder:
        yield folder


@pytest.mark.parametrize("keep", [0, 2])
def test_retention_makes_room_on_a_disk_that_is_full_to_its_last_block(small_disk, keep):
    path = small_disk / "db.txt"
    with TextDatabase(path) as db:
        for number in range(5):
            db.insert([{"id": f"{number}-{n}", "label": "7" * 200} for n in range(500)])
            if number < 4:
                db.rotate()
    fill(small_disk)

    done = subprocess.run(
        [sys.executable, "-m", "DB", "rotate", "--db", str(path), "--keep", str(keep)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert part_paths(path, STORAGE) == [part_path(path, number) for number in range(6 - keep, 6)]
    with TextDatabase(path) as db:
        assert db.insert([{"id": "later", "label": "7"}]).inserted == 1
        assert db.verify().problems == []
        assert db.count() == keep * 500 + 1


KEEP, INSERTS = 2, 6


def insert_all(disk, faults=None, seed=0):
    """Each row is a part of its own; return those that were acknowledged."""
    db, done = None, []
    try:
        process = disk.process(faults, seed=seed)
        rotation = Rotation(bytes=1, keep=KEEP)
        db = TextDatabase(disk.folder / "db.txt", storage=process, rotation=rotation)
        for number in range(INSERTS):
            db.insert([{"id": f"id-{number}", "label": "7"}])
            done.append(f"id-{number}")
    except Crash:
        return done, process
    finally:
        abandon(db)
    return done, process


def rows_of(disk):
    path = disk.folder / "db.txt"
    numbers = part_numbers(path, disk.process())
    texts = [each for each in (*(part_path(path, n) for n in numbers), path) if each in disk.names]
    lines = [line for text in texts for line in disk.content(text).split(b"\n") if line.strip()]
    return [codec.decode(line)["id"] for line in lines]


# At every call in the soak; else at every so many of them.
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.soak), 11])
@pytest.mark.parametrize("how", ["kill", *POWER_LOSSES])
def test_retention_may_stop_at_any_call_and_takes_none_that_is_to_be_kept(tmp_path, how, stride):
    """The newest `KEEP` rows are there, no older one is without those behind it, and none twice."""
    _, process = insert_all(SimulatedDisk(tmp_path))
    first = 1 + [*POWER_LOSSES, "kill"].index(how) % stride
    for call in range(first, len(process.calls) + 1, stride):
        for index in tmp_path.glob("*index*"):
            index.unlink()
        disk = SimulatedDisk(tmp_path)
        done, _ = insert_all(disk, crash_at(call), seed=call)
        if how != "kill":
            disk.lose_power(how, seed=call)
        print(f"stopped at call {call}, {how}")

        path = tmp_path / "db.txt"
        with TextDatabase(path, storage=disk.process(), rotation=Rotation(keep=KEEP)):
            rows = rows_of(disk)
        assert rows == sorted(set(rows))
        assert not done or set(done[-KEEP:]) <= set(rows)
        assert len(rows) <= KEEP + 2
        newest = int(rows[-1][3:]) if rows else -1
        assert rows == [f"id-{number}" for number in range(newest + 1 - len(rows), newest + 1)]
        found = {each: part_path(path, each) for each in part_numbers(path, disk.process())}
        listed = read_list(path, disk.process())
        assert listed is not None or not found
        if listed is not None:
            assert differences(path, disk.process(), found, listed) == []


def test_what_is_read_meanwhile_is_read_to_its_end(tmp_path):
    """A reader has the part open that retention removes."""
    path = tmp_path / "db.txt"
    with TextDatabase(path) as db:
        db.insert([{"id": str(number), "label": "7"} for number in range(2000)])
        db.rotate()
        with open_database(path, read_only=True) as reader:
            rows = iter(reader)
            next(rows)
            db.rotate(keep=0)
            assert len(list(rows)) == 1999
