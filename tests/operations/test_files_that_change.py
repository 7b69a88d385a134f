"""A checkpoint whose files change while they are read: no answer is of two models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from Modelling.classifier import Classifier
from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import Checkpoint, open_checkpoint
from Modelling.predict_cnn import load_classifier
from Modelling.predictor import Predictor
from Modelling.predictors import checkpoint_source
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from tests.modelling.foreign import SIDE, colours_onnx, weights, write_side
from tests.pipeline.runner import ROOT

Change = Callable[[Path], object]


def loaded(found: Checkpoint) -> Predictor:
    return ImagePredictor(load_classifier(found, threads=1))


MASK = np.ones((SIDE, SIDE, 3), np.float32)


def with_mask_beside(path: Path) -> Path:
    """A network that multiplies its picture by what lies beside the file; returns where."""
    model = onnx.load(colours_onnx(path))
    model.graph.node[0].input[0] = "masked"
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["x", "mask"], ["masked"]))
    mask = numpy_helper.from_array(MASK, "mask")
    model.graph.initializer.append(mask)
    beside = path.with_name("mask.bin")
    beside.write_bytes(MASK.tobytes())
    onnx.external_data_helper.set_external_data(model.graph.initializer[1], beside.name)
    model.graph.initializer[1].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return beside


def other_network(path: Path) -> bytes:
    """Return a file of the same size, whose network answers otherwise."""
    model = onnx.load(path)
    turned = np.ascontiguousarray(weights("NHWC")[:, ::-1])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(turned, "w"))
    return bytes(model.SerializeToString())


def written_over(path: Path) -> None:
    """In place, as large as before and as old."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(other_network(path))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed_over(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)


def there_and_back(path: Path) -> None:
    before = path.read_bytes()
    path.write_bytes(b"")
    path.write_bytes(before)


CHANGES: dict[str, Change] = {
    "written over": written_over,
    "renamed over": renamed_over,
    "there and back": there_and_back,
    "deleted": Path.unlink,
    "another side file": lambda path: write_side(path, labels=["a", "b", "c"]),
    "the first side file": lambda path: write_side(path),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_not_served(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    if change == "another side file":
        write_side(path)
    warm_up = Classifier.warm_up

    def meanwhile(classifier: Classifier) -> None:
        CHANGES[change](path)
        warm_up(classifier)

    monkeypatch.setattr(Classifier, "warm_up", meanwhile)
    with pytest.raises(CheckpointError, match=r"colours\.onnx: it changed while it was read"):
        load_classifier(path, threads=1)


def test_a_link_that_is_switched_and_a_folder_that_grows_are_changes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        colours_onnx(folder / "colours.onnx")
    link, other = tmp_path / "current", tmp_path / "next"
    link.symlink_to("a")
    found = open_checkpoint(link / "colours.onnx")
    assert not found.is_changed
    other.symlink_to("b")
    other.replace(link)
    assert found.is_changed
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"graph")
    found = open_checkpoint(saved)
    assert not found.is_changed
    (saved / "variables" / "variables.index").write_bytes(b"late")
    assert found.is_changed


@pytest.mark.parametrize("times", [1, checkpoint_source.MOST_READINGS])
def test_what_changes_while_it_is_read_is_read_again_and_at_last_refused(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_source, "RETRY_INTERVAL", 0.0)
    path = colours_onnx(tmp_path / "colours.onnx")
    left = times

    def load(found: Checkpoint) -> Predictor:
        nonlocal left
        if left:
            left -= 1
            path.write_bytes(other_network(path))
        return loaded(found)

    source = CheckpointSource(path, load)
    if times == checkpoint_source.MOST_READINGS:
        with pytest.raises(CheckpointError, match="changed while it was read"):
            source.load(lambda: None)
    else:
        version = source.load(lambda: None).version
        assert sha256(path.read_bytes()).hexdigest()[:12] in version


WRITTEN_LATER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from Modelling.predict_cnn import load_classifier
from tests.modelling.foreign import labels_of
from tests.operations.test_files_that_change import MASK
classifier = load_classifier({path!r}, threads=2)
with open({beside!r}, "r+b") as file:
    {write}
print(labels_of(classifier))
"""


@pytest.mark.parametrize("write", ["file.write((-MASK).tobytes())", "file.truncate()"])
def test_weights_beside_the_file_that_are_written_over_are_not_those_that_answer(
    write: str, tmp_path: Path
) -> None:
    """Mapped into memory they would be; and shorter, they would end the process, by SIGBUS."""
    beside = with_mask_beside(tmp_path / "colours.onnx")
    path = str(beside.with_name("colours.onnx"))
    code = WRITTEN_LATER.format(root=str(ROOT), path=path, beside=str(beside), write=write)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "['0', '1', '2']\n"), run.stderr
