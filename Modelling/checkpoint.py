"""A checkpoint on disk: the Keras file, what the engine needs beside it, and the side file.

    mnist_cnn_model.h5               the network, as Keras saves it
    mnist_cnn_model.float32.tflite   the same network compiled for LiteRT
    mnist_cnn_model.int8.tflite      quantised; only if its test accuracy is no lower
    mnist_cnn_model.json             the side file: SHA-256 of each, labels, input shape, ...

The files are written in this order, each atomically (a temporary file, fsync, rename). Whoever
reads in between sees a side file that does not match, and looks again; so a half-copied checkpoint
is never served. A checkpoint without a side file is fine too: it is somebody else's model.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from Modelling.errors import CheckpointError

DEFAULT_CHECKPOINT = Path(__file__).parent / "model_checkpoints" / "mnist_cnn_model.h5"

CHECKPOINT_SUFFIXES = (".h5", ".keras")

PATIENCE = 5.0
"""Seconds for which a pair that does not match is looked at again: it may just be being copied."""

RETRY_INTERVAL = 0.25
"""Seconds between two looks."""

DIGITS = "digits"
"""Preprocessing: find the ink and set it in 28x28 as MNIST's authors did."""

RESIZE = "resize"
"""Preprocessing: scale the whole image to the model's input."""


@dataclass(frozen=True)
class EngineFile:
    """A compiled form of the network, beside the checkpoint."""

    file: str
    sha256: str
    test_accuracy: float | None = None


@dataclass(frozen=True)
class SideFile:
    """What is known of a checkpoint, read from and written to JSON.

    Attributes:
        sha256: Of the checkpoint file, 64 hex digits.
        labels: Names of the classes, in the order of the model's outputs.
        input_shape: Height, width, channels; (None, None, None) never: a fixed size is needed.
        preprocessing: `digits` or `resize`, see `data_preparation.prepare_image`.
        engines: Compiled forms by name (`float32`, `int8`).
        training: Where it comes from: data set, seed, versions, accuracy. For people.
    """

    sha256: str
    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]
    preprocessing: str = RESIZE
    engines: dict[str, EngineFile] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were found to belong together."""

    path: Path
    sha256: str
    side: SideFile | None

    @property
    def version(self) -> str:
        """Name and first 12 hex digits of the hash, as in `mnist_cnn_model@3f2a9c1d0b77`."""
        return f"{self.path.stem}@{self.sha256[:12]}"


def side_file_path(checkpoint: Path) -> Path:
    """Where the side file of a checkpoint lies."""
    return checkpoint.with_suffix(".json")


def engine_path(checkpoint: Path, engine: str) -> Path:
    """Where `train_cnn.py` and `quantise.py` put a compiled form of a checkpoint."""
    return checkpoint.with_suffix(f".{engine}.tflite")


def sha256_of(path: Path) -> str:
    """Hash a file, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def open_checkpoint(path: Path | str, *, patience: float = PATIENCE) -> Checkpoint:
    """Find out what a checkpoint is and that its side file belongs to it.

    Args:
        path: A `.h5` or `.keras` file.
        patience: Seconds for which a pair that does not match is looked at again.

    Raises:
        CheckpointError: The file is missing or empty, or does not match its side file.
    """
    path = Path(path)
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise CheckpointError(
            f"{path}: a checkpoint is a .h5 or .keras file, as model.save() of Keras writes it"
        )
    deadline = time.monotonic() + patience
    while True:
        try:
            return _open_once(path)
        except CheckpointError:
            # Nothing comes into being by itself where not even a side file is.
            awaited = path.exists() or side_file_path(path).exists()
            if not awaited or time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_INTERVAL)


def _open_once(path: Path) -> Checkpoint:
    try:
        sha256 = sha256_of(path)
        size = path.stat().st_size
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such checkpoint; train one with `python -m Modelling.train_cnn`"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise CheckpointError(f"{path}: the checkpoint is empty; copy or train it again")
    side = read_side_file(path)
    if side is not None and side.sha256 != sha256:
        raise CheckpointError(
            f"{path} does not match its side file {side_file_path(path).name} "
            f"(SHA-256 {sha256[:12]}… "
            f"against {side.sha256[:12]}…): copy both again from where they were made together"
        )
    return Checkpoint(path, sha256, side)


def read_side_file(checkpoint: Path) -> SideFile | None:
    """Read the side file of a checkpoint; None if it has none.

    Raises:
        CheckpointError: It is not JSON, or lacks what a side file must have.
    """
    path = side_file_path(checkpoint)
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the side file cannot be read: {error}") from None
    try:
        side = SideFile(
            sha256=str(raw["sha256"]),
            labels=tuple(str(label) for label in raw["labels"]),
            input_shape=_input_shape(raw["input_shape"]),
            preprocessing=str(raw.get("preprocessing", RESIZE)),
            engines={name: EngineFile(**entry) for name, entry in raw.get("engines", {}).items()},
            training=dict(raw.get("training", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not a side file as train_cnn writes it ({error!r})"
        ) from None
    if side.preprocessing not in (DIGITS, RESIZE):
        raise CheckpointError(
            f"{path}: preprocessing is {side.preprocessing!r}, known are '{DIGITS}' and '{RESIZE}'"
        )
    if len(set(side.labels)) != len(side.labels):
        raise CheckpointError(f"{path}: two classes have the same label")
    return side


def _input_shape(value: Any) -> tuple[int, int, int]:
    height, width, channels = (int(size) for size in value)
    if min(height, width, channels) < 1:
        raise ValueError(f"input_shape {value}")
    return height, width, channels


def write_side_file(checkpoint: Path, side: SideFile) -> None:
    """Write the side file of a checkpoint; call it last."""
    text = json.dumps(asdict(side), indent=2, ensure_ascii=False) + "\n"
    write_atomically(side_file_path(checkpoint), text.encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # The rename itself is durable once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
