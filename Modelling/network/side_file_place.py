"""Which file beside a checkpoint is its side file.

`mine.keras.json` is the side file of `mine.keras`, and of nothing else. `mine.json` is, too, and is
what most have, unless it is of another file with the same stem (of `mine.h5` beside it, whose
SHA-256 it names), or Keras' own description of a network, which people save as `model.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Modelling.errors import CheckpointError, shortened
from Modelling.network.file_kinds import misnamed
from Modelling.network.hashes import require_regular, sha256_of

logger = logging.getLogger(__name__)

# Bytes of a side file: ten thousand labels of a hundred letters are one million.
MAX_SIDE_FILE_BYTES = 16 << 20

# Other files with the same stem that are asked whether a side file is theirs.
SIBLING_SUFFIXES = frozenset({".h5", ".hdf5", ".keras", ".onnx", ".tflite"})

# Keys by which a side file without a hash is still one, and wrong.
OWN_KEYS = frozenset({"labels", "input_shape", "preprocessing", "engines"})


@dataclass(frozen=True)
class FoundSideFile:
    """A side file: where it lies, and its JSON."""

    path: Path
    content: Any


def named(checkpoint: Path) -> Path:
    """Return a path that ends with a name, which `.` and `..` do not.

    Raises:
        CheckpointError: It is the root of all files.
    """
    if checkpoint.name in ("", ".."):
        checkpoint = checkpoint.resolve()
    if not checkpoint.name:
        raise CheckpointError(f"{checkpoint}: no checkpoint can lie there")
    return checkpoint


def side_file_path(checkpoint: Path) -> Path:
    """Tell where the side file of a checkpoint lies, or would."""
    own = own_side_file_path(checkpoint)
    return own if own.exists() else named(checkpoint).with_suffix(".json")


def own_side_file_path(checkpoint: Path) -> Path:
    """Tell where a side file lies that can belong to this checkpoint alone."""
    checkpoint = named(checkpoint)
    return checkpoint.with_name(f"{checkpoint.name}.json")


def find_side_file(checkpoint: Path, hash_of: Callable[[Path], str]) -> FoundSideFile | None:
    """Read the JSON of a checkpoint's side file; None if it has none.

    Args:
        checkpoint: Whose.
        hash_of: See `side_file.read_side_file`.

    Raises:
        CheckpointError: It cannot be read.
    """
    path = side_file_path(checkpoint)
    content = json_of(path)
    if content is None:
        return None
    if path != own_side_file_path(checkpoint):
        reason = _why_not_ours(content, checkpoint, hash_of)
        if reason:
            logger.warning("%s is not used for %s: %s", path, checkpoint.name, reason)
            return None
    return FoundSideFile(path, content)


def side_file_to_write(checkpoint: Path) -> Path:
    """Tell where a side file is to be written: not over one that is of another file."""
    path = side_file_path(checkpoint)
    try:
        content = json_of(path)
    except CheckpointError:
        return path
    foreign = path != own_side_file_path(checkpoint) and _why_not_ours(
        content, checkpoint, sha256_of
    )
    return own_side_file_path(checkpoint) if content is not None and foreign else path


def json_of(path: Path) -> Any:
    """Read a side file as JSON; None if it is not there.

    Raises:
        CheckpointError: It cannot be read, is too large, or no JSON.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            data = file.read(MAX_SIDE_FILE_BYTES + 1)
        if len(data) > MAX_SIDE_FILE_BYTES:
            raise ValueError(f"it has more than {MAX_SIDE_FILE_BYTES >> 20} MB")
        content = json.loads(data)
        if content is None:
            raise ValueError("it says nothing but null")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise CheckpointError(
            f"{path}: the side file cannot be read: {reason or shortened(error)}{misnamed(path)}"
        ) from None
    return content


def _why_not_ours(content: Any, checkpoint: Path, hash_of: Callable[[Path], str]) -> str | None:
    """Say why `<stem>.json` is no side file of this checkpoint; None if it may be."""
    if not isinstance(content, dict):
        return None
    if "sha256" not in content:
        if content.keys() & OWN_KEYS:
            return None
        keras = {"class_name", "config"} <= content.keys()
        return (
            "it describes a network, as Keras' to_json() does, and is no side file"
            if keras
            else "it is no side file: it names no sha256"
        )
    siblings = [
        each
        for each in sorted(checkpoint.parent.glob(f"{_escaped(checkpoint.stem)}.*"))
        if each.suffix.lower() in SIBLING_SUFFIXES and each.name != checkpoint.name
    ]
    if not siblings or _hash_or_none(checkpoint, hash_of) == content["sha256"]:
        return None
    for sibling in siblings:
        if _hash_or_none(sibling, sha256_of) == content["sha256"]:
            return f"it is of {sibling.name}; write {own_side_file_path(checkpoint).name} instead"
    return None


def _escaped(stem: str) -> str:
    """Write a name so that `glob` takes it as it is."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in stem)


def _hash_or_none(path: Path, hash_of: Callable[[Path], str]) -> str | None:
    try:
        return hash_of(path)
    except OSError:
        return None
