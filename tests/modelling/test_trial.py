"""A file that nobody has opened yet is opened by a process apart."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from Modelling import promote
from Modelling.errors import CheckpointError
from Modelling.network.input_range import InputRange
from Modelling.predict_cnn import load_classifier
from Modelling.predictors import trial
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from Modelling.predictors.trial import Opening, Tried, try_out
from tests.modelling.crashers import tflite_with_options_of_another_operator
from tests.modelling.foreign import SIDE, colours_onnx, endless_onnx, nan_on_black


def test_what_can_be_served_is_known_afterwards(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    opening = Opening(threads=2, input_range=InputRange((2.0,), (-1.0,)))
    assert try_out(path, opening) == Tried(("0", "1", "2"), (SIDE, SIDE, 3))


def test_what_is_refused_is_refused_in_the_same_words(tmp_path: Path) -> None:
    path = nan_on_black(tmp_path / "nan.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError) as here:
        load_classifier(path)
    with pytest.raises(CheckpointError) as apart:
        try_out(path, Opening())
    assert str(apart.value) == str(here.value)


def test_one_that_never_ends_is_ended(tmp_path: Path) -> None:
    path = endless_onnx(tmp_path / "endless.onnx")
    with pytest.raises(CheckpointError, match=r"endless\.onnx: .* has not opened it within 1 s"):
        try_out(path, Opening(threads=1), seconds=1)
    assert not [each for each in psutil.Process().children() if each.is_running()]


def test_one_that_is_killed_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills_itself = ["sh", "-c", f"kill -{signal.SIGKILL:d} $$"]
    monkeypatch.setattr(trial, "command_of", lambda *_: kills_itself)
    with pytest.raises(CheckpointError, match="was killed: probably for its memory"):
        try_out(tmp_path, Opening())


def test_only_a_successor_that_is_another_is_tried(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    tried: list[Path] = []
    source = CheckpointSource(
        path,
        lambda found: ImagePredictor(load_classifier(found, threads=1)),
        try_out=tried.append,
    )
    source.load(lambda: None)  # the first keeps nobody from answering
    source.load(lambda: None)  # the same again
    assert not tried
    colours_onnx(path, extra_outputs=("again",))
    with pytest.raises(CheckpointError, match="again"):
        source.load(lambda: None)
    colours_onnx(path, layout="NCHW")
    source.load(lambda: None)
    assert tried == [path, path]


def test_what_crashes_its_runtime_is_not_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served, new = colours_onnx(tmp_path / "served.onnx"), tmp_path / "new.tflite"
    new.write_bytes(tflite_with_options_of_another_operator())
    before = sorted(tmp_path.iterdir())
    assert promote.main([str(new), "--served", str(served)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"promote: {new}: it crashed the process that tried it (SIG")
    assert sorted(tmp_path.iterdir()) == before
