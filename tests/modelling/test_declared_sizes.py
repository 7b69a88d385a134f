"""What a checkpoint declares is added up before any of it is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from Modelling import predict_cnn, promote
from Modelling.network import checkpoint
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, engine_path, open_checkpoint
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES
from Modelling.network.engine import LiteRTEngine
from Modelling.network.keras_models import load_keras_model
from Modelling.predict_cnn import CheckpointError, load_classifier
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from tests.modelling.foreign import SIDE, colours_onnx, point_to

# More than any machine has: who reads it first fails in another way.
ENORMOUS = 1 << 42
ARCHIVE = Path(__file__).parent / "checkpoints" / "3.15.1" / "depthwise.keras"


def with_a_large_dataset(file: h5py.File) -> None:
    """Compressed and never written: it takes no room in the file."""
    file.require_group("model_weights").create_dataset(
        "large", (ENORMOUS,), "u1", chunks=(1 << 20,), compression="gzip"
    )


def hdf5(folder: Path) -> Path:
    path = folder / "model.h5"
    shutil.copy(DEFAULT_CHECKPOINT, path)
    with h5py.File(path, "a") as file:
        with_a_large_dataset(file)
    return path


def archive(folder: Path, change: Callable[[str, bytes], bytes]) -> Path:
    path = folder / "model.keras"
    with zipfile.ZipFile(ARCHIVE) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return path


def weights_in_an_archive(folder: Path) -> Path:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(".h5"):
            return data
        weights = folder / "weights.h5"
        weights.write_bytes(data)
        with h5py.File(weights, "a") as file:
            with_a_large_dataset(file)
        return weights.read_bytes()

    return archive(folder, change)


def entry_of_an_archive(folder: Path) -> Path:
    """Its declared size is what Python's `zipfile` reads at most."""
    path = archive(folder, lambda _name, data: data)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # the last of the central directory
    content[entry + 24 : entry + 28] = (0xFFFFFFFE).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def layer_of_a_network(folder: Path) -> Path:
    def change(name: str, data: bytes) -> bytes:
        if name != "config.json":
            return data
        config = json.loads(data)
        dense = [each for each in config["config"]["layers"] if each["class_name"] == "Dense"]
        dense[-1]["config"]["units"] = ENORMOUS
        return json.dumps(config).encode()

    return archive(folder, change)


@pytest.mark.parametrize(
    "make", [hdf5, weights_in_an_archive, entry_of_an_archive, layer_of_a_network]
)
def test_a_file_that_declares_more_than_the_limit_is_refused_unread(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError) as refused:
        load_keras_model(path)
    text = str(refused.value)
    assert text.startswith(f"{path} declares ")
    assert f"--max-model-bytes are {DEFAULT_MAX_MODEL_BYTES:,}" in text
    assert "\n" not in text


def test_a_tensor_between_layers_that_is_too_large_is_refused(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.UpSampling2D(1 << 16),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.save(path := tmp_path / "model.keras")
    with pytest.raises(CheckpointError, match=r"declares 1,099,511,627,776 bytes"):
        load_keras_model(path)


@pytest.mark.parametrize("engine", ["int8", "float32", "tensorflow"])
def test_the_limit_holds_for_each_engine_and_is_set_by_an_option(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match=r"declares [0-9,]+ bytes"):
        load_classifier(engine=engine, max_bytes=10_000)
    arguments = ["--max-model-bytes", "10000", "--checkpoint", str(DEFAULT_CHECKPOINT), "image.png"]
    assert predict_cnn.main(arguments) == 2
    assert "--max-model-bytes are 10,000" in capsys.readouterr().err


def test_a_large_tensor_of_a_compiled_form_is_refused() -> None:
    form = engine_path(DEFAULT_CHECKPOINT, "float32")
    with pytest.raises(CheckpointError, match=r"^the float32 form of the checkpoint declares "):
        LiteRTEngine(form.read_bytes(), "float32", max_bytes=10_000)


def test_what_is_of_training_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    shutil.copy(DEFAULT_CHECKPOINT, path)
    with h5py.File(path, "a") as file:
        file.create_dataset("optimizer_weights/large", (ENORMOUS,), "u1", chunks=(1 << 20,))
    model: Any = load_keras_model(path)
    assert model.output_shape == (None, 10)


def test_a_dataset_that_is_named_as_many_weights_counts_as_often(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    shutil.copy(DEFAULT_CHECKPOINT, path)
    with h5py.File(path, "a") as file:
        layers = [
            file["model_weights"][name] for name in file["model_weights"].attrs["layer_names"]
        ]
        layer = next(each for each in layers if len(each.attrs["weight_names"]))
        layer.create_dataset("large", (1 << 20,), "u1", chunks=(1 << 20,), compression="gzip")
        layer.attrs["weight_names"] = np.array([b"large"] * 16)
    with pytest.raises(CheckpointError, match=r"declares 1[67],[0-9,]+ bytes"):
        load_keras_model(path, max_bytes=8 << 20)


def test_a_constant_of_a_saved_model_counts_as_what_it_unpacks_to(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()

    def serve(x: Any) -> Any:
        large = tf.constant(1.0, shape=(2000, 2000))
        return {"p": tf.nn.softmax(tf.reduce_mean(x, (1, 2)) + large[0, :3])}

    image = tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, "x")
    module.serve = tf.function(serve, input_signature=[image])
    path = tmp_path / "model"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    assert sum(each.stat().st_size for each in path.rglob("*")) < 1 << 20
    with pytest.raises(CheckpointError, match=r"declares [0-9]{2},[0-9,]+ bytes"):
        load_classifier(path, max_bytes=8 << 20)


def sparse(path: Path, begins: bytes = b"") -> Path:
    """A file that takes more than the limit, and no room."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(begins)
        file.truncate(DEFAULT_MAX_MODEL_BYTES + 1)
    return path


def saved_model(folder: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "saved_model.pb").write_bytes(b"")
    return sparse(folder / "model" / "variables").parent


def beside_another(folder: Path) -> Path:
    """Whose side file `model.json` is, only the hashes of both tell."""
    (folder / "model.h5").write_bytes(b"")
    side = {"sha256": "0" * 64, "labels": ["a", "b"], "input_shape": [8, 8, 3]}
    (folder / "model.json").write_text(json.dumps(side))
    return sparse(folder / "model.keras")


def weights_in_another_file(folder: Path) -> Path:
    path = colours_onnx(folder / "model.onnx")
    point_to(path, "weights.bin")
    sparse(folder / "weights.bin")
    return path


def large_form(folder: Path) -> Path:
    path = folder / "model.h5"
    shutil.copy(DEFAULT_CHECKPOINT, path)
    side = json.loads(DEFAULT_CHECKPOINT.with_suffix(".json").read_bytes())
    side["engines"]["int8"]["file"] = sparse(folder / "form.tflite").name
    path.with_suffix(".json").write_text(json.dumps(side))
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: sparse(folder / "model.h5"),
        lambda folder: sparse(folder / "model.keras", b"PK\x03\x04"),
        lambda folder: sparse(folder / "model.onnx"),
        lambda folder: sparse(folder / "model.tflite"),
        saved_model,
        beside_another,
        weights_in_another_file,
        large_form,
    ],
    ids=["h5", "keras", "onnx", "tflite", "folder", "beside another", "weights", "form"],
)
def test_what_is_too_large_is_refused_before_it_is_read(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for its hash; and at once, as no copying makes it smaller."""
    path = make(tmp_path)
    digest = hashlib.file_digest

    def of_small_files(file: Any, name: str) -> Any:
        assert os.fstat(file.fileno()).st_size < DEFAULT_MAX_MODEL_BYTES, "it is read"
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", of_small_files)
    monkeypatch.setattr(checkpoint, "RETRY_INTERVAL", None)  # nothing is looked at again
    source = CheckpointSource(path, lambda found: ImagePredictor(load_classifier(found)))
    source._served = open_checkpoint(DEFAULT_CHECKPOINT)  # all forms are looked at then
    with pytest.raises(CheckpointError, match=r"declares 2,147,[0-9,]+ bytes"):
        source.load(lambda: None)


def test_a_network_is_larger_on_disk_than_the_limit_by_what_is_of_training(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    shutil.copy(DEFAULT_CHECKPOINT, path)
    loaded = path.stat().st_size
    with h5py.File(path, "a") as file:
        file.create_dataset("optimizer_weights/all", data=np.zeros(10 << 20, np.uint8))
    assert load_classifier(path, engine="tensorflow", max_bytes=2 * loaded).labels
    with pytest.raises(CheckpointError, match=r"model\.h5 declares [0-9,]+ bytes"):
        load_classifier(path, max_bytes=loaded // 2)


def test_what_may_be_served_may_be_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, served = (colours_onnx(tmp_path / name) for name in ("new.onnx", "served.onnx"))
    limit = new.stat().st_size
    arguments = [str(new), "--served", str(served), "--max-model-bytes"]
    assert promote.main([*arguments, str(limit - 1)]) == 2
    assert "nothing of it was loaded" in capsys.readouterr().err
    assert promote.main([*arguments, str(limit)]) == 0
