"""Checkpoints of other versions of Keras are loaded, and answer as they did.

The files in `checkpoints/<version>` were saved by that Keras with
`benchmarks/keras_versions/make.py`; the answers beside them are what it answered to the images in
`checkpoints/images.npy`.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from Modelling import quantise
from Modelling.network.checkpoint import read_side_file
from Modelling.network.keras_config import read_keras_file
from Modelling.network.keras_models import load_keras_model
from Modelling.predict_cnn import CheckpointError, load_classifier

FOLDER = Path(__file__).parent / "checkpoints"
FILES = sorted(
    str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*") if path.suffix != ".npy"
)


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_of_another_keras_answers_as_it_did(name: str) -> None:
    path = FOLDER / name
    model = load_keras_model(path)
    answers = np.asarray(model(np.load(FOLDER / "images.npy"), training=False))
    # Half precision is rounded in another order by other kernels.
    tolerance = 0.02 if "mixed" in name else 1e-4
    assert np.abs(answers - np.load(path.with_suffix(".npy"))).max() < tolerance


@pytest.mark.parametrize("name", FILES)
def test_it_is_known_which_keras_wrote_it(name: str) -> None:
    assert read_keras_file(FOLDER / name).written_by == f"Keras {Path(name).parent}"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_layer_of_keras_own_applications_is_known_by_its_name(
    keras: Any, tmp_path: Path, suffix: str
) -> None:
    """Keras itself does not find ConvNeXt's in an `.h5`."""
    from keras.src.applications.convnext import LayerScale

    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(LayerScale(0.3, 3)(image))
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))
    path = tmp_path / f"scaled{suffix}"
    model.save(path)
    given = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    answers = np.asarray(load_keras_model(path)(given, training=False))
    assert np.allclose(answers, np.asarray(model(given, training=False)), atol=1e-6)


def edited(source: str, target: Path, **changes: Any) -> Path:
    """A copy of a `.keras` whose first Conv2D or DepthwiseConv2D has other keys."""
    with zipfile.ZipFile(FOLDER / source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "config.json":
                config = json.loads(data)
                layer = next(
                    each for each in config["config"]["layers"] if "Conv2D" in each["class_name"]
                )
                layer["config"] |= changes
                data = json.dumps(config).encode()
            new.writestr(entry, data)
    return target


def test_a_key_by_which_nothing_is_asked_for_is_dropped_and_others_are_not(tmp_path: Path) -> None:
    images = np.load(FOLDER / "images.npy")
    expected = np.load(FOLDER / "3.15.1/depthwise.npy")
    neutral = edited("3.15.1/depthwise.keras", tmp_path / "a.keras", future=None, later=False)
    answers = np.asarray(load_keras_model(neutral)(images, training=False))
    assert np.abs(answers - expected).max() < 1e-4
    wanted = edited("3.15.1/depthwise.keras", tmp_path / "b.keras", future="fold the kernel")
    with pytest.raises(CheckpointError) as refused:
        load_keras_model(wanted)
    text = str(refused.value)
    assert "written by Keras 3.15.1" in text
    assert "future" in text
    assert "\n" not in text


def test_an_error_names_both_versions_and_the_cause_and_not_the_whole_configuration(
    tmp_path: Path,
) -> None:
    path = edited("3.15.1/depthwise.keras", tmp_path / "c.keras", kernel_size=[40, 40])
    with pytest.raises(CheckpointError) as refused:
        load_keras_model(path)
    text = str(refused.value)
    assert "written by Keras 3.15.1, Keras " in text
    assert "get_config()" not in text
    assert len(text) < 500


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_network_that_loads_and_cannot_be_run_is_refused_with_the_cause(
    suffix: str, keras: Any, tmp_path: Path
) -> None:
    """Keras takes such a name, as other frameworks below it do; TensorFlow's graphs do not."""
    layers = keras.layers
    last = layers.Dense(3, activation="softmax", name="the scores")
    path = tmp_path / f"mine{suffix}"
    keras.Sequential([layers.Input((8, 8, 3)), layers.Flatten(), last]).save(path)
    with pytest.raises(CheckpointError, match=r"it cannot be run: .*'the scores' is not a valid"):
        load_classifier(path)


@pytest.mark.parametrize("suffix", [".H5", ".hdf5", ".HDF5"])
def test_a_suffix_may_be_written_in_any_way(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes((FOLDER / "2.4.0/nested.h5").read_bytes())
    assert load_classifier(path).labels == ("0", "1", "2")


def test_what_is_only_for_training_carries_no_code_that_matters(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers

    @keras.saving.register_keras_serializable(package="mine")
    class Gentle(keras.regularizers.Regularizer):
        def __call__(self, weights: Any) -> Any:
            return 0.0 * keras.ops.sum(weights)

        def get_config(self) -> dict[str, Any]:
            return {}

    @keras.saving.register_keras_serializable(package="mine")
    def own_loss(truth: Any, answer: Any) -> Any:
        return keras.ops.mean(answer - truth)

    for name, loss in (("named", own_loss), ("lambda", lambda truth, answer: answer - truth)):
        model = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Flatten(),
             layers.Dense(2, activation="softmax", kernel_regularizer=Gentle())]
        )  # fmt: skip
        model.compile("adam", loss=loss)
        model.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 2)), verbose=0)
        path = tmp_path / f"{name}.keras"
        model.save(path)
        text = json.dumps(json.loads(zipfile.ZipFile(path).read("config.json")))
        assert "compile_config" in text
        images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
        expected = np.asarray(model(images))
        assert np.allclose(load_classifier(path).probabilities(images), expected, atol=1e-5)


def test_code_that_would_be_loaded_is_refused_by_its_name_and_what_it_is_for(
    keras: Any, tmp_path: Path
) -> None:
    @keras.saving.register_keras_serializable(package="mine")
    class Attention(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    layers = keras.layers
    path = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((8, 8, 3)), Attention(), layers.Flatten(), layers.Dense(2)]).save(
        path
    )
    with pytest.raises(CheckpointError, match=r"layer Attention of .* brings code of its own"):
        load_keras_model(path)


def unfit_for_litert(keras: Any, kind: str) -> Any:
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    if kind == "LSTM":
        x = layers.LSTM(4)(layers.Reshape((16, 48))(image))
    elif kind == "bicubic":
        x = layers.Flatten()(layers.Resizing(8, 8, interpolation="bicubic")(image))
    else:
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, dtype="mixed_float16")(image))
    return keras.Model(image, layers.Dense(3, activation="softmax", dtype="float32")(x))


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("LSTM", "tf.TensorList"), ("bicubic", "tf.ResizeBicubic"), ("half", "tf.Conv2D")],
)
def test_what_litert_cannot_hold_is_named_and_the_labels_are_written_all_the_same(
    kind: str, operation: str, keras: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.keras"
    unfit_for_litert(keras, kind).save(path)
    assert quantise.main([str(path), "--labels", "a,b,c"]) == 0
    output = capfd.readouterr()
    [line] = [line for line in output.out.splitlines() if line.startswith("not compiled")]
    assert operation in line
    assert "served by TensorFlow" in line
    assert "Traceback" not in output.out + output.err
    side = read_side_file(path)
    assert side is not None
    assert (side.labels, side.engines) == (("a", "b", "c"), {})
    assert load_classifier(path).engine == "tensorflow"


def test_an_output_that_has_a_name_is_an_output(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    scores = layers.Dense(3, activation="softmax")(layers.Flatten()(image))
    path = tmp_path / "mine.keras"
    keras.Model(image, {"scores": scores}).save(path)
    images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    first = load_classifier(path).probabilities(images)
    assert quantise.main([str(path), "--labels", "a,b,c"]) == 0
    assert np.allclose(load_classifier(path, engine="float32").probabilities(images), first)


def test_a_name_with_a_slash_is_a_name(keras: Any, tmp_path: Path) -> None:
    """Keras 1 and 2 named layers `conv1/bn`; Keras 3 takes no such names."""
    source = FOLDER / "2.4.0/nested.h5"
    path = tmp_path / "mine.h5"
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        text = config if isinstance(config, str) else config.decode()
        name = json.loads(text)["config"]["layers"][-1]["name"]
        file.attrs["model_config"] = text.replace(f'"{name}"', '"top/scores"')
    model = load_keras_model(path)
    answers = np.asarray(model(np.load(FOLDER / "images.npy"), training=False))
    assert np.abs(answers - np.load(source.with_suffix(".npy"))).max() < 1e-4
