"""Files of training data as people have them: `.npz`, CSV, and the `idx` files of MNIST's authors.

Each reader returns the four arrays `x_train`, `y_train`, `x_test`, `y_test`, and `labels` where the
file names the classes. Whether they are images and classes is checked by `datasets`.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import shortened

Arrays = dict[str, npt.NDArray[Any]]

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

# How the column of the classes is called; without a header it is the first, as in MNIST's CSV.
CLASS_COLUMNS = ("label", "class", "target", "y")

DELIMITERS = ",;\t"
WHITE = 255

# Without a file of test images: every tenth image is one.
TEST_SHARE = 10

# What a file may unpack to: 70,000 colour images of 224 x 224 are 10 GB, in another format.
MAX_BYTES = 4 << 30

# http://yann.lecun.com/exdb/mnist: two zeros, the type (8: unsigned bytes), the dimensions.
IDX_HEAD = b"\0\0\x08"

# What stands for the training in the name of a file, and for the test in its neighbour's.
TRAIN = re.compile("train", re.IGNORECASE)
TESTS = ("test", "t10k")


def read_data(file: Path) -> Arrays:
    """Read a file, or a folder, of training data.

    Args:
        file: A `.npz` archive; a CSV file with the class and the pixels of an image in each row,
            and one with `test` for `train` in its name beside it, if there is one; an `idx` file
            of training images, with the three others beside it; or the folder of such files. All
            but the archive may be `.gz`.

    Raises:
        ValueError: It is not such a file; the text says what is wrong.
        OSError: It cannot be read.
    """
    if file.is_dir():
        file = _training_file(file)
    return _reader(file)(file)


def name_of(file: Path) -> str:
    """Return the name of a data set by that of its file or folder: without `.csv.gz`, say."""
    return Path(file.resolve().name.removesuffix(".gz")).stem


def _reader(file: Path) -> Callable[[Path], Arrays]:
    with file.open("rb") as opened:
        begins = opened.read(2)
    name = file.name.lower().removesuffix(".gz")
    if begins == b"PK" or name.endswith(".npz"):
        return _read_archive
    if name.endswith((".csv", ".tsv")):
        return _read_tables
    with _opened(file) as unpacked:
        if unpacked.read(len(IDX_HEAD)) == IDX_HEAD:
            return _read_idx
    raise ValueError(f"{file}: neither a .npz archive, a .csv file, nor an idx-ubyte file")


def _require_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"it declares {size:,} bytes, {MAX_BYTES:,} are the most")


class _Bounded(io.RawIOBase):
    """What a file unpacks to, up to the limit: what is compressed tells its size nowhere."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        if self._read > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return len(data)


def _opened(file: Path) -> IO[bytes]:
    with file.open("rb") as opened:
        packed = opened.read(2) == b"\x1f\x8b"
    return gzip.open(file) if packed else file.open("rb")  # type: ignore[return-value]


def _training_file(folder: Path) -> Path:
    """Find the file of a folder with which to begin."""
    found = [
        each
        for each in sorted(folder.iterdir())
        if each.is_file()
        and not each.name.startswith(".")
        and TRAIN.search(each.name)
        # Of the two idx files the one with the images.
        and "labels" not in each.name.lower()
    ]
    if len(found) != 1:
        names = f" ({', '.join(each.name for each in found)})" if found else ""
        raise ValueError(
            f"{folder}: {len(found)} files of training images{names}, by `train` in their names: "
            "name the one to train on"
        )
    return found[0]


def _neighbour(file: Path, *changes: tuple[str, str]) -> Path | None:
    """Find a file whose name differs in some words; packed or not."""
    name = file.name
    for old, new in changes:
        name = re.sub(old, new, name, flags=re.IGNORECASE)
    plain = name.lower().removesuffix(".gz")
    for each in file.parent.iterdir():
        if each != file and each.name.lower().removesuffix(".gz") == plain:
            return each
    return None


# ---------------------------------------------------------------------- .npz


def _read_archive(file: Path) -> Arrays:
    try:
        with zipfile.ZipFile(file) as entries:
            _require_size(sum(entry.file_size for entry in entries.infolist()))
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in (*ARRAYS, "labels") if name in archive}
    except Exception as error:  # noqa: BLE001 - archives that others made raise anything
        raise ValueError(
            f"{file}: not a .npz archive of plain arrays ({shortened(error)})"
        ) from None


# ---------------------------------------------------------------------- idx


def _read_idx(file: Path) -> Arrays:
    if not TRAIN.search(file.name) or "images" not in file.name.lower():
        raise ValueError(f"{file}: name the file of the training images, or the folder")
    arrays = {"x_train": _idx_array(file)}
    to_classes = (r"images([-.])idx\d", r"labels\1idx1")
    beside = {"y_train": _neighbour(file, to_classes)}
    for test in TESTS:
        images = _neighbour(file, ("train", test))
        if images is not None:
            beside |= {"x_test": images, "y_test": _neighbour(images, to_classes)}
    for name, found in beside.items():
        if found is None:
            raise ValueError(f"{file}: the file of its classes is not beside it ({name})")
        arrays[name] = _idx_array(found)
    return arrays if "x_test" in arrays else _with_test_images(arrays)


def _idx_array(file: Path) -> npt.NDArray[np.uint8]:
    try:
        with _opened(file) as opened:
            head = opened.read(4)
            if len(head) < 4 or head[:3] != IDX_HEAD or not 1 <= head[3] <= 4:
                raise ValueError("it does not begin as one of bytes does")
            shape = struct.unpack(f">{head[3]}I", opened.read(4 * head[3]))
            size = math.prod(shape)
            _require_size(size)
            data = opened.read(size + 1)
    except (ValueError, EOFError, gzip.BadGzipFile, struct.error, OverflowError) as error:
        raise ValueError(f"{file}: not an idx-ubyte file: {shortened(error)}") from None
    if len(data) != size:
        found = f"{len(data):,}" if len(data) < size else "more"
        raise ValueError(f"{file}: it declares {size:,} bytes and holds {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)


# ---------------------------------------------------------------------- CSV


def _read_tables(file: Path) -> Arrays:
    x_train, names = _table(file)
    test = next((found for each in TESTS if (found := _neighbour(file, ("train", each)))), None)
    if test is None or not TRAIN.search(file.name):
        arrays = _with_test_images({"x_train": x_train, "y_train": names})
    else:
        x_test, test_names = _table(test)
        if x_test.shape[1:] != x_train.shape[1:]:
            raise ValueError(f"{test}: its rows are no images of the size of those in {file.name}")
        arrays = {"x_train": x_train, "y_train": names, "x_test": x_test, "y_test": test_names}
    return {**arrays, **_classes_of(arrays["y_train"], arrays["y_test"])}


def _table(file: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Read a table of images: (N, H, W, C) uint8, and the texts of their classes (N,)."""
    names: list[str] = []
    try:
        with _opened(file) as opened, _text_of(opened) as lines:
            first = lines.readline()
            if not first.strip():
                raise ValueError("its first row is empty")
            delimiter = max(DELIMITERS, key=first.count)
            cells = [_plain(cell) for cell in first.split(delimiter)]
            has_header = not all(map(_is_number, cells[1:]))
            place = _class_column(cells) if has_header else 0
            rows = lines if has_header else chain([first], lines)
            pixels = np.loadtxt(
                _without(rows, delimiter, place, names),
                np.float32,
                comments=None,
                delimiter=delimiter,
                quotechar='"',
                ndmin=2,
            )
        if len(pixels) != len(names) or not names:
            raise ValueError("it has no rows")
        shape = _shape_of(pixels.shape[1])
        if not ((pixels >= 0) & (pixels <= WHITE) & (pixels == pixels.round())).all():
            raise ValueError(f"its pixels are not all whole numbers from 0 to {WHITE}")
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{file}: not a table of images: {shortened(error)}") from None
    return pixels.astype(np.uint8).reshape(-1, *shape), np.array(names)


def _text_of(opened: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(_Bounded(opened), 1 << 16), "utf-8-sig")


def _without(rows: Iterable[str], delimiter: str, place: int, names: list[str]) -> Iterator[str]:
    """Yield rows without the cell of the class, which goes into `names`."""
    for row in rows:
        if not row.strip():
            continue
        before = row.split(delimiter, place)
        if len(before) <= place:
            raise ValueError(f"row {len(names) + 1} is too short")
        name, _, after = before.pop().partition(delimiter)
        names.append(_plain(name))
        yield delimiter.join([*before, *([after] if after else [])])


def _plain(cell: str) -> str:
    return cell.strip().strip('"').strip()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _class_column(header: list[str]) -> int:
    names = [name.lower() for name in header]
    found = [names.index(name) for name in CLASS_COLUMNS if name in names]
    if not found:
        raise ValueError(f"no column of its header is called {', '.join(CLASS_COLUMNS)}")
    return found[0]


def _shape_of(pixels: int) -> tuple[int, int, int]:
    """Tell height, width and channels of square images by how many numbers they have."""
    for channels in (1, 3, 4):
        side = math.isqrt(pixels // channels)
        if side and side * side * channels == pixels:
            return side, side, channels
    raise ValueError(f"{pixels} pixels in a row are no square image, grey, RGB or RGBA")


def _classes_of(train: npt.NDArray[Any], test: npt.NDArray[Any]) -> Arrays:
    """Make numbers of the classes as they stand in tables: of numbers themselves, else by name."""
    texts = [*train.tolist(), *test.tolist()]
    if all(each.isdecimal() for each in texts):
        return {"y_train": train.astype(np.int64), "y_test": test.astype(np.int64)}
    labels = sorted(set(texts))
    numbers = {label: number for number, label in enumerate(labels)}
    return {
        "y_train": np.array([numbers[each] for each in train.tolist()]),
        "y_test": np.array([numbers[each] for each in test.tolist()]),
        "labels": np.array(labels),
    }


def _with_test_images(arrays: Arrays) -> Arrays:
    """Take every tenth image of one file away from the training: tables are often sorted."""
    for_test = np.arange(len(arrays["x_train"])) % TEST_SHARE == TEST_SHARE - 1
    if len(arrays["y_train"]) != len(for_test) or not for_test.any():
        raise ValueError(
            f"{len(for_test)} images, {len(arrays['y_train'])} classes, and no file of test images"
        )
    return {
        f"{kind}_{part}": arrays[f"{kind}_train"][chosen]
        for part, chosen in (("train", ~for_test), ("test", for_test))
        for kind in "xy"
    }
