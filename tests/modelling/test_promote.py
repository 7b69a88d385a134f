"""Another checkpoint becomes the served one in one step, and back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import open_checkpoint, sha256_of, side_file_path
from Modelling.predict_cnn import load_classifier
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from Modelling.promote import back, main, promote
from tests.modelling.foreign import colours_onnx, write_side
from tests.operations.scripts import CheckpointFolder


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


def test_a_file_that_is_written_where_another_was_promoted_is_told_not_to_be_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served, new = colours_onnx(tmp_path / "a.onnx"), colours_onnx(tmp_path / "b.onnx")
    source = CheckpointSource(
        served, lambda found: ImagePredictor(load_classifier(found, threads=1))
    )
    promote(new, served)
    source.load(lambda: None)
    assert "is not served" not in caplog.text
    later = side_file_path(served).stat().st_mtime + 1
    os.utime(served, (later, later))
    source.load(lambda: None)
    assert "a.onnx was written after another was promoted in its place, and is not" in caplog.text


def test_other_labels_are_told_and_where_there_was_no_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    served, new = colours_onnx(tmp_path / "a.onnx"), colours_onnx(tmp_path / "b.onnx")
    write_side(served)
    assert main([str(new), "--served", str(served)]) == 0
    assert "other labels than what was served before" in caplog.text

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("DurableText.files.syncing.sync", full)
    new.write_bytes(colours_onnx(tmp_path / "c.onnx", layout="NCHW").read_bytes())
    assert main([str(new), "--served", str(served)]) == 1
    assert f"promote: {tmp_path}: [Errno 28] No space left" in capsys.readouterr().err


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


@pytest.mark.parametrize("place", ["folder", "served.bin", "served"])
def test_where_no_server_could_serve_it_nothing_is_written(
    place: str, folders: tuple[CheckpointFolder, CheckpointFolder], tmp_path: Path
) -> None:
    _, new = folders
    there = tmp_path / "there"
    (there / "folder").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="a checkpoint is a"):
        promote(new.path, there / place)
    assert [each.name for each in there.iterdir()] == ["folder"]


def test_a_copy_that_was_promoted_is_not_promoted_without_what_is_known_of_it(
    folders: tuple[CheckpointFolder, CheckpointFolder],
) -> None:
    served, new = folders
    now = promote(new.path, served.path)
    with pytest.raises(CheckpointError, match="has no side file of its own"):
        promote(now.weights, served.path)
    assert open_checkpoint(served.path) == now
