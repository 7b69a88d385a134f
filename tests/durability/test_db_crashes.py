"""The DB's process stops or fails at every system call in turn; the index may be lost as well."""

import base64
import errno
import itertools
import random

import pytest

import DB.text.index
from DB import DatabaseUnavailableError, Rotation
from DB.text.database import TextDatabase
from DurableText import codec
from tests.durability.db_story import INDEX_FATES, DatabaseStory, IndexCopies, abandon
from tests.durability.simulated_disk import POWER_LOSSES, SimulatedDisk, crash_at, fail_at

STEPS = 10
FEW_STEPS = 4  # each of them makes parts


@pytest.fixture(autouse=True)
def _index_written_at_once(monkeypatch):
    """Each insert reaches the index file, so that it can be ahead of the text after a crash."""
    monkeypatch.setattr(DB.text.index, "PENDING_NEIGHBOURS", 1)
    monkeypatch.setattr(DB.text.index, "PENDING_ROWS", 1)


def calls_of_a_whole_life(folder, seed):
    story = DatabaseStory(SimulatedDisk(folder), seed)
    process = story.disk.process()
    assert story.live(process, STEPS)
    story.check()
    return process.calls


# All of them are for the soak; one of each is always tried.
STOPS = list(itertools.product(["kill", *POWER_LOSSES], INDEX_FATES))
ONE_OF_EACH = [
    (how, INDEX_FATES[n % len(INDEX_FATES)]) for n, how in enumerate(["kill", *POWER_LOSSES])
]


@pytest.mark.parametrize(
    ("how", "fate"),
    [pytest.param(*stop, marks=() if stop in ONE_OF_EACH else pytest.mark.soak) for stop in STOPS],
)
def test_nothing_is_lost_or_stored_twice_whatever_call_the_process_stops_at(tmp_path, how, fate):
    seed = 1
    calls = calls_of_a_whole_life(tmp_path, seed)
    assert {"write", "sync", "sync_directory", "open", "lock"} <= set(calls)
    copies = IndexCopies(tmp_path)
    for call in range(1, len(calls) + 1):
        story = DatabaseStory(SimulatedDisk(tmp_path), seed)
        story.live(story.disk.process(), steps=2)
        copies.save()
        assert not story.live(story.disk.process(crash_at(call), seed=call), STEPS)
        if how != "kill":
            story.disk.lose_power(how, seed=call)
        copies.meet(fate)
        print(f"seed {seed}, stopped at call {call}, {how}, index {fate}")
        story.check()


# At every call in the soak; else at every so many of them.
STRIDES = [pytest.param(1, marks=pytest.mark.soak), 11]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("how", ["kill", *POWER_LOSSES])
def test_a_rotation_of_results_conflicts_and_shadows_may_stop_at_any_call(tmp_path, how, stride):
    """Nothing is lost or stored twice, and the list of parts fits what is there."""
    seed, rotation = 3, Rotation(bytes=100)
    whole = DatabaseStory(SimulatedDisk(tmp_path), seed, rotation)
    process = whole.disk.process()
    assert whole.live(process, FEW_STEPS)
    assert {"db.part-000002.txt", "db.conflicts.part-000001.txt", "db.shadow.part-000001.txt"} <= {
        name.name for name in whole.disk.names
    }
    copies = IndexCopies(tmp_path)
    first = 1 + (POWER_LOSSES.index(how) if how in POWER_LOSSES else len(POWER_LOSSES)) % stride
    for call in range(first, len(process.calls) + 1, stride):
        story = DatabaseStory(SimulatedDisk(tmp_path), seed, rotation)
        story.live(story.disk.process(), steps=1)
        copies.save()
        story.live(story.disk.process(crash_at(call), seed=call), FEW_STEPS)
        if how != "kill":
            story.disk.lose_power(how, seed=call)
        copies.meet(INDEX_FATES[call % len(INDEX_FATES)])
        print(f"seed {seed}, stopped at call {call}, {how}")
        story.check()


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("error", "first"), [("EIO", 1), ("ENOSPC", 3)])
def test_a_call_of_a_rotation_that_fails_costs_nothing_but_an_error(tmp_path, error, first, stride):
    seed, rotation = 3, Rotation(bytes=100)
    whole = DatabaseStory(SimulatedDisk(tmp_path), seed, rotation)
    process = whole.disk.process()
    assert whole.live(process, FEW_STEPS)
    for call in range(first, len(process.calls) + 1, stride):
        story = DatabaseStory(SimulatedDisk(tmp_path), seed, rotation)
        story.live(story.disk.process(fail_at(call, getattr(errno, error)), seed=call), FEW_STEPS)
        story.disk.lose_power(POWER_LOSSES[call % 4], seed=call)
        print(f"seed {seed}, call {call} failed with {error}")
        story.check()


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_lost_when_the_recovery_is_interrupted_as_well(tmp_path, seed):
    rng = random.Random(seed)
    copies = IndexCopies(tmp_path)
    story = DatabaseStory(SimulatedDisk(tmp_path), seed)
    print(f"seed {seed}")
    for _ in range(5):
        copies.save()
        story.live(story.disk.process(crash_at(rng.randint(5, 50)), seed=rng.random()), STEPS)
        if rng.random() < 0.8:
            story.disk.lose_power(rng.choice(POWER_LOSSES), rng.randrange(1 << 30))
        copies.meet(rng.choice(INDEX_FATES))
    story.check()


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EINTR"])
def test_a_call_that_fails_costs_nothing_but_an_error(tmp_path, error):
    seed = 2
    calls = len(calls_of_a_whole_life(tmp_path, seed))
    for call in range(1, calls + 1):
        story = DatabaseStory(SimulatedDisk(tmp_path), seed)
        story.live(story.disk.process(fail_at(call, getattr(errno, error)), seed=call), STEPS)
        story.disk.lose_power(POWER_LOSSES[call % 4], seed=call)
        print(f"seed {seed}, call {call} failed with {error}")
        story.check()


@pytest.mark.parametrize("how", POWER_LOSSES)
def test_a_failed_sync_acknowledges_nothing_and_loses_nothing(tmp_path, how):
    seed = 3
    syncs = calls_of_a_whole_life(tmp_path, seed).count("sync")
    for number in range(1, syncs + 1):
        for times in (1, 2, 3):
            story = DatabaseStory(SimulatedDisk(tmp_path), seed)
            faults = _failing_syncs(number, times)
            story.live(story.disk.process(faults, seed=number), STEPS)
            story.disk.lose_power(how, seed=number)
            print(f"seed {seed}, sync {number} failed {times} times, then power loss ({how})")
            story.check()


def _failing_syncs(first, times):
    seen = 0

    def faults(name, number):
        nonlocal seen
        if name == "sync":
            seen += 1
            if first <= seen < first + times:
                raise OSError(errno.EIO, "the disk fails")

    return faults


@pytest.mark.parametrize("seed", range(12))
def test_rows_whose_sync_failed_before_a_kill_are_on_the_disk_before_they_count_as_duplicates(
    tmp_path, seed
):
    """What a failed sync takes to the disk is chance: with most of the seeds, not the row."""
    disk = SimulatedDisk(tmp_path)
    path, row = tmp_path / "db.txt", {"id": "a", "label": "1"}
    process = disk.process(_failing_syncs(2, 9), seed=seed)
    db = TextDatabase(path, storage=process)
    with pytest.raises(DatabaseUnavailableError):
        db.insert([row])
    process.kill()
    abandon(db)
    # The kernel shows the row to the next process, and believes that the disk has it.
    assert b'"id":"a"' in disk.content(path)
    with TextDatabase(path, storage=disk.process()) as db:
        db.insert([row])
    disk.lose_power("none", seed=seed)
    assert codec.decode(disk.content(path).strip())["id"] == "a"


def test_a_full_disk_refuses_stores_nothing_by_half_and_goes_on_once_there_is_room(tmp_path):
    disk = SimulatedDisk(tmp_path)
    path = tmp_path / "db.txt"
    rows = [{"id": f"id-{number}", "label": "1", "text": "x" * 300} for number in range(60)]
    with TextDatabase(path, storage=disk.process()) as db:
        db.insert(rows[:5])
        disk.full = True
        with pytest.raises(DatabaseUnavailableError, match="room on the disk"):
            db.insert(rows)
        with pytest.raises(DatabaseUnavailableError):
            db.insert(rows)
        disk.full = False
        db.insert(rows)
    stored = [codec.decode(line) for line in disk.content(path).split(b"\n") if line.strip()]
    assert [row["id"] for row in stored] == [row["id"] for row in rows]


def test_rows_that_a_failed_insert_left_are_neither_forgotten_nor_stored_twice(tmp_path):
    disk = SimulatedDisk(tmp_path)
    path = tmp_path / "db.txt"
    rows = [{"id": f"id-{number}", "label": "1", "text": "x" * 300} for number in range(60)]
    with TextDatabase(path, storage=disk.process()) as db:
        db.insert([{"id": "first", "label": "1"}])
        disk.full = True
        with pytest.raises(DatabaseUnavailableError):
            db.insert(rows)
        disk.full = False
        assert disk.content(path).count(b"\n") > 5, "some whole rows are there"
        db.insert([{"id": "short", "label": "2"}])
        db.insert(rows[5:6])
        ids = _ids(disk.content(path))
        assert len(ids) == len(set(ids)), "a row that the failed insert left is stored again"
        db.insert(rows)
    ids = _ids(disk.content(path))
    assert sorted(ids) == sorted({"first", "short", *(row["id"] for row in rows)})


def _ids(content):
    return [codec.decode(line)["id"] for line in content.split(b"\n") if line.strip()]


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 200_000, b'{"id":"torn', b"\xff" * (2 << 20)])
def test_a_torn_end_is_put_aside_and_the_next_row_stands_on_a_line_of_its_own(tmp_path, tail):
    disk = SimulatedDisk(tmp_path)
    path = tmp_path / "db.txt"
    with TextDatabase(path, storage=disk.process()) as db:
        db.insert([{"id": "a", "label": "1"}])
    disk.put(path, disk.content(path) + tail)
    with TextDatabase(path, storage=disk.process()) as db:
        assert db.insert([{"id": "a", "label": "1"}, {"id": "b", "label": "2"}]).inserted == 1
    lines = [line for line in disk.content(path).split(b"\n") if line.strip()]
    assert [codec.decode(line)["id"] for line in lines] == ["a", "b"]
    entries = disk.content(tmp_path / "db.quarantine.txt").splitlines()
    kept = b"".join(base64.b64decode(codec.decode(entry)["base64"]) for entry in entries)
    assert kept == tail, "not all of the torn end is kept"


def test_one_flipped_bit_costs_at_most_two_rows_and_they_are_stored_again(tmp_path):
    rows = [{"id": f"id-{number}", "label": "1"} for number in range(8)]
    disk = SimulatedDisk(tmp_path)
    path = tmp_path / "db.txt"
    with TextDatabase(path, storage=disk.process()) as db:
        db.insert(rows)
    healthy = disk.content(path)
    copies = IndexCopies(tmp_path)
    copies.save()
    for bit in range(0, len(healthy) * 8, 29):
        damaged = bytearray(healthy)
        damaged[bit // 8] ^= 1 << bit % 8
        disk = SimulatedDisk(tmp_path)
        disk.put(path, bytes(damaged))
        copies.meet(INDEX_FATES[bit % 3])
        with TextDatabase(path, storage=disk.process()) as db:
            assert db.insert(rows).inserted <= 2, f"bit {bit}"
            assert sorted(row["id"] for row in db) == [row["id"] for row in rows], f"bit {bit}"
