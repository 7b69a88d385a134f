"""Images without a class: how they are made, how they are trained on, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Modelling import train_cnn
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.training.batches import accuracy, training_batches
from Modelling.training.continuing import starting_weights
from Modelling.training.datasets import Dataset
from Modelling.training.options import parse_options
from Modelling.training.outliers import KINDS, draw_outliers

Mnist = tuple[np.ndarray, np.ndarray]


def dataset_of(mnist: Mnist, count: int = 256) -> Dataset:
    images, classes = mnist[0][:count, ..., None], mnist[1][:count].astype(np.int64)
    return Dataset("mnist", tuple("0123456789"), images, classes, images, classes)


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3)])
def test_a_seed_gives_the_same_outliers_whatever_the_size_of_the_images(
    shape: tuple[int, int, int],
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), dtype=np.uint8)
    drawn = draw_outliers(images, 50, 1)
    assert drawn.shape == (50, *shape)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, draw_outliers(images, 50, 1))
    assert not np.array_equal(drawn, draw_outliers(images, 50, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_an_outlier_is_neither_blank_nor_a_training_image(kind: object, mnist: Mnist) -> None:
    images = mnist[0][:100, ..., None]
    drawn = kind(images, 100, np.random.default_rng(1))  # type: ignore[operator]
    flat = drawn.reshape(100, -1).astype(np.int64)
    assert (flat.std(1) > 0).mean() > 0.95
    assert not (flat[:, None] == images.reshape(100, -1)[None]).all(-1).any()


def test_a_batch_holds_the_share_of_outliers_and_wants_all_classes_of_them(mnist: Mnist) -> None:
    dataset = dataset_of(mnist)
    for images, wanted in training_batches(dataset, np.arange(256), 64, 1, 0.25):
        assert images.shape == (80, 28, 28, 1)
        assert np.allclose(wanted[64:], 0.1)
        assert np.array_equal(np.sort(wanted[:64]), np.sort(np.eye(10)[np.zeros(64, int)]))
    (images, _), *_ = training_batches(dataset, np.arange(256), 64, 1, 0)
    assert len(images) == 64


def test_images_of_no_class_are_neither_found_nor_missed() -> None:
    wanted = np.array([[1, 0], [0, 1], [0.5, 0.5], [0, 1]], np.float32)
    given = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], np.float32)
    tf = pytest.importorskip("tensorflow")
    found = accuracy(tf.constant(wanted), tf.constant(given))
    assert found.numpy().tolist() == [1, 0, 1]


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan"])
def test_a_share_of_outliers_is_from_none_to_as_many(share: str) -> None:
    assert parse_options([]).outliers == 0
    assert parse_options(["--outliers", "1"]).outliers == 1
    with pytest.raises(SystemExit):
        parse_options(["--outliers", share])


def test_training_goes_on_from_a_checkpoint_of_the_same_network_and_split(mnist: Mnist) -> None:
    options = parse_options(["--start-from", str(DEFAULT_CHECKPOINT)])
    weights = starting_weights(options, dataset_of(mnist))
    assert sum(each.size for each in weights) > 178_000
    with pytest.raises(ValueError, match="was trained with --seed 1"):
        starting_weights(replace(options, seed=2), dataset_of(mnist))
    two = replace(dataset_of(mnist), labels=("even", "odd"))
    with pytest.raises(ValueError, match="is not the small network"):
        starting_weights(options, two)


def test_a_checkpoint_to_start_from_that_is_missing_is_told_in_one_line(
    tmp_path: Path, mnist: Mnist, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "few.npz"
    images, classes = mnist[0][:40], mnist[1][:40]
    np.savez(data, x_train=images, y_train=classes, x_test=images, y_test=classes)
    missing = tmp_path / "none.h5"
    assert train_cnn.main(["--data", str(data), "--start-from", str(missing)]) == 2
    assert capsys.readouterr().err.startswith("train_cnn: ")
