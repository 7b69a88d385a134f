"""Training data as people have them: tables, MNIST's own files, packed or not."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from Modelling.training import data_files
from Modelling.training.data_files import name_of
from Modelling.training.datasets import Dataset, load_dataset

Images = npt.NDArray[np.uint8]

RANDOM = np.random.default_rng(3)
X_TRAIN, X_TEST = (RANDOM.integers(0, 256, (count, 6, 6)).astype(np.uint8) for count in (40, 8))
Y_TRAIN, Y_TEST = np.arange(40) % 4, np.arange(8) % 4


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def idx(array: npt.NDArray[np.integer]) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def table(
    images: Images,
    classes: npt.NDArray[np.integer],
    delimiter: str = ",",
    name: Callable[[int], str] = str,
    *,
    last: bool = False,
    header: bool = False,
) -> bytes:
    pixels = images.reshape(len(images), -1)
    rows = [[f"pixel{number}" for number in range(pixels.shape[1])]] if header else []
    rows += [[str(value) for value in row] for row in pixels]
    column = (["label"] if header else []) + [name(int(each)) for each in classes]
    for cell, row in zip(column, rows, strict=True):
        row.insert(len(row) if last else 0, cell)
    return "\r\n".join(delimiter.join(row) for row in rows).encode() + b"\r\n"


def assert_is_all(data: Dataset) -> None:
    assert np.array_equal(data.train_images, X_TRAIN[..., None])
    assert np.array_equal(data.train_classes, Y_TRAIN)
    assert np.array_equal(data.test_images, X_TEST[..., None])
    assert np.array_equal(data.test_classes, Y_TEST)
    assert data.labels == ("0", "1", "2", "3")


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("whole", [True, False], ids=["folder", "file"])
@pytest.mark.parametrize(
    "names",
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-"),
        ("emnist-train-images-idx3-ubyte", "emnist-train-labels-idx1-ubyte", "emnist-test-"),
    ],
    ids=["MNIST", "with points", "EMNIST"],
)
def test_the_files_of_mnists_authors(
    tmp_path: Path, names: tuple[str, str, str], whole: bool, packed: str
) -> None:
    images, classes, test = names
    train = test.replace("t10k", "train").replace("test", "train")
    file = write(tmp_path / (images + packed), idx(X_TRAIN))
    write(tmp_path / (classes + packed), idx(Y_TRAIN))
    write(tmp_path / (images.replace(train, test) + packed), idx(X_TEST))
    write(tmp_path / (classes.replace(train, test) + packed), idx(Y_TEST))
    assert_is_all(load_dataset("mine", tmp_path if whole else file))


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("header", [True, False], ids=["header", "no header"])
def test_two_tables(tmp_path: Path, packed: str, header: bool) -> None:
    file = write(tmp_path / f"mnist_train.csv{packed}", table(X_TRAIN, Y_TRAIN, header=header))
    write(tmp_path / f"mnist_test.csv{packed}", table(X_TEST, Y_TEST, header=header))
    assert_is_all(load_dataset("mine", file))
    assert_is_all(load_dataset("mine", tmp_path))


def test_of_one_table_every_tenth_image_is_for_the_test(tmp_path: Path) -> None:
    data = load_dataset("mine", write(tmp_path / "mine.csv", table(X_TRAIN, Y_TRAIN)))
    assert np.array_equal(data.test_images, X_TRAIN[9::10][..., None])
    assert np.array_equal(data.test_classes, Y_TRAIN[9::10])
    assert len(data.train_images) == 36


def test_the_column_of_the_classes_is_found_by_its_name(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + table(X_TRAIN, Y_TRAIN, ";", last=True, header=True)
    data = load_dataset("mine", write(tmp_path / "mine.csv", text))
    assert np.array_equal(data.test_classes, Y_TRAIN[9::10])


def test_classes_may_be_names(tmp_path: Path) -> None:
    names = ("dog", "cat", "emu", "ant")
    text = table(X_TRAIN, Y_TRAIN, name=lambda number: f'"{names[number]}"', header=True)
    data = load_dataset("mine", write(tmp_path / "mine.csv", text))
    assert data.labels == ("ant", "cat", "dog", "emu")
    assert [data.labels[each] for each in data.train_classes[:4]] == list(names)


def test_rows_of_three_colours(tmp_path: Path) -> None:
    colours = RANDOM.integers(0, 256, (20, 4, 4, 3)).astype(np.uint8)
    data = load_dataset("mine", write(tmp_path / "mine.csv", table(colours, np.arange(20) % 2)))
    assert data.input_shape == (4, 4, 3)
    assert np.array_equal(data.test_images, colours[9::10])


WRONG: dict[str, tuple[str, bytes, str]] = {
    "no image": ("a.csv", b"1,2,3\n1,2,3\n", "no square image"),
    "a float": ("a.csv", table(X_TRAIN, Y_TRAIN).replace(b",17,", b",0.5,"), "whole numbers"),
    "too bright": ("a.csv", table(X_TRAIN, Y_TRAIN).replace(b",17,", b",256,"), "whole numbers"),
    "ragged": ("a.csv", table(X_TRAIN, Y_TRAIN) + b"1,2,3\n", "not a table of images"),
    "no class": ("a.csv", b"a,b,c,d\n1,2,3,4\n", "no column of its header is called label"),
    "empty": ("a.csv", b"", "not a table of images"),
    "no text": ("a.csv", b"\xff\xfe,1,2", "not a table of images"),
    "cut off": ("a.csv.gz", gzip.compress(table(X_TRAIN, Y_TRAIN))[:-20], "not a table of images"),
    "alone": ("train-images-idx3-ubyte", idx(X_TRAIN), "its classes is not beside it"),
    "of the classes": ("train-labels-idx1-ubyte", idx(Y_TRAIN), "training images"),
    "declares more": ("train-images-idx3-ubyte", idx(X_TRAIN)[:-1], "declares 1,440 bytes"),
    "declares a lot": ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "declares"),
    "floats": ("train-images-idx3-ubyte", b"\0\0\x0d\x03" + b"\0" * 12, "neither a .npz"),
    "something else": ("a.dat", b"hello", "neither a .npz archive, a .csv file, nor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_training_data_says_so(tmp_path: Path, name: str) -> None:
    file, data, says = WRONG[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        load_dataset("mine", tmp_path / file)
    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_two_data_sets_asks_which(tmp_path: Path) -> None:
    for name in ("a_train.csv", "b_train.csv"):
        write(tmp_path / name, table(X_TRAIN, Y_TRAIN))
    with pytest.raises(ValueError, match=r"a_train\.csv, b_train\.csv"):
        load_dataset("mine", tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [("pets/mine.v2.npz", "mine.v2"), ("a/mine.csv.gz", "mine"), ("a/pets", "pets")],
)
def test_a_data_set_is_named_after_its_file(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


@pytest.mark.parametrize(
    "name", ["mine.npz", "train.csv", "train.csv.gz", "train-images.idx3-ubyte"]
)
def test_what_unpacks_to_more_than_the_limit_is_not_unpacked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes may unpack to more than any machine has."""
    x_train, y_train = np.zeros((40, 100, 100), np.uint8), np.arange(40) % 4
    path = tmp_path / name
    if name == "mine.npz":
        arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_train, "y_test": y_train}
        np.savez_compressed(path, **arrays)
    elif "csv" in name:
        write(path, table(x_train, y_train))
    else:
        write(path, idx(x_train))
    monkeypatch.setattr(data_files, "MAX_BYTES", 100_000)
    with pytest.raises(ValueError, match=r"declares [0-9,]+ bytes|more than 100,000 bytes"):
        load_dataset("mine", path)
