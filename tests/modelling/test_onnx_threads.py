"""ONNX Runtime's threads: each on its core where all are the model's, and not awake for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from Modelling.network.onnx_threads import Threads, threads_of, waiting_of_threads
from tests.modelling.foreign import colours_onnx

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

on_several_cores = pytest.mark.skipif(
    len(CORES) < 2, reason="the system places no threads, or has one core: run it on Linux"
)

# Prints where each thread may run that came with a file.
PLACES = """
import json, os, sys
import onnxruntime
from Modelling.network.input_range import UNIT
from Modelling.predict_cnn import load_classifier

def threads():
    return set(map(int, os.listdir("/proc/self/task")))

path, allowed, wanted = sys.argv[1], *map(json.loads, sys.argv[2:])
os.sched_setaffinity(0, allowed)
before = threads()
classifier = load_classifier(path, threads=wanted, input_range=UNIT)
print(json.dumps(sorted(sorted(os.sched_getaffinity(each)) for each in threads() - before)))
"""


def places(path: Path, allowed: list[int], threads: int | None) -> list[list[int]]:
    done = subprocess.run(
        [sys.executable, "-c", PLACES, str(path), json.dumps(allowed), json.dumps(threads)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    found: list[list[int]] = json.loads(done.stdout)
    return found


@on_several_cores
@pytest.mark.parametrize("allowed", [CORES, CORES[1:], CORES[-2:]], ids=["all", "but one", "two"])
def test_each_thread_has_a_core_and_none_that_is_not_allowed(
    allowed: list[int], tmp_path: Path
) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    assert places(path, allowed, None) == [[core] for core in allowed[1:]]


@on_several_cores
def test_of_a_number_of_threads_the_system_says_where_they_run(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    assert places(path, CORES, 2) == [CORES]


@on_several_cores
def test_the_caller_has_its_core_for_the_time_of_a_call() -> None:
    threads = Threads(2, (CORES[1], CORES[0]))
    with pytest.raises(ZeroDivisionError), threads.calling():
        assert os.sched_getaffinity(0) == {CORES[1]}
        raise ZeroDivisionError
    assert sorted(os.sched_getaffinity(0)) == CORES


@on_several_cores
def test_a_core_that_was_taken_away_costs_no_call() -> None:
    with Threads(2, (CORES[-1] + 1, CORES[0])).calling():
        assert sorted(os.sched_getaffinity(0)) == CORES


def test_where_nothing_is_said_of_cores_nothing_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    threads = threads_of(None)
    assert not threads.cores
    with threads.calling():
        assert "_thread_affinities" not in threads.entries("1.32.0")


@pytest.mark.parametrize("version", ["1.9.0", "1.25.3", "1.26.0", "1.32.0", "2.0.0+dev1"])
def test_threads_never_spin_without_a_bound(version: str) -> None:
    """Runtimes that do not know the bound would spin for as long as they like."""
    waiting = waiting_of_threads(version)
    assert waiting["allow_spinning"] == "0" or int(waiting["spin_duration_us"]) <= 100
    assert (waiting["allow_spinning"] == "1") is (version not in ("1.9.0", "1.25.3"))
