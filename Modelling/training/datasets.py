"""The data sets that a model is trained on and measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import shortened
from Modelling.network.side_file_values import checked_labels
from Modelling.network.tensorflow import import_tensorflow
from Modelling.training.data_files import ARRAYS, Arrays, read_data

BUNDLED_TEST_IMAGES = Path(__file__).parents[1] / "data" / "mnist_test.npz"

# Names of the classes by index, for the data sets that `keras.datasets` downloads.
LABELS = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip

# A number far above is a mistake, and would be allocated as a layer of the network.
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Dataset:
    """Images and their classes, split for training and for the final measurement.

    Attributes:
        name: `mnist`, `fashion_mnist`, or the stem of a file.
        labels: Names of the classes by index.
        train_images: (N, H, W, C) uint8; `test_images` likewise.
        train_classes: (N,) int64; `test_classes` likewise.
    """

    name: str
    labels: tuple[str, ...]
    train_images: npt.NDArray[np.uint8]
    train_classes: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_classes: npt.NDArray[np.int64]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels


def load_dataset(name: str, file: Path | None = None) -> Dataset:
    """Load a data set.

    Args:
        name: `mnist` or `fashion_mnist`, downloaded once by `keras.datasets` if no file is given;
            with a file, any name.
        file: As `data_files.read_data` takes it: images as uint8 (N, H, W) or (N, H, W, C),
            classes as integers (N,), and optionally `labels`, the classes' names.

    Raises:
        ValueError: The name is unknown, or the file is not such a file; the text says what is
            wrong.
        OSError: The file cannot be read, or the download failed.
    """
    labels: tuple[str, ...] | None = LABELS.get(name)
    if file is not None:
        arrays = read_data(file)
    elif labels is not None:
        arrays = _download(name)
    else:
        raise ValueError(f"unknown data set {name!r}: choose {' or '.join(LABELS)}, or give a file")
    for array in ARRAYS:
        if array not in arrays:
            raise ValueError(f"{file}: array {array!r} is missing; needed are {', '.join(ARRAYS)}")
    images = {part: _images(arrays[f"x_{part}"], f"x_{part}") for part in ("train", "test")}
    classes = {
        part: _classes(arrays[f"y_{part}"], len(images[part]), f"y_{part}") for part in images
    }
    if images["train"].shape[1:] != images["test"].shape[1:]:
        raise ValueError("x_train and x_test hold images of different shapes")
    count = 1 + max(int(classes["train"].max()), int(classes["test"].max()))
    if count < 2:
        raise ValueError(f"{file or name}: all images are of one class; nothing can be told apart")
    if "labels" in arrays:
        labels = _labels(arrays["labels"], count, file)
    elif labels is None or len(labels) != count:
        labels = tuple(str(index) for index in range(count))
    return Dataset(name, labels, images["train"], classes["train"], images["test"], classes["test"])


def _labels(array: npt.NDArray[np.generic], count: int, file: Path | None) -> tuple[str, ...]:
    try:
        labels = checked_labels([str(label) for label in array.reshape(-1)])
        if len(set(labels)) < len(labels):
            raise ValueError("two classes have the same label: they would be trained apart")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if len(labels) < count:
        raise ValueError(f"{file}: {len(labels)} labels for {count} classes")
    return labels


def bundled_test_images() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Load the 10,000 MNIST test images that are part of the project.

    Returns:
        Images (10000, 28, 28) uint8, white ink on black, and their digits (10000,) uint8.
    """
    with np.load(BUNDLED_TEST_IMAGES, allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def _download(name: str) -> Arrays:
    import_tensorflow()
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # noqa: BLE001 - Keras wraps what the network raises in its own
        raise OSError(
            f"the data set {name} cannot be downloaded ({shortened(error)}); "
            "download it elsewhere and give it as --data FILE.npz"
        ) from None
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _images(array: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in array.shape:
        raise ValueError(
            f"{name} is {array.dtype} {array.shape}; it must be uint8, (N, H, W) or (N, H, W, C)"
        )
    images = array.astype(np.uint8, copy=False)
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"{name} holds images of {images.shape[3]} channels; known are 1 (grey), 3 (RGB) and "
            "4 (RGBA)"
        )
    return images


def _classes(array: npt.NDArray[Any], count: int, name: str) -> npt.NDArray[np.int64]:
    if array.size != count or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} is {array.dtype} {array.shape}; it must be {count} integers")
    if array.min() < 0 or array.max() >= MAX_CLASSES:
        raise ValueError(
            f"{name} holds classes from {array.min()} to {array.max()}; they count from 0, and "
            f"there are at most {MAX_CLASSES:,}"
        )
    return array.reshape(-1).astype(np.int64)
