"""A checkpoint on disk: the Keras file, what the engine needs beside it, and the side file.

    mnist_cnn_model.h5               the network, as Keras saves it
    mnist_cnn_model.float32.tflite   the same network compiled for LiteRT
    mnist_cnn_model.int8.tflite      quantised; unless that costs accuracy
    mnist_cnn_model.json             the side file: SHA-256 of each, labels, input shape, ...

The files are written in this order, each atomically (a temporary file, fsync, rename). Whoever
reads in between sees a side file that does not match, and looks again; so a half-copied checkpoint
is never served. A checkpoint without a side file is fine too: it is somebody else's model.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from DurableText.program.wording import printable
from Modelling.errors import CheckpointError
from Modelling.images.digits import DIGITS
from Modelling.network.declared_size import TooLargeError, require_size, require_size_on_disk
from Modelling.network.file_kinds import SAVED_MODEL, advice_on
from Modelling.network.hashes import sha256_of
from Modelling.network.onnx_files import files_beside
from Modelling.network.replacing import write_atomically
from Modelling.network.side_file import EngineFile, SideFile, read_side_file, write_side_file
from Modelling.network.side_file_place import (
    named,
    own_side_file_path,
    side_file_path,
    side_file_to_write,
)
from Modelling.network.side_file_values import RESIZE
from Modelling.network.stamps import Stamp, settled_stamps, stamp_of

__all__ = [
    "DIGITS",
    "RESIZE",
    "Checkpoint",
    "EngineFile",
    "SideFile",
    "engine_path",
    "open_checkpoint",
    "read_side_file",
    "require_kind",
    "sha256_of",
    "side_file_path",
    "write_atomically",
    "write_side_file",
]

DEFAULT_CHECKPOINT = Path(__file__).parents[1] / "model_checkpoints" / "mnist_cnn_model.h5"

# In lower case. `.hdf5` is `.h5`.
CHECKPOINT_SUFFIXES = (".h5", ".hdf5", ".keras", ".onnx", ".tflite")

# Seconds for which a pair that does not match is looked at again: it may just be being copied.
PATIENCE = 5.0

# Seconds between two looks.
RETRY_INTERVAL = 0.25


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were found to belong together.

    Attributes:
        path: What was asked for.
        sha256: Of `weights`.
        side: Its side file.
        beside: Further files with weights, which an ONNX file names, and the SHA-256 of each.
        stamps: Of all these files, from before they were read.
    """

    path: Path
    sha256: str
    side: SideFile | None
    beside: tuple[tuple[Path, str], ...] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict, compare=False)

    @property
    def weights(self) -> Path:
        """Where the network lies: the checkpoint itself, or what was promoted in its place."""
        file = self.side.file if self.side else None
        return self.path if file is None else self.path.with_name(file)

    @property
    def is_changed(self) -> bool:
        """Whether a file was changed since: what was read of them by then may be of two models."""
        return any(stamp_of(path) != stamp for path, stamp in self.stamps.items())

    def require_unchanged(self) -> None:
        """Refuse what was read of files that were changed meanwhile.

        Raises:
            CheckpointError: They were.
        """
        if self.is_changed:
            raise CheckpointError(f"{self.path}: it changed while it was read: copy it again")

    @property
    def version(self) -> str:
        """Name and first 12 hex digits of the hash, as in `mnist_cnn_model@3f2a9c1d0b77`.

        Of weights in several files it is the hash of all hashes. It stands in each result: what of
        the name cannot be printed, or is no UTF-8, is written by its code.
        """
        digest = self.sha256
        if self.beside:
            lines = [self.sha256, *(f"{sha256}  {file.name}" for file, sha256 in self.beside)]
            digest = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
        return f"{printable(self.path.stem)}@{digest[:12]}"


def engine_path(checkpoint: Path, engine: str) -> Path:
    """Tell where `train_cnn.py` and `quantise.py` put a compiled form of a checkpoint.

    It is called after the side file, as that is: not over one that is of another file.
    """
    return side_file_to_write(checkpoint).with_suffix(f".{engine}.tflite")


def require_kind(path: Path) -> None:
    """Refuse a path that no checkpoint can have.

    Raises:
        CheckpointError: It is a folder without a SavedModel, or has the suffix of something else.
    """
    saved_model = (path / SAVED_MODEL).exists()
    if not saved_model and (path.is_dir() or path.suffix.lower() not in CHECKPOINT_SUFFIXES):
        there = "" if path.exists() else "no such file or folder; "
        raise CheckpointError(
            f"{path}: {there}a checkpoint is a .h5 or .keras file, as model.save() of Keras writes "
            f"it, a .onnx or .tflite file, or a folder with saved_model.pb{advice_on(path)}"
        )


def open_checkpoint(
    path: Path | str,
    *,
    patience: float = PATIENCE,
    need_match: bool = True,
    max_bytes: int | None = None,
) -> Checkpoint:
    """Find out what a checkpoint is and that its side file belongs to it.

    Args:
        path: A file of Keras, ONNX or LiteRT, or a SavedModel folder.
        patience: Seconds for which a pair that does not match is looked at again.
        need_match: Whether a side file of another checkpoint is refused.
        max_bytes: That its files may take, or HDF5 declare: before they are read. None for any.

    Raises:
        CheckpointError: The file is missing, empty or too large, or does not match its side file.
    """
    path = named(Path(path))
    require_kind(path)
    deadline = time.monotonic() + patience
    while True:
        try:
            return _open_once(path, need_match, max_bytes)
        except TooLargeError:
            raise
        except CheckpointError:
            # Nothing comes into being by itself where not even a side file is.
            awaited = path.exists() or side_file_path(path).exists()
            if not awaited or time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_INTERVAL)


def sha256_within(path: Path, max_bytes: int | None) -> str:
    """Hash a file or folder, unless it is too large.

    Raises:
        TooLargeError: See `require_size_on_disk`.
        OSError: See `sha256_of`.
    """
    if max_bytes is not None:
        require_size_on_disk(path, max_bytes)
    return sha256_of(path)


def _inside(path: Path) -> tuple[Path, ...]:
    """List a file, or a folder and all in it: a file that is added changes the folder."""
    return path, *(path.rglob("*") if path.is_dir() else ())


def _open_once(path: Path, need_match: bool, max_bytes: int | None) -> Checkpoint:
    hash_of = functools.partial(sha256_within, max_bytes=max_bytes)
    own, by_stem = own_side_file_path(path), path.with_suffix(".json")
    stamps = settled_stamps((own, by_stem, *_inside(path)))
    side = read_side_file(path, hash_of)
    weights = path if side is None or side.file is None else path.with_name(side.file)
    try:
        if weights != path:
            stamps.update(settled_stamps(_inside(weights)))
        sha256 = hash_of(weights)
        size = weights.stat().st_size
        beside = files_beside(weights) if weights.suffix.lower() == ".onnx" else ()
        if beside and max_bytes is not None:
            require_size(path, sum((size, *(each.stat().st_size for each in beside))), max_bytes)
        stamps.update(settled_stamps(beside))
        hashes = tuple((file, sha256_of(file)) for file in beside)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such checkpoint; train one with `python -m Modelling.train_cnn`"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise CheckpointError(f"{path}: the checkpoint is empty; copy or train it again")
    if need_match and side is not None and side.sha256 != sha256:
        raise CheckpointError(
            f"{path} does not match its side file {side_file_path(path).name} "
            f"(SHA-256 {sha256[:12]}… "
            f"against {side.sha256[:12]}…): copy both again from where they were made together"
        )
    return Checkpoint(path, sha256, side, hashes, stamps)
