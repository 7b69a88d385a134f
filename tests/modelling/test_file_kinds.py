"""Files that are called what they are not: the error says what they are, and what can be done."""

from __future__ import annotations

import gzip
import os
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, open_checkpoint
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


def lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")


def page(path: Path) -> None:
    path.write_text("<!doctype html><title>Sign in</title>")


def gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a model"))


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_classifier(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("write", "name", "said"),
    [
        (archive, "a.onnx", "a zip archive"),
        (hdf5, "a.onnx", "HDF5"),
        (litert, "a.onnx", r"LiteRT's, which are called \.tflite"),
        (pickled, "a.onnx", "a pickle"),
        (onnx, "a.tflite", r"ONNX, which is called \.onnx"),
        (hdf5, "a.tflite", "HDF5"),
        (lfs_pointer, "a.onnx", "the pointer that Git LFS keeps"),
        (lfs_pointer, "a.tflite", "the pointer that Git LFS keeps"),
        (page, "a.onnx", "a page of the web"),
        (gzipped, "a.tflite", "compressed by gzip"),
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


def test_what_may_never_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("Modelling.network.checkpoint.PATIENCE", 0)
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zeros.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "zeros.onnx"):
        told: list[str] = []
        reading = threading.Thread(
            target=lambda name=name, told=told: told.append(refusal(tmp_path / name)), daemon=True
        )
        reading.start()
        reading.join(30)
        assert told, f"{name} is still being read"
        assert "a pipe or a device, not a file" in told[0]


def test_a_file_with_any_name_has_a_version_that_a_result_can_hold(tmp_path: Path) -> None:
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.onnx"))
    for path in (tmp_path / "a\nb.onnx", latin):
        onnx(path)
        version = open_checkpoint(path).version
        assert version.isprintable()
        assert version.encode()
    assert "no name that is not UTF-8: rename it" in refusal(latin)
    assert refusal(latin).count("caf") == 1


def test_a_folder_may_be_given_as_the_one_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"no graph")
    monkeypatch.chdir(folder)
    assert open_checkpoint(".").version.startswith("mine@")
