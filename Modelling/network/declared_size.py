"""How much a checkpoint says it takes, added up before any of it is read.

Files are compressed and say in a few bytes how large something is going to be: 3 MB may unpack to
3 GB, and a network of one line may ask for more weights than any machine holds. A server that loads
a new checkpoint has a model to serve meanwhile: such a file is refused by what it declares.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from DurableText.installation.extras import needs
from DurableText.program.option_types import count
from Modelling.errors import CheckpointError
from Modelling.network.hashes import files_of, require_regular

# Four times the largest network of keras.applications (NASNetLarge has 360 MB, VGG19 550 MB).
DEFAULT_MAX_MODEL_BYTES = 2 << 30

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Groups of HDF5 files that are never loaded: how the training stood.
OF_TRAINING = ("optimizer", "optimizer_weights")

# The attribute of a group that lists its weights; a long list is cut into those of this name and a
# number.
NAMES_OF_WEIGHTS = "weight_names"


class TooLargeError(CheckpointError):
    """Raised when a checkpoint, or a part of it, takes more than it may."""


def require_size(what: object, declared: int, max_bytes: int) -> None:
    """Refuse what is too large.

    Args:
        what: A file, or words for a part of it.
        declared: How many bytes it takes.
        max_bytes: How many it may take.

    Raises:
        TooLargeError: It takes more.
    """
    if declared > max_bytes:
        raise TooLargeError(
            f"{what} declares {declared:,} bytes, and --max-model-bytes are {max_bytes:,}: nothing "
            "of it was loaded; raise the limit if the model is really so large"
        )


def require_size_on_disk(path: Path, max_bytes: int) -> None:
    """Refuse a file or folder that is too large to be read, be it only for its hash.

    HDF5 may be larger than what is loaded of it, by what is of training: there it is added up.

    Raises:
        TooLargeError: It is.
        OSError: It is not there, or cannot be read.
    """
    inside = files_of(path) if path.is_dir() else [path]
    size = sum(each.stat().st_size for each in inside)
    if size > max_bytes and path.is_file() and _is_hdf5(path):
        with needs("a Keras model", CheckpointError):
            require_hdf5_size(path, max_bytes)
    else:
        require_size(path, size, max_bytes)


def _is_hdf5(path: Path) -> bool:
    require_regular(path)
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def require_archive_size(path: Path, max_bytes: int) -> None:
    """Refuse an archive whose entries would unpack to more.

    Raises:
        CheckpointError, OSError, zipfile.BadZipFile: It is too large, or cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        require_size(path, sum(entry.file_size for entry in archive.infolist()), max_bytes)


def require_hdf5_size(path: Path, max_bytes: int, name: object = None) -> None:
    """Refuse a HDF5 file whose datasets would take more. What is of training does not count.

    A group may name one dataset as many weights, and Keras reads it anew for each name: it counts
    as often as it is named.

    Args:
        path: The file.
        max_bytes: How many bytes it may take.
        name: What it is called in the error; the file if None.

    Raises:
        CheckpointError, OSError: It is too large, or cannot be read.
    """
    import h5py

    total = 0

    def add(place: str, found: Any) -> None:
        nonlocal total
        if isinstance(found, h5py.Dataset) and place.split("/", 1)[0] not in OF_TRAINING:
            total += found.nbytes
        elif isinstance(found, h5py.Group):
            total += sum(_bytes_read_again(found))

    with path.open("rb") as raw, h5py.File(raw, "r") as file:
        file.visititems(add)
    require_size(name or path, total, max_bytes)


def _bytes_read_again(group: Any) -> Iterator[int]:
    """Yield the bytes of each dataset of a group that it names as a weight once more."""
    import h5py

    named: set[bytes | str] = set()
    for attribute in group.attrs:
        if not attribute.startswith(NAMES_OF_WEIGHTS):
            continue
        for name in np.ravel(group.attrs[attribute]).tolist():
            if name in named and isinstance(again := group.get(name), h5py.Dataset):
                yield again.nbytes
            named.add(name)


@contextlib.contextmanager
def limited_weights(path: Path, max_bytes: int) -> Iterator[None]:
    """Refuse a network that makes more weights while it is built, before it makes them.

    Keras fills weights as it builds a layer, long before it looks into a file for them. All of its
    layers make them by this one method, and nothing but this sees them in time.

    Raises:
        CheckpointError: It does.
    """
    import keras

    add_weight = keras.layers.Layer.add_weight
    total = 0

    def counted(self: Any, shape: Sequence[int] | None = None, *rest: Any, **named: Any) -> Any:
        nonlocal total
        total += tensor_bytes(shape or (), np.float32)
        require_size(path, total, max_bytes)
        return add_weight(self, shape, *rest, **named)

    keras.layers.Layer.add_weight = counted
    try:
        yield
    except Exception:
        require_size(path, total, max_bytes)  # Keras wraps what is raised inside of it
        raise
    finally:
        keras.layers.Layer.add_weight = add_weight


def require_tensor_sizes(what: object, sizes: Iterable[int], max_bytes: int) -> None:
    """Refuse a network with a tensor, for one image, that takes more.

    Not their sum: an engine uses the room of one again for the next.

    Raises:
        CheckpointError: It has one.
    """
    require_size(what, max(sizes, default=0), max_bytes)


def tensor_bytes(shape: Iterable[Any], dtype: Any) -> int:
    """Tell how many bytes a tensor takes; a size that is open, that of the batch, counts as one."""
    itemsize: int = np.dtype(dtype).itemsize
    return math.prod(1 if size is None else int(size) for size in shape) * itemsize


def add_max_model_bytes(parser: argparse.ArgumentParser) -> None:
    """Add `--max-model-bytes` to a command line."""
    parser.add_argument(
        "--max-model-bytes",
        type=count,
        metavar="N",
        default=DEFAULT_MAX_MODEL_BYTES,
        help="a checkpoint that declares more is refused before it is read",
    )
