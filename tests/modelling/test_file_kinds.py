"""Files that are called what they are not: the error says what they are, and what can be done."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.predict_cnn import load_classifier
from tests.modelling.foreign import colours_onnx


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"")


def hdf5(path: Path) -> None:
    path.write_bytes(DEFAULT_CHECKPOINT.read_bytes())


def litert(path: Path) -> None:
    path.write_bytes(DEFAULT_CHECKPOINT.with_suffix(".float32.tflite").read_bytes())


def onnx(path: Path) -> None:
    colours_onnx(path)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1.0]}))


@pytest.mark.parametrize(
    ("write", "name", "said"),
    [
        (archive, "a.onnx", "a zip archive"),
        (hdf5, "a.onnx", "HDF5"),
        (litert, "a.onnx", r"LiteRT's, which are called \.tflite"),
        (pickled, "a.onnx", "a pickle"),
        (onnx, "a.tflite", r"ONNX, which is called \.onnx"),
        (hdf5, "a.tflite", "HDF5"),
    ],
)
def test_a_file_of_another_kind_than_its_name_says_is_told(
    write: Callable[[Path], None], name: str, said: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"by its first bytes it is {said}"):
        load_classifier(tmp_path / name)


def test_of_a_file_that_is_what_its_name_says_nothing_more_is_said(tmp_path: Path) -> None:
    onnx(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:100])
    with pytest.raises(CheckpointError) as error:
        load_classifier(tmp_path / "a.onnx")
    assert "first bytes" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.pt", "torch.onnx.export"), ("a.joblib", "--predictor"), ("a.pb", "the folder")],
)
def test_a_suffix_that_no_checkpoint_has_is_told_with_what_can_be_done(
    name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"a checkpoint is .*{said}"):
        load_classifier(tmp_path / name)


def test_a_folder_is_no_onnx_file_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(CheckpointError, match=r"or a folder with saved_model\.pb"):
        load_classifier(tmp_path / "a.onnx")
