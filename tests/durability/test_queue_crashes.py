"""The queue's process stops at every system call in turn, by a kill or by a power loss."""

import errno
import random

import pytest

from tests.durability.queue_story import Story, calls_of_a_whole_life
from tests.durability.simulated_disk import POWER_LOSSES, SimulatedDisk, crash_at, fail_at
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")

SEEDS = (1, 2, 3)
STEPS = 40


def end(disk, how, seed):
    if how != "kill":
        disk.lose_power(how, seed)


def test_the_story_that_is_interrupted_seals_removes_and_syncs(tmp_path):
    calls = calls_of_a_whole_life(tmp_path, SEEDS[0], STEPS)
    assert {"write", "sync", "rename", "unlink", "sync_directory", "open", "lock"} <= set(calls)


@pytest.mark.parametrize("how", ["kill", *POWER_LOSSES])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_whatever_call_the_process_stops_at(tmp_path, how, seed):
    calls = len(calls_of_a_whole_life(tmp_path, seed, STEPS))
    for call in range(1, calls + 1):
        story = Story(SimulatedDisk(tmp_path), seed)
        assert not story.live(story.disk.process(crash_at(call), seed=call), STEPS)
        end(story.disk, how, seed=call)
        print(f"seed {seed}, stopped at call {call}, {how}")
        story.check()


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_lost_when_the_recovery_is_interrupted_as_well(tmp_path, seed):
    rng = random.Random(seed)
    story = Story(SimulatedDisk(tmp_path), seed)
    for _ in range(6):
        story.live(story.disk.process(crash_at(rng.randint(1, 90)), seed=rng.random()), STEPS)
        end(story.disk, rng.choice(["kill", *POWER_LOSSES]), rng.randrange(1 << 30))
    print(f"seed {seed}")
    story.check()


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EINTR"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_call_that_fails_costs_nothing_but_an_error(tmp_path, error, seed):
    calls = len(calls_of_a_whole_life(tmp_path, seed, STEPS))
    for call in range(1, calls + 1):
        story = Story(SimulatedDisk(tmp_path), seed)
        story.live(story.disk.process(fail_at(call, getattr(errno, error)), seed=call), STEPS)
        story.disk.lose_power(POWER_LOSSES[call % 4], seed=call)
        print(f"seed {seed}, call {call} failed with {error}")
        story.check()


@pytest.mark.parametrize("how", ["kill", *POWER_LOSSES])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_failed_sync_acknowledges_nothing_and_loses_nothing(tmp_path, how, seed):
    calls = calls_of_a_whole_life(tmp_path, seed, STEPS)
    for number in range(1, calls.count("sync") + 1):
        story = Story(SimulatedDisk(tmp_path), seed)
        faults = fail_at(number, errno.EIO, only="sync")
        story.live(story.disk.process(faults, seed=number), STEPS)
        end(story.disk, how, seed=number)
        print(f"seed {seed}, sync {number} failed, then {how}")
        story.check()


@pytest.mark.parametrize("name", ["unlink", "sync", "write"])
def test_a_commit_that_is_done_does_not_fail_for_a_segment_that_cannot_be_removed(tmp_path, name):
    disk = SimulatedDisk(tmp_path)
    failing = []

    def faults(call, number):
        if call == name and failing:
            raise OSError(errno.EIO, "the disk fails")

    process = disk.process(faults)
    with FileQueue(tmp_path / "log.txt", segment_bytes=100, storage=process) as queue:
        for number in range(12):
            queue.put([{"n": number}])
        batch = queue.take(12, timeout=0)
        queue.take(1, timeout=0)
        if name != "unlink":  # the commit itself writes and syncs once before
            removing = queue._slot.consumer._cursor.write_both
            queue._slot.consumer._cursor.write_both = lambda position: (
                failing.append(1),
                removing(position),
            )
        else:
            failing.append(1)
        queue.commit(batch)
        assert not queue.take(1, timeout=0)
        assert any(path.name != "log.txt" for path in disk.names if path.suffix == ".txt")
        if name != "unlink":
            queue._slot.consumer._cursor.write_both = removing
        failing.clear()
        assert not queue.take(1, timeout=0)
        assert [path.name for path in disk.names if path.suffix == ".txt"] == ["log.txt"]
