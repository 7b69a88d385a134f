"""Files of strangers, damaged or made to harm: refused in one line before they are run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from Modelling import quantise
from Modelling.network.checkpoint import (
    open_checkpoint,
)
from Modelling.network.engine import load_keras_model
from Modelling.predict_cnn import CheckpointError


def keras_config_of(path: Path) -> str:
    with h5py.File(path, "r") as file:
        return str(file.attrs["model_config"])


def write_config(path: Path, config: str) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = config


def foreign(copy: Path) -> Path:
    """The checkpoint alone, as if somebody else had made it."""
    for path in copy.parent.iterdir():
        if path != copy:
            path.unlink()
    return copy


def test_a_truncated_checkpoint_without_side_file_is_refused(copy: Path) -> None:
    foreign(copy).write_bytes(copy.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged, or not a Keras checkpoint"):
        load_keras_model(copy)


def test_an_empty_checkpoint_is_refused(copy: Path) -> None:
    foreign(copy).write_bytes(b"")
    with pytest.raises(CheckpointError, match="empty"):
        open_checkpoint(copy, patience=0)


@pytest.mark.parametrize("name", ["Lambda", "TFSMLayer"])
def test_layers_that_carry_code_are_refused_before_keras_sees_them(name: str, copy: Path) -> None:
    config = keras_config_of(copy)
    write_config(copy, config.replace('"class_name": "ReLU"', f'"class_name": "{name}"', 1))
    with pytest.raises(CheckpointError, match=f"{name} .*brings code of its own"):
        load_keras_model(copy)


def keras_archive(path: Path, config: str, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("config.json", config)
    return path


FOREIGN = json.dumps({"module": "os", "class_name": "system", "config": {"name": "true"}})


def test_layers_of_foreign_modules_are_refused(tmp_path: Path) -> None:
    path = keras_archive(tmp_path / "evil.keras", FOREIGN)
    with pytest.raises(CheckpointError, match="system of os brings code"):
        load_keras_model(path)


@pytest.mark.parametrize(
    "named",
    [
        {"module": None, "class_name": "My", "registered_name": "mine>My"},
        {"class_name": "mine>My"},
    ],
    ids=["keras", "h5"],
)
def test_a_registered_class_is_refused_with_what_can_be_done(
    named: dict[str, Any], tmp_path: Path
) -> None:
    """Keras itself advises a scope of Python, which nobody has who only serves the file."""
    path = keras_archive(tmp_path / "own.keras", json.dumps({**named, "config": {}}))
    with pytest.raises(CheckpointError, match=r"My of mine brings code .*model\.export\(FOLDER\)"):
        load_keras_model(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_class_that_keras_does_not_know_is_refused_with_what_can_be_done(
    suffix: str, tmp_path: Path
) -> None:
    keras = pytest.importorskip("keras")

    class Mine(keras.layers.Layer):  # type: ignore[name-defined, misc]
        def call(self, given: Any) -> Any:
            return given

    Mine.__module__ = "__main__"  # as in a notebook: the file names no module then
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 1)), Mine(), layers.Flatten(), layers.Dense(3)])
    model.save(tmp_path / f"own{suffix}")
    with pytest.raises(CheckpointError, match=r"Mine.*its maker's own, .*model\.export\(FOLDER\)"):
        load_keras_model(tmp_path / f"own{suffix}")


def test_what_the_refusal_advises_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = keras_archive(tmp_path / "evil.keras", FOREIGN)
    with pytest.raises(CheckpointError, match=r"python -m Modelling\.quantise --allow-code"):
        load_keras_model(path)
    with pytest.raises(SystemExit):
        quantise.main(["--help"])
    assert "--allow-code" in capsys.readouterr().out


def test_a_file_that_is_archive_and_hdf5_at_once_is_judged_as_keras_reads_it(copy: Path) -> None:
    config = keras_config_of(copy)
    write_config(copy, config.replace('"class_name": "ReLU"', '"class_name": "Lambda"', 1))
    harmless = keras_archive(copy.with_name("harmless.zip"), config)
    copy.write_bytes(copy.read_bytes() + harmless.read_bytes())
    assert zipfile.is_zipfile(copy)
    with pytest.raises(CheckpointError, match=r"Lambda .*brings code of its own"):
        load_keras_model(copy)


def encrypted(path: Path) -> None:
    """Set the flag of encryption in both headers of the only entry."""
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def unknown_compression(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = 77
    data[data.index(b"PK\x01\x02") + 10] = 77
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("config", "damage"),
    [
        pytest.param(FOREIGN, encrypted, id="encrypted"),
        pytest.param(FOREIGN, unknown_compression, id="unknown compression"),
        pytest.param("[" * 100_000, lambda path: None, id="deeply nested"),
        pytest.param("{", lambda path: None, id="no JSON"),
        pytest.param(FOREIGN, lambda path: path.write_bytes(b"PK no archive"), id="no archive"),
    ],
)
def test_a_damaged_archive_is_refused_in_one_line(
    config: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = keras_archive(tmp_path / "mine.keras", config)
    damage(path)
    with pytest.raises(CheckpointError, match="damaged, or not a Keras checkpoint") as refused:
        load_keras_model(path)
    assert "\n" not in str(refused.value)


def test_an_architecture_of_more_than_16_megabytes_is_refused(tmp_path: Path) -> None:
    path = keras_archive(
        tmp_path / "mine.keras", " " * (17 << 20), compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="more than 16 MB"):
        load_keras_model(path)


def test_an_architecture_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="not a text"):
        load_keras_model(path)


def test_weights_without_a_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.weights.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="holds weights only"):
        load_keras_model(path)
