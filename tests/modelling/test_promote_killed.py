"""Promoting and going back, killed at any system call: what is served is the old or the new one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from Modelling.network.checkpoint import Checkpoint, open_checkpoint, sha256_of
from Modelling.promote import back, switch
from tests.modelling.foreign import colours_onnx
from tests.operations.scripts import CheckpointFolder

# What asks something of the system, and changes something.
CALLS = frozenset(
    (
        "open", "write", "fdatasync", "fsync", "replace", "rename", "unlink", "chmod", "close",
        "mkstemp", "mkdir", "rmdir", "sendfile", "copy_file_range", "utime", "symlink", "link",
        "ftruncate",
    )
)  # fmt: skip

# All that is asked of a model when it is promoted.
MODEL: Any = SimpleNamespace(labels=("red", "green", "blue"), input_shape=(8, 8, 3))


def keras(folder: Path, number: int) -> Path:
    made = CheckpointFolder(folder)
    made.install(number)
    return made.path


def onnx(folder: Path, number: int) -> Path:
    folder.mkdir()
    return colours_onnx(folder / "colours.onnx", layout=("NHWC", "NCHW")[number])


def saved_model(folder: Path, number: int) -> Path:
    path = folder / "colours"
    (path / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data"):
        (path / name).write_text(f"{name} of {number}")
    return path


def link(folder: Path, number: int) -> Path:
    """What is served by a link to a file elsewhere."""
    (folder / "served").mkdir(parents=True)
    path = folder / "served" / "current.onnx"
    path.symlink_to(onnx(folder / "elsewhere", number))
    return path


@pytest.mark.parametrize("kind", [keras, onnx, saved_model, link])
@pytest.mark.parametrize("way", ["there", "back", "between"])
def test_killed_at_any_call_the_next_start_serves_the_old_or_the_new(
    kind: Callable[[Path, int], Path], way: str, tmp_path: Path
) -> None:
    first, second = (open_checkpoint(kind(tmp_path / f"new{n}", n)) for n in (0, 1))
    served = kind(tmp_path / "served", 0)
    for promoted in {"there": [], "back": [second], "between": [second, first]}[way]:
        switch(promoted, MODEL, served)
    old, found = (second, first) if way == "back" else (first, second)
    work = partial(switch, found, MODEL, served) if way == "there" else partial(back, served)
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "served", before, symlinks=True)
    seen = set()
    for number in range(1, 1000):
        done = killed_at(number, work)
        now = open_checkpoint(served, patience=0)
        assert now.sha256 in (old.sha256, found.sha256)
        assert_whole(now)
        seen.add(now.sha256)
        if done:
            break
        if now.sha256 == old.sha256:
            work()  # the next try goes through, whatever the one before has left
        assert open_checkpoint(served, patience=0).sha256 == found.sha256
        shutil.rmtree(tmp_path / "served")
        shutil.copytree(before, tmp_path / "served", symlinks=True)
    assert done
    assert seen == {old.sha256, found.sha256}


def assert_whole(now: Checkpoint) -> None:
    for form in now.side.engines.values() if now.side else ():
        assert sha256_of(now.path.with_name(form.file)) == form.sha256
    if now.weights.is_dir():
        assert (now.weights / "variables" / "variables.data").exists()


def killed_at(number: int, work: Callable[[], Any]) -> bool:
    """Do work in a process that is killed at its n-th call of the system; whether it was done."""
    child = os.fork()
    if child == 0:
        left = number

        def count(_frame: FrameType, event: str, called: Any) -> None:
            nonlocal left
            if event in ("c_call", "c_return") and called.__name__ in CALLS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == 0
