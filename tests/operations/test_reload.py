"""A new checkpoint takes over while the server runs; an unfit one does not."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest

from Modelling.data_preparation import encode_npy
from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import (
    DEFAULT_CHECKPOINT,
    PATIENCE,
    Checkpoint,
    write_atomically,
)
from Modelling.predict_cnn import load_classifier
from Modelling.predictor import Item, Predictor
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from Modelling.promote import back, promote
from Pipeline.serving.live_model import LiveModel, Signature
from Pipeline.serving.watchdog import Watchdog
from Pipeline.stop import Stop
from tests.brokers.harness import clean_environment
from tests.operations.scripts import CheckpointFolder, scrape
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, Pipeline, read_terminal, wait_until
from tests.servers import free_port

RELOADS = 10


def load_with_one_thread(found: Checkpoint) -> Predictor:
    return ImagePredictor(load_classifier(found, threads=1))


@contextlib.contextmanager
def live(
    path: Path,
    *,
    stop: Stop | None = None,
    look_seconds: float = 0.02,
    patience: float = PATIENCE,
    load: Callable[[Checkpoint], Predictor] = load_with_one_thread,
) -> Iterator[LiveModel]:
    source = CheckpointSource(path, load, patience=patience)
    with (
        Watchdog() as watchdog,
        LiveModel(source, stop or Stop(), watchdog, look_seconds=look_seconds) as model,
    ):
        yield model


@pytest.fixture
def checkpoint(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints")


@pytest.fixture
def model(checkpoint: CheckpointFolder, caplog: pytest.LogCaptureFixture) -> Iterator[LiveModel]:
    """It looks often, and waits for half a second instead of five: the rule is the same."""
    caplog.set_level(logging.INFO)
    with live(checkpoint.path, patience=0.5) as model:
        yield model


def test_a_new_checkpoint_takes_over_by_itself(
    checkpoint: CheckpointFolder, model: LiveModel
) -> None:
    before = model.current()
    version = checkpoint.install(1)
    wait_until(lambda: model.version.startswith(version), "the new one answers")
    item = Item(encode_npy(np.eye(28, dtype=np.uint8) * 255), {})
    expected = before.predict(before.prepare_batch([item])[0])
    assert model.current() is not before
    assert model.current().predict(model.current().prepare_batch([item])[0]) == expected
    assert model.reloads == {"swapped": 1, "refused": 0}


def test_a_link_that_is_switched_releases_a_checkpoint_and_takes_it_back(tmp_path: Path) -> None:
    releases = [CheckpointFolder(tmp_path / name) for name in ("old", "new")]
    versions = [f"@{open_sha(releases[0].path)[:12]}", releases[1].install(1)]
    link, other = tmp_path / "current", tmp_path / "next"
    link.symlink_to("old")
    served = link / releases[0].path.name
    with live(served, patience=0.5) as model:
        for number in (1, 0):
            other.symlink_to(("old", "new")[number])
            other.replace(link)
            wait_until(lambda n=number: versions[n] in model.version, "the other one answers")
        assert model.reloads == {"swapped": 2, "refused": 0}


def test_what_is_promoted_takes_over_and_back(
    checkpoint: CheckpointFolder, model: LiveModel, tmp_path: Path
) -> None:
    new = CheckpointFolder(tmp_path / "new")
    before, version = model.version, new.install(1)
    promote(new.path, checkpoint.path)
    wait_until(lambda: model.version.startswith(version), "the promoted one answers")
    back(checkpoint.path)
    wait_until(lambda: model.version == before, "the one before answers again")
    assert model.reloads == {"swapped": 2, "refused": 0}


def test_files_that_arrive_one_by_one_are_awaited(
    checkpoint: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with live(checkpoint.path) as model:
        new, side = checkpoint.successor(1)
        old_version = model.version
        write_atomically(checkpoint.path, new)
        wait_until(lambda: model._seen == model._signature(), "it was noticed")
        assert model.version == old_version
        write_atomically(checkpoint.side_file, side)
        wait_until(lambda: model.version != old_version, "the new one answers")
    assert "is unfit, " not in caplog.text


@pytest.mark.parametrize(
    "fault",
    ["half of the file", "garbage", "empty", "no JSON", "no side file", "form missing", "gone"],
)
def test_an_unfit_checkpoint_is_told_once_and_the_old_one_goes_on(
    fault: str,
    checkpoint: CheckpointFolder,
    model: LiveModel,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = model.current()
    new, _ = checkpoint.successor(1)
    # In one step, each: a file that is cut first and filled then would be two changes.
    if fault == "half of the file":
        write_atomically(checkpoint.path, new[: len(new) // 2])
    elif fault == "garbage":
        write_atomically(checkpoint.path, b"garbage")
    elif fault == "empty":
        write_atomically(checkpoint.path, b"")
    elif fault == "no JSON":
        write_atomically(checkpoint.side_file, b"{")
    elif fault == "no side file":
        checkpoint.side_file.unlink()
    elif fault == "form missing":
        checkpoint.forms[0].unlink()
    else:
        checkpoint.path.unlink()
    wait_until(lambda: model.reloads["refused"] > 0, "it was refused")
    let_it_look_again(model, monkeypatch)
    model.close()
    assert model.current() is before
    assert model.reloads == {"swapped": 0, "refused": 1}
    assert caplog.text.count("is unfit, ") == 1
    assert before.version in caplog.text


def test_a_checkpoint_that_declares_more_than_the_limit_does_not_take_over(tmp_path: Path) -> None:
    path = tmp_path / DEFAULT_CHECKPOINT.name
    shutil.copy(DEFAULT_CHECKPOINT, path)  # alone: nothing else is read
    large = tmp_path / "large.h5"
    shutil.copy(path, large)
    with h5py.File(large, "a") as file:
        file.create_dataset("model_weights/large", (1 << 42,), "u1", chunks=(1 << 20,))
    with live(path, patience=0.5) as model:
        before = model.current()
        large.replace(path)
        wait_until(lambda: model.reloads["refused"] > 0, "it was refused")
        assert model.current() is before


def test_a_compiled_form_that_comes_after_all_patience_is_over_is_noticed(
    checkpoint: CheckpointFolder, model: LiveModel
) -> None:
    form = checkpoint.forms[0]
    compiled = form.read_bytes()
    form.unlink()
    version = checkpoint.install(1)
    wait_until(lambda: model.reloads["refused"] > 0, "it was refused without the form")
    write_atomically(form, compiled)
    wait_until(lambda: model.version.startswith(version), "the new one answers")


def test_a_model_that_never_had_a_side_file_needs_none_later(checkpoint: CheckpointFolder) -> None:
    """Somebody else's model; loading it (with TensorFlow) is not what is tested here."""
    checkpoint.side_file.unlink()
    with live(checkpoint.path, load=SureOfItself) as model:
        new, _ = checkpoint.successor(1)
        write_atomically(checkpoint.path, new)
        wait_until(lambda: model.version == open_sha(checkpoint.path), "the new one answers")


class SureOfItself:
    """A predictor of which only the version counts."""

    def __init__(self, found: Checkpoint) -> None:
        self.version = found.sha256

    def warm_up(self) -> None: ...

    def close(self) -> None: ...


def open_sha(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def let_it_look_again(model: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()
    signature, enough = model._signature, threading.Event()

    def look() -> Signature:
        if next(looks) == 3:
            enough.set()
        return signature()

    monkeypatch.setattr(model, "_signature", look)
    assert enough.wait(PATIENCE_SECONDS)


def test_after_an_unfit_checkpoint_a_good_one_takes_over(
    checkpoint: CheckpointFolder, model: LiveModel
) -> None:
    write_atomically(checkpoint.path, b"garbage")
    wait_until(lambda: model.reloads["refused"] == 1, "the bad one was refused")
    version = checkpoint.install(2)
    wait_until(lambda: model.version.startswith(version), "the good one answers")


def test_hangup_alone_makes_it_look_at_once(
    checkpoint: CheckpointFolder,
) -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        # By itself it would never look.
        with live(checkpoint.path, look_seconds=3600.0) as model:
            model.on_signal()
            version = checkpoint.install(1)
            os.kill(os.getpid(), signal.SIGHUP)
            wait_until(lambda: model.version.startswith(version), "the new one answers")
            os.kill(os.getpid(), signal.SIGHUP)
            wait_until(lambda: model.reloads["swapped"] == 2, "also when nothing has changed")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_model_that_answers_nonsense_does_not_take_over() -> None:
    class Diverged:
        version, labels, input_shape = "diverged@1", ("0",) * 10, (28, 28, 1)

        def probabilities(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 10), np.nan, np.float32)

    with pytest.raises(CheckpointError, match="probabilities"):
        ImagePredictor(Diverged()).warm_up()  # type: ignore[arg-type]


def test_reloads_under_load_lose_nothing_and_every_result_names_its_model(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder, port = CheckpointFolder(tmp_path / "checkpoints"), free_port()
    sub = pipeline.sub("--checkpoint", folder.path, "--metrics-port", port).ready()
    pipeline.pub().ready()
    pipeline.app_2().ready()
    app_1 = pipeline.app_1("--count", 1_000_000, "--rate", 200)
    pipeline.wait_for_rows(50)

    versions = []
    for number in range(1, RELOADS + 1):
        versions.append(folder.install(number))
        sub.process.send_signal(signal.SIGHUP)  # at once, without waiting for the next look
        wait_until(
            lambda: str(pipeline.rows()[-1]["model"]).startswith(versions[-1]),
            f"reload {number} answers",
        )
    app_1.terminate()
    pipeline.wait_for_rows(len(pipeline.ids()))

    pipeline.assert_each_stored_once()
    used = [row["model"] for row in pipeline.rows()]
    assert [each for each in versions if any(model.startswith(each) for model in used)] == versions
    # A swap that is seen twice (by its files and by the signal) is fine; a refusal is not.
    assert scrape(port).values['serving_model_reloads{outcome="refused"}'] == 0
    assert sub.output.count("is unfit, ") == 0


def test_a_closed_terminal_ends_the_server_although_hangup_means_reload(
    pipeline: Pipeline,
) -> None:
    ours, theirs = pty.openpty()
    script = start_on(theirs, pipeline)
    os.close(theirs)
    read_terminal(ours, b"ready: ")
    os.close(ours)  # the terminal is gone
    script.send_signal(signal.SIGHUP)
    assert script.wait(30) == 0


def start_on(terminal: int, pipeline: Pipeline) -> subprocess.Popen[bytes]:
    """The server with a terminal for its messages."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "model_server_sub.py"), "--config-dir",
         str(pipeline.config_dir), "--queue", str(pipeline.queue)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal, cwd=pipeline.folder,
        env={**clean_environment(), **pipeline.broker.environment, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
