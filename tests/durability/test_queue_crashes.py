"""A process stops at every system call in turn, by a kill or by a power loss.

First the only one that uses the queue, then one of two, while the other one goes on.
"""

import contextlib
import errno
import random

import pytest

from Queue import QueueUnavailableError
from tests.durability.queue_story import DuoStory, Story, calls_of_a_whole_life
from tests.durability.simulated_disk import POWER_LOSSES, SimulatedDisk, crash_at, fail_at
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")

# One is always tried, all in the soak.
FIRST_SEED = 1
SEEDS = (FIRST_SEED, *(pytest.param(each, marks=pytest.mark.soak) for each in (2, 3)))
STEPS = 40
DUO_SEEDS = (FIRST_SEED, pytest.param(2, marks=pytest.mark.soak))
DUO_STEPS = 60


def end(disk, how, seed):
    if how != "kill":
        disk.lose_power(how, seed)


def test_the_story_that_is_interrupted_seals_removes_and_syncs(tmp_path):
    calls = calls_of_a_whole_life(tmp_path, FIRST_SEED, STEPS)
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


# ---------------------------------------------------------------------- one of two processes


def calls_without_faults(folder, seed):
    story = DuoStory(SimulatedDisk(folder), seed)
    producing, consuming = story.disk.process(), story.disk.process()
    story.run(DUO_STEPS, producing, consuming)
    story.check()
    return producing.calls, consuming.calls


@pytest.mark.parametrize("seed", DUO_SEEDS)
def test_a_consumer_at_work_survives_a_producer_that_stops_at_any_call(tmp_path, seed):
    calls, _ = calls_without_faults(tmp_path, seed)
    for call in range(1, len(calls) + 1):
        story = DuoStory(SimulatedDisk(tmp_path), seed)
        story.run(DUO_STEPS, story.disk.process(crash_at(call), seed=call), story.disk.process())
        print(f"seed {seed}, producer stopped at call {call}")
        story.check()


@pytest.mark.parametrize("seed", DUO_SEEDS)
def test_a_producer_at_work_survives_a_consumer_that_stops_at_any_call(tmp_path, seed):
    _, calls = calls_without_faults(tmp_path, seed)
    for call in range(1, len(calls) + 1):
        story = DuoStory(SimulatedDisk(tmp_path), seed)
        story.run(DUO_STEPS, story.disk.process(), story.disk.process(crash_at(call), seed=call))
        print(f"seed {seed}, consumer stopped at call {call}")
        story.check()


@pytest.mark.parametrize("how", POWER_LOSSES)
@pytest.mark.parametrize("seed", DUO_SEEDS)
def test_a_consumer_that_has_read_what_a_failed_sync_lost_misses_nothing(tmp_path, seed, how):
    calls, _ = calls_without_faults(tmp_path, seed)
    for number in range(1, calls.count("sync") + 1):
        story = DuoStory(SimulatedDisk(tmp_path), seed)
        faults = fail_at(number, errno.EIO, only="sync")
        story.run(DUO_STEPS, story.disk.process(faults, seed=number), story.disk.process())
        story.disk.lose_power(how, seed=number)
        print(f"seed {seed}, producer's sync {number} failed, then power loss ({how})")
        story.check()


@pytest.mark.parametrize("name", ["write", "sync", "read", "rename", "open"])
def test_a_disk_that_fails_several_times_in_a_row_loses_nothing(tmp_path, name):
    def failing(first, last):
        seen = 0

        def faults(call, number):
            nonlocal seen
            if call == name:
                seen += 1
                if first <= seen <= last:
                    raise OSError(errno.EIO, "the disk fails")

        return faults

    for first in range(1, 30):
        story = DuoStory(SimulatedDisk(tmp_path), first)
        faults = failing(first, first + 3)
        story.run(DUO_STEPS, story.disk.process(faults, seed=first), story.disk.process())
        story.disk.lose_power(POWER_LOSSES[first % 4], seed=first)
        print(f"{name} failed from its call {first} on")
        story.check()


@pytest.mark.parametrize("segment_bytes", [120, 1 << 20])
@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO])
def test_a_producer_that_fails_to_look_at_what_another_has_written_does_not_use_its_numbers(
    tmp_path, error, segment_bytes
):
    """One has appended or sealed; the other one fails at any call while it takes that in."""
    call, calls = 0, 1
    while call < calls:
        call += 1
        disk = SimulatedDisk(tmp_path)
        path = tmp_path / "log.txt"
        process = disk.process(fail_at(call, error))
        failed = []

        def put(queue, *numbers, failed=failed):
            for _ in range(2):
                try:
                    queue.put([{"n": number} for number in numbers])
                except QueueUnavailableError as failure:
                    failed.append(failure)
                else:
                    return

        one = None
        for _ in range(2):
            with contextlib.suppress(QueueUnavailableError):
                one = one or FileQueue(path, storage=process, segment_bytes=segment_bytes)
        with FileQueue(path, storage=disk.process(), segment_bytes=segment_bytes) as other:
            for start in range(1, 40, 8):
                put(one, *range(start, start + 4))
                put(other, *range(start + 4, start + 8))
            taken = []
            while batch := other.take(9, timeout=0):
                taken += [record["n"] for record in batch.records]
                other.commit(batch)
        print(f"call {call} failed, the puts {failed}")
        assert list(dict.fromkeys(taken)) == list(range(1, 41))
        calls = len(process.calls)
        one.close()
    assert calls > 40
