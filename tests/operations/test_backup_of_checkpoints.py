"""A backup with `--checkpoint`: all that belongs to it, and nothing in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from DB import open_database
from Modelling.network.checkpoint import open_checkpoint
from Modelling.predict_cnn import load_classifier
from Pipeline.backup.__main__ import main
from tests.operations.test_backup import make


@pytest.mark.parametrize("folder", ["m", "m.promoted-0123456789ab"])
def test_a_checkpoint_that_would_be_left_out_in_part_is_refused(
    folder: str, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make(tmp_path / "models") / "m"
    weights = make(model.with_name(folder)) / "saved_model.pb"
    weights.write_bytes(b"weights")
    if folder != "m":
        model.write_bytes(b"what was served before")
    queue = ["--queue", str(state / "log.txt"), "--db", str(state / "db.txt")]
    copy = tmp_path / "copy"
    assert main(["make", str(copy), *queue, "--checkpoint", str(model)]) == 1
    assert f"{weights.parent} is a folder: copy it by itself" in capsys.readouterr().err
    assert not copy.exists()


@pytest.fixture
def onnx_models(state: Path, tmp_path: Path) -> tuple[list[str], Path]:
    """Options of a backup, and an ONNX file with its weights in a file of another name."""
    pytest.importorskip("onnx", reason="pip install -e .[onnx]")
    from tests.modelling.foreign import colours_onnx, point_to, weights

    model = colours_onnx(make(tmp_path / "models") / "colours.onnx")
    make(model.parent / "data").joinpath("w.bin").write_bytes(weights("NHWC").tobytes())
    point_to(model, "data/w.bin")
    return ["--queue", str(state / "log.txt"), "--db", str(state / "db.txt")], model


def test_the_weights_that_an_onnx_file_has_in_other_files_are_copied_and_answer(
    onnx_models: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, model = onnx_models
    copy, other = tmp_path / "copy", tmp_path / "other" / "deep" / model.name
    assert main(["make", str(copy), *options, "--checkpoint", str(model)]) == 0
    there = ["--queue", str(tmp_path / "q" / "log.txt"), "--db", str(tmp_path / "q" / "db.txt")]
    assert main(["restore", str(copy), *there, "--checkpoint", str(other)]) == 0
    assert open_checkpoint(other).version == open_checkpoint(model).version
    assert load_classifier(other).version == load_classifier(model).version

    (copy / "checkpoint" / "data" / "w.bin").write_bytes(b"others")
    assert main(["verify", str(copy)]) == 1
    assert "data/w.bin: has 6 bytes, and had" in capsys.readouterr().out


def test_weights_that_are_there_already_are_not_written_over(
    onnx_models: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, model = onnx_models
    copy, other = tmp_path / "copy", make(tmp_path / "other")
    assert main(["make", str(copy), *options, "--checkpoint", str(model)]) == 0
    others = make(other / "data") / "w.bin"
    others.write_bytes(b"another model's")
    there = ["--queue", str(other / "log.txt"), "--db", str(other / "db.txt")]
    assert main(["restore", str(copy), *there, "--checkpoint", str(other / model.name)]) == 1
    assert f"{others} is there already; nothing is restored" in capsys.readouterr().err
    assert others.read_bytes() == b"another model's"


@pytest.mark.parametrize("location", ["../models/data/w.bin", "{folder}/data/w.bin", "no.bin"])
def test_weights_that_would_be_missed_after_a_restore_are_told_before(
    onnx_models: tuple[list[str], Path],
    tmp_path: Path,
    location: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.modelling.foreign import point_to

    options, model = onnx_models
    location = location.format(folder=model.parent)
    point_to(model, location)
    assert main(["make", str(tmp_path / "copy"), *options, "--checkpoint", str(model)]) == 1
    assert location in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_a_db_of_sqlite_and_a_checkpoint_are_copied_too(state: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", make(tmp_path / "other")
    model = make(tmp_path / "models") / "m[1].h5"
    model.write_bytes(b"weights")
    model.with_name("m[1].h5.json").write_bytes(b"{}")
    with open_database(f"sqlite:///{state}/r.sqlite") as db:
        db.insert([{"id": "1", "label": "7"}])
        queue = ["--queue", str(state / "log.txt")]
        made = [*queue, "--db", f"sqlite:///{state}/r.sqlite", "--checkpoint", str(model)]
        assert main(["make", str(copy), *made]) == 0
    assert not [each for each in copy.rglob("*") if each.stat().st_mode & 0o007]
    back = ["--queue", str(other / "log.txt"), "--db", f"sqlite:///{other}/r.sqlite"]
    assert main(["restore", str(copy), *back, "--checkpoint", str(other / "m[1].h5")]) == 0
    with open_database(f"sqlite:///{other}/r.sqlite") as db:
        assert [row["id"] for row in db] == ["1"]
    assert (other / "m[1].h5").read_bytes() == b"weights"
    assert (other / "m[1].h5.json").exists()
