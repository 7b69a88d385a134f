"""The range of pixels that a model wants is shown by what it does with them, or told as a guess."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Modelling import predict_cnn, quantise
from Modelling.network.checkpoint import SideFile, read_side_file, sha256_of, write_side_file
from Modelling.network.input_range import BYTES, UNIT, InputRange, parse_input_range
from Modelling.network.range_probe import find_input_range
from Modelling.predict_cnn import load_classifier

Build = Callable[[Any, Any], Any]


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def ending(keras: Any, image: Any, x: Any) -> Any:
    """A small classifier behind whatever was done to the pixels."""
    layers = keras.layers
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


def behind(change: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        image = keras.Input((32, 32, 3))
        return ending(keras, image, change(keras, image))

    return build


def normalised_first(mean: float, deviation: float | None = None) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        normalisation = keras.layers.BatchNormalization()
        model = behind(lambda k, x: normalisation(x))(keras)
        variance = (deviation or mean / 2) ** 2
        normalisation.set_weights([np.ones(3), np.zeros(3), np.full(3, mean), np.full(3, variance)])
        return model

    return build


def remembering(scale: float) -> Callable[[Any], Any]:
    """A convolution and a batch normalisation that has seen pixels up to `scale`."""

    def build(keras: Any) -> Any:
        layers = keras.layers
        image = keras.Input((32, 32, 3))
        convolution = layers.Conv2D(8, 3, use_bias=False)
        normalisation = layers.BatchNormalization()
        model = ending(keras, image, normalisation(convolution(image)))
        noise = np.random.default_rng(1).random((16, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
        seen = np.asarray(convolution((scale * noise).astype(np.float32))).reshape(-1, 8)
        normalisation.set_weights([np.ones(8), np.zeros(8), seen.mean(0), seen.var(0)])
        return model

    return build


TOLD: dict[str, tuple[Callable[[Any], Any], InputRange]] = {
    "preprocess_input of resnet50": (
        behind(lambda k, x: k.applications.resnet50.preprocess_input(x)), BYTES),
    "preprocess_input of densenet": (
        behind(lambda k, x: k.applications.densenet.preprocess_input(x)), BYTES),
    "preprocess_input of xception": (
        behind(lambda k, x: k.applications.xception.preprocess_input(x)), BYTES),
    "(x - 127.5) / 127.5": (behind(lambda k, x: (x - 127.5) / 127.5), BYTES),
    "x / [255, 255, 255]": (
        behind(lambda k, x: x / np.array([255, 255, 255], np.float32)), BYTES),
    "RandAugment, then Rescaling": (
        behind(lambda k, x: k.layers.Rescaling(1 / 255)(
            k.layers.RandAugment(value_range=(0, 255))(x))), BYTES),
    "RandomColorJitter, then Rescaling": (
        behind(lambda k, x: k.layers.Rescaling(1 / 255)(
            k.layers.RandomColorJitter(value_range=(0, 255))(x))), BYTES),
    "a Pipeline of layers": (
        behind(lambda k, x: k.layers.Pipeline(
            [k.layers.RandomFlip(), k.layers.Rescaling(1 / 255)])(x)), BYTES),
    "a model in a model": (
        behind(lambda k, x: k.Sequential(
            [k.Sequential([k.layers.RandomZoom(0.1), k.layers.Rescaling(1 / 255)])])(x)), BYTES),
    "a pooling before the scaling": (
        behind(lambda k, x: k.layers.AveragePooling2D(2)(x) / 255), BYTES),
    "a flip before the scaling": (behind(lambda k, x: x[:, :, ::-1] / 255), BYTES),
    "a clip before the scaling": (behind(lambda k, x: k.ops.clip(x, 0, 255) / 255), BYTES),
    "a resize before the scaling": (
        behind(lambda k, x: k.ops.image.resize(x, (16, 16)) / 255), BYTES),
    "a normalisation of dark bytes": (normalised_first(120), BYTES),
    "a normalisation of [0, 1]": (normalised_first(0.45), UNIT),
    "x * 2 - 1": (behind(lambda k, x: x * 2 - 1), UNIT),
    "(x - mean) / deviation of [0, 1]": (
        behind(lambda k, x: (x - np.array([0.485, 0.456, 0.406], np.float32)) / 0.225), UNIT),
    "EfficientNet": (
        lambda k: k.applications.EfficientNetB0(
            weights=None, input_shape=(32, 32, 3), classes=3), BYTES),
    "a network that has seen bytes": (remembering(255), BYTES),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_a_model_shows_which_range_it_wants(name: str, keras: Any) -> None:
    build, expected = TOLD[name]
    found = find_input_range(build(keras))
    assert (found.input_range, found.known) == (expected, True), found.why


@pytest.mark.parametrize(
    "build",
    [
        behind(lambda k, x: x),
        remembering(1),
        normalised_first(0.01, 0.57),  # of pixels in [-1, 1]
        behind(lambda k, x: x / 65_535),
    ],
    ids=["as it is", "[0, 1] or [-1, 1]", "centred on black", "16 bits"],
)
def test_a_range_that_cannot_be_known_is_told_as_a_guess(
    build: Callable[[Any], Any], keras: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.keras"
    build(keras).save(path)
    load_classifier(path)
    [warning] = [each for each in caplog.records if each.levelno == logging.WARNING]
    text = warning.getMessage()
    assert "mine.keras is given pixels in [0, 1], which is a guess" in text
    assert "--input-range 0,255" in text
    caplog.clear()
    write_side_file(path, SideFile(sha256_of(path), ("a", "b", "c"), (32, 32, 3), input_range=UNIT))
    load_classifier(path)
    assert not caplog.records or all(each.levelno < logging.WARNING for each in caplog.records)


def test_the_start_says_which_range_was_chosen_and_why(
    keras: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.keras"
    behind(lambda k, x: x / 127.5 - 1)(keras).save(path)
    with caplog.at_level(logging.INFO, "Modelling"):
        load_classifier(path)
    assert "pixels in [0, 255]: its own arithmetic makes [-1, 1] of them" in caplog.text


def given_to(classifier: Any, shade: float) -> float:
    """What a model made by `meaning` was given for a shade of [0, 1]."""
    first, second = classifier.probabilities(np.full((1, 8, 8, 3), shade, np.float32))[0]
    return float(np.log(first / second))


def meaning(keras: Any) -> Any:
    """Two logits: the mean of the pixels, and 0."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    model.layers[-1].set_weights([np.array([[1 / 3, 0]] * 3, np.float32), np.zeros(2, np.float32)])
    return model


@pytest.mark.parametrize(
    ("keys", "black", "white"),
    [
        ({"input_range": parse_input_range("-1,1")}, -1, 1),
        ({"input_range": parse_input_range("0,8")}, 0, 8),
        ({"mean": (0.5,), "std": (0.25,)}, -2, 2),
        ({"mean": (0.4, 0.5, 0.6), "std": (0.5, 0.5, 0.5)}, -1, 1),
        ({"input_range": parse_input_range("0,8"), "mean": (4.0,), "std": (2.0,)}, -2, 2),
        ({"mean": (0.5,)}, -0.5, 0.5),
    ],
)
def test_the_side_file_says_the_range_as_people_know_it(
    keys: dict[str, Any], black: float, white: float, keras: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.keras"
    meaning(keras).save(path)
    write_side_file(path, SideFile(sha256_of(path), ("a", "b"), (8, 8, 3), **keys))
    assert read_side_file(path) == SideFile(sha256_of(path), ("a", "b"), (8, 8, 3), **keys)
    for engine in ("tensorflow", "float32"):
        if engine == "float32":
            assert quantise.main([str(path)]) == 0
        classifier = load_classifier(path, engine=engine)
        assert given_to(classifier, 0) == pytest.approx(black, abs=1e-4)
        assert given_to(classifier, 1) == pytest.approx(white, abs=1e-4)


def test_the_command_line_overrules_all(keras: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "mine.keras"
    meaning(keras).save(path)
    assert given_to(load_classifier(path, input_range=parse_input_range("-1,1")), 0) == (
        pytest.approx(-1)
    )
    assert quantise.main([str(path), "--input-range=-1,1"]) == 0
    assert "pixels: [-1, 1]" in capsys.readouterr().out
    assert given_to(load_classifier(path, engine="float32"), 0) == pytest.approx(-1, abs=1e-4)
    for wrong in ("1,0", "0", "a,b", "0,nan"):
        with pytest.raises(SystemExit):
            predict_cnn.main(["--input-range", wrong, "photo.png"])
        assert "input range" in capsys.readouterr().err
