"""Another checkpoint becomes the served one in one step, and back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import open_checkpoint, sha256_of
from Modelling.predict_cnn import load_classifier
from Modelling.promote import back, main, promote, switch
from tests.operations.scripts import CheckpointFolder

# What asks something of the system.
CALLS = {"open", "write", "fsync", "replace", "rename", "unlink", "chmod", "close", "mkstemp"}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[CheckpointFolder, CheckpointFolder]:
    served, new = CheckpointFolder(tmp_path / "served"), CheckpointFolder(tmp_path / "new")
    new.install(1)
    return served, new


def test_what_is_promoted_is_served_with_its_forms_and_what_was_before_comes_back(
    folders: tuple[CheckpointFolder, CheckpointFolder],
) -> None:
    served, new = folders
    before = load_classifier(served.path, threads=1).version
    assert main([str(new.path), "--served", str(served.path)]) == 0
    now = load_classifier(served.path, threads=1)
    assert now.version == f"mnist_cnn_model@{sha256_of(new.path)[:12]}+int8"
    assert main(["--back", "--served", str(served.path)]) == 0
    assert load_classifier(served.path, threads=1).version == before


def test_of_two_promotions_the_second_goes_back_to_the_first(
    folders: tuple[CheckpointFolder, CheckpointFolder],
) -> None:
    served, new = folders
    first = promote(new.path, served.path).version
    new.install(2)
    second = promote(new.path, served.path).version
    assert first != second
    assert back(served.path).version == first
    assert open_checkpoint(served.path).version == first


def test_what_is_promoted_again_keeps_the_way_back(
    folders: tuple[CheckpointFolder, CheckpointFolder],
) -> None:
    served, new = folders
    before = open_checkpoint(served.path).version
    for source in (new.path, new.path, served.path):
        promote(source, served.path)
    assert back(served.path).version == before
    with pytest.raises(CheckpointError, match="nothing was promoted"):
        back(served.path)


def test_two_models_are_gone_back_and_forth_between(
    folders: tuple[CheckpointFolder, CheckpointFolder],
) -> None:
    served, new = folders
    first = promote(new.path, served.path).version
    new.install(2)
    second = promote(new.path, served.path).version
    assert [back(served.path).version for _ in range(3)] == [first, second, first]


def test_where_nothing_was_served_before_there_is_no_way_back(
    folders: tuple[CheckpointFolder, CheckpointFolder], tmp_path: Path
) -> None:
    _, new = folders
    served = tmp_path / "a [new] place ä.h5"
    now = promote(new.path, served).version
    with pytest.raises(CheckpointError, match="nothing was served before"):
        back(served)
    assert open_checkpoint(served).version == now


def test_what_is_unfit_is_not_promoted(
    folders: tuple[CheckpointFolder, CheckpointFolder], tmp_path: Path
) -> None:
    served, _ = folders
    before = open_checkpoint(served.path)
    garbage = tmp_path / "garbage.h5"
    garbage.write_bytes(b"garbage")
    assert main([str(garbage), "--served", str(served.path)]) == 2
    assert open_checkpoint(served.path) == before
    with pytest.raises(CheckpointError, match="nothing was promoted"):
        back(served.path)


def test_killed_at_any_call_the_next_start_serves_the_old_or_the_new(tmp_path: Path) -> None:
    new = CheckpointFolder(tmp_path / "new")
    new.install(1)
    found, classifier = open_checkpoint(new.path), load_classifier(new.path, threads=1)
    seen = set()
    for number in range(1, 1000):
        served = CheckpointFolder(tmp_path / f"served{number}")
        old = open_checkpoint(served.path).version
        done = killed_at(number, lambda: switch(found, classifier, served.path))  # noqa: B023
        now = open_checkpoint(served.path, patience=0)
        assert now.version in (old, found.version)
        for form in now.side.engines.values() if now.side else ():
            assert sha256_of(now.path.with_name(form.file)) == form.sha256
        seen.add(now.version == found.version)
        if done:
            break
        for file in served.path.parent.iterdir():
            file.unlink()
    assert done
    assert seen == {False, True}


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
