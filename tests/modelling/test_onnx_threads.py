"""ONNX Runtime's threads: each on its core where all are the model's, and not awake for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from Modelling.network.foreign import ForeignEngine
from Modelling.network.input_range import UNIT
from Modelling.network.onnx_threads import Threads, threads_of, waiting_of_threads
from Modelling.network.side_by_side import SideBySide
from Modelling.network.tensors import Tensor
from Modelling.predict_cnn import load_classifier
from tests.modelling.foreign import SIDE, colours_onnx

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

on_several_cores = pytest.mark.skipif(
    len(CORES) < 2, reason="the system places no threads, or has one core: run it on Linux"
)

# Prints where each thread of the runtime may run, but for those that may run anywhere.
PLACES = """
import json, os, sys
import onnxruntime
from Modelling.network import onnx
from Modelling.network.input_range import UNIT
from Modelling.predict_cnn import load_classifier

def threads():
    return set(map(int, os.listdir("/proc/self/task")))

path, allowed, wanted = sys.argv[1], *map(json.loads, sys.argv[2:])
os.sched_setaffinity(0, allowed)
onnx.TWICE_BYTES = 0  # no threads but those of one session
before = threads()
classifier = load_classifier(path, threads=wanted, input_range=UNIT)
places = (sorted(os.sched_getaffinity(each)) for each in threads() - before)
print(json.dumps(sorted(each for each in places if each != allowed)))
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
    assert places(path, CORES, 2) == []


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


class Network:
    """Answers the pixel of each picture; knows in which threads, and how many pictures a call."""

    def __init__(self, together: int) -> None:
        self._together = threading.Barrier(together)
        self.calls: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.calls.append(len(batch))
        if threading.get_ident() not in self.threads:
            self.threads.add(threading.get_ident())
            self._together.wait(10)
        values = batch[:, 0, 0, 0] / 100
        return np.stack([values, 1 - values], axis=1).astype(np.float32)


def engine_of(shared: Network, single: Network, batch: int | None) -> ForeignEngine:
    return ForeignEngine(
        "test", Tensor("x", (batch, 2, 2, 1), np.float32), Tensor("y", (None, 2), np.float32),
        shared, None, UNIT, beside=SideBySide(single, 2),
    )  # fmt: skip


@pytest.mark.parametrize("fixed", [None, 1, 3])
def test_larger_batches_are_run_in_pieces_by_several_threads_at_once(fixed: int | None) -> None:
    """Where they were not at once, the barrier would break."""
    shared, single = Network(1), Network(2)
    engine = engine_of(shared, single, fixed)
    pictures = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None, None, None], (32, 2, 2, 1))
    before = len(shared.calls)
    assert (engine.run(pictures)[:, 0] * 100).round().tolist() == list(range(32))
    assert len(shared.calls) == before
    assert len(single.threads) == 2
    assert set(single.calls) == {fixed or 4}
    done = len(single.calls)
    engine.run(pictures[:3])
    assert (len(single.calls), len(shared.calls)) == (done, before + (1 if fixed != 1 else 3))


@on_several_cores
def test_threads_side_by_side_have_a_core_each() -> None:
    together = threading.Barrier(2)
    found: list[list[int]] = []

    def work(start: int) -> None:
        together.wait(10)
        found.append(sorted(os.sched_getaffinity(0)))

    SideBySide(Network(1), 2, CORES[:2]).run(work, range(2))
    assert sorted(found) == [[core] for core in CORES[:2]]


def test_threads_and_the_network_go_with_the_engine() -> None:
    """A server that reloads its model a hundred times has the threads and memory of one."""
    beside, threads = SideBySide(Network(1), 1, CORES[:1]), set()
    beside.run(lambda start: threads.add(threading.current_thread()), range(2))
    network = weakref.ref(beside.call)
    del beside
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert network() is None


def test_what_one_piece_raises_is_raised() -> None:
    def fails(batch: np.ndarray) -> np.ndarray:
        raise ValueError(len(batch))

    with pytest.raises(ValueError, match="2"):
        engine_of(Network(1), fails, None).run(np.zeros((16, 2, 2, 1), np.float32))  # type: ignore[arg-type]


def test_batches_are_answered_as_single_pictures_are(tmp_path: Path) -> None:
    classifier = load_classifier(colours_onnx(tmp_path / "colours.onnx"), threads=3)
    pictures = np.random.default_rng(0).random((200, SIDE, SIDE, 3), np.float32)
    alone = np.concatenate([classifier.probabilities(each[None]) for each in pictures])
    assert np.abs(classifier.probabilities(pictures) - alone).max() < 1e-5
