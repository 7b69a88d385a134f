"""Models that people bring themselves, and the training and compiling of new ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Modelling import quantise, train_cnn
from Modelling.data_preparation import load_dataset
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, RESIZE, read_side_file, sha256_of
from Modelling.predict_cnn import CheckpointError, load_classifier
from Modelling.training.architecture import build_cnn
from Modelling.training.datasets import ARRAYS

Encode = Callable[..., bytes]

ROOT = DEFAULT_CHECKPOINT.parent.parent.parent

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def colour_model(keras: Any, activation: str | None) -> Any:
    """A 32x32 RGB classifier that needs no training: the strongest channel is the class."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, use_bias=False, activation=activation),
        ]
    )
    model.set_weights([np.eye(3, dtype=np.float32) * 10])
    return model


def sheet(colour: int) -> np.ndarray:
    image = np.zeros((100, 80, 3), np.uint8)
    image[..., colour] = 200
    return image


@pytest.fixture(scope="module")
def colour_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"labels": np.array(COLOURS)}
    for part, count in (("train", 60), ("test", 30)):
        classes = rng.integers(0, 3, count)
        images = rng.integers(0, 90, (count, 32, 32, 3), np.uint8)
        images[np.arange(count), ..., classes] += 150
        arrays |= {f"x_{part}": images, f"y_{part}": classes}
    file = tmp_path_factory.mktemp("data") / "colours.npz"
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_bare_keras_model_is_served_with_its_class_indices(
    suffix: str, activation: str | None, keras: Any, tmp_path: Path, encode: Encode
) -> None:
    path = tmp_path / f"colours{suffix}"
    colour_model(keras, activation).save(path)
    classifier = load_classifier(path)
    prepared, _ = classifier.prepare_batch([encode(sheet(1), "PNG"), encode(sheet(2), "JPEG")])
    predictions = classifier.predict(prepared)
    assert predictions.labels == ["1", "2"]
    assert np.allclose(classifier.probabilities(prepared).sum(1), 1, atol=1e-5)
    assert classifier.version == f"colours@{sha256_of(path)[:12]}"


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_large_photographs_reach_a_small_colour_model_upright(
    orientation: int, keras: Any, tmp_path: Path, encode: Encode
) -> None:
    path = tmp_path / "colours.keras"
    colour_model(keras, "softmax").save(path)
    classifier = load_classifier(path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = np.zeros((900, 1300, 3), np.uint8)
    photo[..., 1] = 220
    photo[:200, :300] = (255, 0, 0)
    datas = [
        encode(Image.fromarray(photo), "JPEG", exif=exif, quality=95),
        encode(Image.fromarray(photo).convert("CMYK"), "TIFF"),
        encode(photo, "PNG", exif=exif),
    ]
    prepared, errors = classifier.prepare_batch(datas)
    assert not any(errors)
    assert classifier.predict(prepared).labels == ["1", "1", "1"]
    # Where the red corner has gone: the camera's top left.
    row, column = {1: (0, 0), 6: (0, 31), 8: (31, 0)}[orientation]
    for pixels in (prepared[0], prepared[2]):
        assert pixels[row, column] == pytest.approx([1, 0, 0], abs=0.1)


def test_quantising_gives_it_a_side_file_and_frees_it_of_tensorflow(
    keras: Any, tmp_path: Path, colour_data: Path, encode: Encode, capsys: Any
) -> None:
    path = tmp_path / "colours.keras"
    colour_model(keras, None).save(path)
    command = [str(path), "--data", str(colour_data), "--labels", ",".join(COLOURS)]
    assert quantise.main(command) == 0
    classifier = load_classifier(path)
    prepared, _ = classifier.prepare_batch([encode(sheet(0), "PNG")])
    assert classifier.predict(prepared).labels == ["red"]
    assert classifier.engine == "int8"
    assert classifier.version == f"colours@{sha256_of(path)[:12]}+int8"
    assert np.allclose(classifier.probabilities(prepared).sum(1), 1, atol=1e-5)
    assert "accuracy 100.00%" in capsys.readouterr().out


def test_models_that_classify_no_images_are_refused(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    vector = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    vector.save(path)
    with pytest.raises(CheckpointError, match="not an image classifier"):
        load_classifier(path)
    flexible = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()]
    )
    flexible.save(path)
    with pytest.raises(CheckpointError, match="fixed size"):
        load_classifier(path)
    many_labels = colour_model(keras, "sigmoid")
    many_labels.save(path)
    with pytest.raises(CheckpointError, match="neither probabilities"):
        load_classifier(path)


def test_a_lambda_layer_runs_only_if_the_user_insists(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    model = colour_model(keras, "softmax")
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Lambda(lambda x: x), model]).save(path)
    with pytest.raises(CheckpointError, match="Lambda"):
        load_classifier(path)
    assert load_classifier(path, allow_code=True).labels == ("0", "1", "2")


@pytest.fixture(scope="module")
def small_mnist(
    tmp_path_factory: pytest.TempPathFactory, mnist: tuple[np.ndarray, np.ndarray]
) -> Path:
    file = tmp_path_factory.mktemp("data") / "small.npz"
    images, digits = mnist
    np.savez(
        file, x_train=images[:400], y_train=digits[:400], x_test=images[400:600],
        y_test=digits[400:600],
    )  # fmt: skip
    return file


@pytest.mark.timeout(450)  # above both runs together
def test_training_twice_with_one_seed_gives_the_same_complete_checkpoint(
    small_mnist: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / run / "mnist_cnn_model.h5" for run in ("first", "second")]

    def train(output: Path) -> None:
        subprocess.run(
            [sys.executable, "Modelling/train_cnn.py", "--data", str(small_mnist), "--epochs", "2",
             "--seed", "3", "--batch-size", "32", "--output", str(output)],
            cwd=ROOT, check=True, capture_output=True, timeout=400,
        )  # fmt: skip

    with ThreadPoolExecutor() as both:
        list(both.map(train, outputs))
    sides = [read_side_file(output) for output in outputs]
    assert sides[0] is not None
    assert sides[1] is not None
    assert sides[0].sha256 == sides[1].sha256 == sha256_of(outputs[0])
    assert sides[0].engines == sides[1].engines
    assert "float32" in sides[0].engines
    assert sides[0].training["seed"] == 3
    assert sides[0].training["dataset"] == "small"
    assert sides[0].training["file"] == "small.npz"
    assert sides[0].training["file_sha256"] == sha256_of(small_mnist)
    assert sides[0].preprocessing == RESIZE
    plots = outputs[0].parent / "mnist_cnn_model_plots"
    for plot in ("loss_plot.png", "confusion_matrix.png"):
        with Image.open(plots / plot) as image:
            shades = np.asarray(image.convert("L"))
        assert min(shades.shape) > 300
        assert 0.02 < (shades < 250).mean() < 0.9  # neither empty nor black
    left = {path.name.split(".")[-1] for path in outputs[0].parent.iterdir() if path.is_file()}
    assert left <= {"h5", "tflite", "json"}
    assert load_classifier(outputs[0]).labels == tuple("0123456789")


def test_wrong_data_is_refused_in_one_line(tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "data.npz"
    assert train_cnn.main(["--data", str(data)]) == 2
    np.savez(data, x_train=np.zeros((2, 8, 8), np.uint8))
    assert train_cnn.main(["--data", str(data)]) == 2
    np.savez(data, **{name: np.zeros((2, 8, 8)) for name in ARRAYS})
    assert train_cnn.main(["--data", str(data)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "y_train" in lines[1]
    assert "must be uint8" in lines[2]


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """A data set of 40 and 10 images, in two classes, with something wrong."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (40, 8, 8), np.uint8),
        "y_train": np.arange(40) % 2,
        "x_test": rng.integers(0, 256, (10, 8, 8), np.uint8),
        "y_test": np.arange(10) % 2,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"labels": np.array(["a", "a"])}, [], "same label"),
        ({"labels": np.array(["a", ""])}, [], "not empty"),
        ({"labels": np.array(["a"])}, [], "1 labels for 2 classes"),
        ({"y_train": np.array([3_000_000_000] * 40)}, [], "at most 10,000"),
        ({"y_train": np.array([-1] * 40)}, [], "from -1"),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(10, int)}, [], "one class"),
        ({"x_train": np.zeros((40, 8, 8, 2), np.uint8)}, [], "2 channels"),
        ({"x_train": np.zeros((1, 8, 8), np.uint8), "y_train": np.array([1])}, [], "too few"),
        ({}, ["--validation-ratio", "0.99"], "too few"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_in_one_line(
    changes: dict[str, np.ndarray], options: list[str], reason: str, tmp_path: Path, capsys: Any
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, **arrays(**changes))
    command = ["--data", str(data), "--output", str(tmp_path / "mine.h5"), *options]
    assert train_cnn.main(command) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("cut", [10, 200, 2000])
def test_a_truncated_archive_is_refused_in_one_line(cut: int, tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "data.npz"
    np.savez_compressed(data, **arrays())
    data.write_bytes(data.read_bytes()[:cut])
    assert train_cnn.main(["--data", str(data)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_seed_below_zero_is_refused_by_the_command_line(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        train_cnn.main(["--seed", "-1"])
    assert "is not a number from 0 to" in capsys.readouterr().err


def test_without_a_network_the_download_fails_in_one_line(
    keras: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail() -> None:
        raise Exception("URL fetch failure on https://example.com: None")  # noqa: TRY002

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    assert train_cnn.main([]) == 2
    error = capsys.readouterr().err
    assert "--data FILE.npz" in error
    assert error.count("\n") == 1


def test_a_plot_that_cannot_be_drawn_does_not_cost_the_checkpoint(
    small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, keras: Any
) -> None:
    output = tmp_path / "mine.h5"
    model = build_cnn((28, 28, 1), 10)
    history = {name: [0.5] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    monkeypatch.setattr(train_cnn, "train", lambda *_: (model, history, 1))
    monkeypatch.setattr(train_cnn, "draw_loss", lambda *_: 1 / 0)
    assert train_cnn.main(["--data", str(small_mnist), "--output", str(output)]) == 0
    assert "not drawn" in capsys.readouterr().err
    assert load_classifier(output).labels == tuple("0123456789")


def test_a_folder_that_cannot_be_written_is_found_out_before_the_training(
    small_mnist: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    output = str(tmp_path / "file" / "mine.h5")
    assert train_cnn.main(["--data", str(small_mnist), "--output", output]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_data_set_names_its_classes(colour_data: Path) -> None:
    dataset = load_dataset("colours", colour_data)
    assert dataset.labels == COLOURS
    assert dataset.input_shape == (32, 32, 3)


def test_without_names_the_classes_are_their_indices(colour_data: Path, tmp_path: Path) -> None:
    with np.load(colour_data) as archive:
        np.savez(tmp_path / "bare.npz", **{name: archive[name] for name in ARRAYS})
    assert load_dataset("mnist", tmp_path / "bare.npz").labels == ("0", "1", "2")


def test_the_side_file_is_plain_json_for_other_tools() -> None:
    side = json.loads(DEFAULT_CHECKPOINT.with_suffix(".json").read_text())
    assert side["labels"] == list("0123456789")
    assert side["input_shape"] == [28, 28, 1]
    assert set(side["training"]) >= {"dataset", "test_accuracy", "seed", "date", "versions"}
