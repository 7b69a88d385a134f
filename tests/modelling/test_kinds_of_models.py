"""Models differ in what they want and give; the classifier answers alike with all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Modelling import quantise
from Modelling.data_preparation import encode_npy
from Modelling.network.checkpoint import SideFile, read_side_file, sha256_of, write_side_file
from Modelling.network.engine import LiteRTEngine
from Modelling.predict_cnn import CheckpointError, Classifier, load_classifier

# Every pixel is 0.2 in [0, 1].
IMAGE = np.full((16, 16, 3), 51, np.uint8)

Build = Callable[[Any], Any]


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def seen_by(classifier: Classifier, image: np.ndarray = IMAGE) -> float:
    """What a model made by `measuring` was given."""
    prepared, [error] = classifier.prepare_batch([encode_npy(image)])
    assert error is None
    assert 0 <= prepared.min() <= prepared.max() <= 1
    first, second = classifier.probabilities(prepared)[0]
    return float(np.log(first / second))


def measuring(keras: Any, *first: Any, shape: tuple[int, ...] = (16, 16, 3), **options: Any) -> Any:
    """A model of two logits: the mean of what its first layers pass on, and 0."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input(shape, **options), *first, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    channels = model.layers[-1].kernel.shape[0]
    model.layers[-1].set_weights(
        [np.array([[1 / channels, 0]] * channels, np.float32), np.zeros(2, np.float32)]
    )
    return model


def functional(keras: Any, change: Callable[[Any], Any]) -> Any:
    image = keras.Input((16, 16, 3))
    return keras.Model(image, measuring(keras)(change(image)))


TUTORIAL_MODELS: dict[str, tuple[Build, float]] = {
    "pixels in [0, 1]": (lambda k: measuring(k), 0.2),
    "Rescaling(1/255)": (lambda k: measuring(k, k.layers.Rescaling(1 / 255)), 0.2),
    "Rescaling(1/127.5, -1)": (lambda k: measuring(k, k.layers.Rescaling(1 / 127.5, -1)), -0.6),
    "Rescaling by channel": (lambda k: measuring(k, k.layers.Rescaling([1 / 255] * 3)), 0.2),
    "Rescaling(2, -1) of [0, 1]": (lambda k: measuring(k, k.layers.Rescaling(2, -1)), -0.6),
    "augmentation, then Rescaling": (
        lambda k: measuring(
            k,
            k.Sequential([k.layers.RandomFlip("horizontal"), k.layers.RandomRotation(0.1)]),
            k.layers.Rescaling(1 / 255),
        ),
        0.2,
    ),
    "Rescaling in an inner model": (
        lambda k: measuring(k, k.Sequential([k.Input((16, 16, 3)), k.layers.Rescaling(1 / 255)])),
        0.2,
    ),
    "Resizing, then Rescaling": (
        lambda k: measuring(k, k.layers.Resizing(8, 8), k.layers.Rescaling(1 / 255)),
        0.2,
    ),
    "Normalization of bytes": (
        lambda k: measuring(
            k, k.layers.Normalization(mean=[51.0] * 3, variance=[100.0] * 3)
        ),
        0.0,
    ),
    "Normalization of [0, 1]": (
        lambda k: measuring(k, k.layers.Normalization(mean=[0.1] * 3, variance=[0.01] * 3)),
        1.0,
    ),
    "x / 255": (lambda k: functional(k, lambda x: x / 255.0), 0.2),
    "x * (1 / 255)": (lambda k: functional(k, lambda x: x * (1 / 255)), 0.2),
    "preprocess_input of mobilenet_v2": (
        lambda k: functional(k, k.applications.mobilenet_v2.preprocess_input),
        -0.6,
    ),
    "bytes": (lambda k: measuring(k, k.layers.Rescaling(1 / 255), dtype="uint8"), 0.2),
    "integers": (lambda k: measuring(k, k.layers.Rescaling(1 / 255), dtype="int32"), 0.2),
    "grey": (lambda k: measuring(k, shape=(16, 16, 1)), 0.2),
    "no channel axis": (
        lambda k: measuring(k, k.layers.Reshape((16, 16, 1)), shape=(16, 16)),
        0.2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TUTORIAL_MODELS)
def test_a_model_without_a_side_file_is_given_the_range_that_its_first_layer_tells(
    name: str, keras: Any, tmp_path: Path
) -> None:
    build, expected = TUTORIAL_MODELS[name]
    path = tmp_path / "mine.keras"
    build(keras).save(path)
    assert seen_by(load_classifier(path)) == pytest.approx(expected, abs=1e-3)
    # The compiled form cannot tell it, so the side file does.
    assert quantise.main([str(path)]) == 0
    classifier = load_classifier(path)
    assert classifier.engine == "float32"
    assert seen_by(classifier) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("scale", "offset", "expected"),
    [
        pytest.param(255, None, 51, id="bytes"),
        pytest.param(2, -1, -0.6, id="-1 to 1"),
        pytest.param(None, 1, 1.2, id="offset only"),
        pytest.param([1, 2, 3], [0, 0, 0.6], 0.6, id="by channel"),
    ],
)
def test_the_side_file_says_in_which_range_pixels_are_wanted(
    scale: Any, offset: Any, expected: float, keras: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.keras"
    measuring(keras).save(path)
    write_side_file(path, SideFile(sha256_of(path), ("a", "b"), (16, 16, 3)))
    raw = json.loads(path.with_suffix(".json").read_text())
    raw |= {key: value for key, value in (("scale", scale), ("offset", offset)) if value}
    path.with_suffix(".json").write_text(json.dumps(raw))
    assert seen_by(load_classifier(path)) == pytest.approx(expected, rel=1e-3)
    assert quantise.main([str(path)]) == 0
    assert seen_by(load_classifier(path, engine="float32")) == pytest.approx(expected, rel=1e-3)


def test_the_side_file_overrules_the_first_layer(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    measuring(keras, keras.layers.Rescaling(1 / 255)).save(path)
    write_side_file(path, SideFile(sha256_of(path), ("a", "b"), (16, 16, 3), scale=(1.0,)))
    assert seen_by(load_classifier(path)) == pytest.approx(0.2 / 255, abs=1e-4)


def with_one_output(keras: Any, activation: str | None, weight: float) -> Any:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, activation=activation),
        ]
    )
    model.set_weights([np.full((3, 1), weight, np.float32), np.zeros(1, np.float32)])
    return model


@pytest.mark.parametrize(("activation", "weight"), [("sigmoid", 2), (None, 2), (None, 0.1)])
def test_one_output_tells_two_classes_apart(
    activation: str | None, weight: float, keras: Any, tmp_path: Path
) -> None:
    path = tmp_path / "cats_or_dogs.keras"
    with_one_output(keras, activation, weight).save(path)
    expected = 1 / (1 + np.exp(-3 * weight * 0.2))
    for engine, command in (("tensorflow", []), ("float32", ["--labels", "cat,dog"])):
        if command:
            assert quantise.main([str(path), *command]) == 0
        classifier = load_classifier(path, engine=engine)
        prepared, _ = classifier.prepare_batch([encode_npy(IMAGE)])
        assert classifier.probabilities(prepared)[0] == pytest.approx(
            [1 - expected, expected], abs=1e-5
        )
    assert classifier.predict(prepared).labels == ["dog"]


def test_a_single_output_that_tells_nothing_is_refused(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    with_one_output(keras, "softmax", 1).save(path)
    with pytest.raises(CheckpointError, match="one softmax output"):
        load_classifier(path)


def test_a_fully_convolutional_model_is_served(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    layers = keras.layers
    keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(5, 16, padding="valid"),
            layers.Softmax(),
        ]
    ).save(path)
    assert quantise.main([str(path)]) == 0
    for engine in ("tensorflow", "float32"):
        classifier = load_classifier(path, engine=engine)
        assert classifier.labels == tuple("01234")
        prepared, _ = classifier.prepare_batch([encode_npy(IMAGE)] * 3)
        assert classifier.probabilities(prepared).sum(1) == pytest.approx(1, abs=1e-5)


def test_logits_that_stay_small_are_logits_all_the_same(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    model = measuring(keras)
    model.layers[-1].set_weights([np.full((3, 2), 0.1, np.float32), np.zeros(2, np.float32)])
    model.save(path)
    assert load_classifier(path).probabilities(np.ones((1, 16, 16, 3), np.float32))[0] == (
        pytest.approx([0.5, 0.5])
    )


@pytest.mark.parametrize("kind", ["unbuilt", "layer", "two inputs", "two outputs", "five channels"])
def test_what_is_no_image_classifier_is_refused_in_one_line(
    kind: str, keras: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    flat = layers.Flatten()
    made = {
        "unbuilt": lambda: keras.Sequential([layers.Flatten(), layers.Dense(2)]),
        "layer": lambda: layers.Flatten(),
        "two inputs": lambda: keras.Model(
            [image, other := keras.Input((8, 8, 3))], flat(image) + flat(other)
        ),
        "two outputs": lambda: keras.Model(image, [flat(image), flat(image)]),
        "five channels": lambda: keras.Sequential(
            [keras.Input((8, 8, 5)), layers.Flatten(), layers.Dense(2)]
        ),
    }[kind]()
    path = tmp_path / "mine.keras"
    keras.saving.save_model(made, path)
    with pytest.raises(CheckpointError) as refused:
        load_classifier(path)
    assert "\n" not in str(refused.value)
    assert "mine.keras" in str(refused.value)


def as_litert(model: Any, **signature: Any) -> bytes:
    """Convert a model as others do, without our softmax at its end."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for option, value in signature.items():
        setattr(converter, option, value)
    compiled: bytes = converter.convert()
    return compiled


def test_logits_of_a_compiled_form_become_probabilities(keras: Any) -> None:
    model = measuring(keras, keras.layers.Rescaling(8))
    engine = LiteRTEngine(as_litert(model), "float32")
    image = np.full((70, 16, 16, 3), 0.2, np.float32)
    expected = np.exp([1.6, 0]) / np.exp([1.6, 0]).sum()
    assert engine.run(image) == pytest.approx(np.array([expected] * 70), abs=1e-5)


@pytest.mark.parametrize("kind", ["bytes in", "two inputs", "two outputs", "a picture out"])
def test_a_compiled_form_that_is_no_image_classifier_is_refused_in_one_line(
    kind: str, keras: Any
) -> None:
    layers = keras.layers
    image, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    flat = layers.Flatten()
    model = {
        "bytes in": lambda: measuring(keras, layers.Rescaling(1 / 255), dtype="uint8"),
        "two inputs": lambda: keras.Model([image, other], flat(image) + flat(other)),
        "two outputs": lambda: keras.Model(image, [flat(image), flat(image) * 2]),
        "a picture out": lambda: keras.Model(image, layers.Conv2D(3, 3)(image)),
    }[kind]()
    with pytest.raises(CheckpointError, match=r"the int8 form of the checkpoint maps .*needed is"):
        LiteRTEngine(as_litert(model), "int8")


def test_digits_are_looked_for_only_where_the_input_is_mnists(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    measuring(keras).save(path)
    assert quantise.main([str(path), "--preprocessing", "digits"]) == 2
    assert not path.with_suffix(".json").exists()
    measuring(keras, shape=(28, 28, 1)).save(path)
    assert quantise.main([str(path), "--preprocessing", "digits"]) == 0
    assert load_classifier(path).preprocessing == "digits"


def test_quantising_a_retrained_model_keeps_its_labels(
    keras: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.keras"
    measuring(keras).save(path)
    assert quantise.main([str(path), "--labels", "cat,dog"]) == 0
    measuring(keras, keras.layers.Rescaling(2)).save(path)
    assert quantise.main([str(path)]) == 0
    assert "earlier checkpoint" in capsys.readouterr().out
    side = read_side_file(path)
    assert side is not None
    assert side.labels == ("cat", "dog")
    assert side.sha256 == sha256_of(path)
    assert seen_by(load_classifier(path)) == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize("labels", ["cat,", "cat", "cat,dog,bird"])
def test_labels_that_do_not_fit_are_refused_before_anything_is_compiled(
    labels: str, keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.keras"
    measuring(keras).save(path)
    monkeypatch.setattr(quantise, "compile_forms", pytest.fail)
    assert quantise.main([str(path), "--labels", labels]) == 2
