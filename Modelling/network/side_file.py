"""The side file of a checkpoint: what is known of it, as JSON.

Anybody may write one by hand, and a wrong one would mislabel every result. So each value is
checked, and a key that is not known is refused: it may be a misspelt one.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import unicodedata
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from Modelling.errors import CheckpointError, shortened
from Modelling.images.digits import DIGITS, DIGITS_SHAPE
from Modelling.network.input_range import InputRange

# Preprocessing: scale the whole image to the model's input.
RESIZE = "resize"


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
        labels: Names of the classes, in the order of the model's outputs, all different.
        input_shape: Height, width, channels.
        preprocessing: `digits` or `resize`, see `data_preparation.prepare_image`.
        scale: With `offset`, the range in which the model wants its pixels: pixels in [0, 1] are
            multiplied by it, whole or per channel. None: what the model's first layer tells.
        offset: What is added then.
        engines: Compiled forms by name (`float32`, `int8`).
        training: Where it comes from: data set, seed, versions, accuracy. For people.
    """

    sha256: str
    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]
    preprocessing: str = RESIZE
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    engines: dict[str, EngineFile] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def input_range(self) -> InputRange | None:
        """What `scale` and `offset` say; None if neither is there."""
        if self.scale is None and self.offset is None:
            return None
        return InputRange(self.scale or (1.0,), self.offset or (0.0,))


def side_file_path(checkpoint: Path) -> Path:
    """Tell where the side file of a checkpoint lies."""
    return checkpoint.with_suffix(".json")


def read_side_file(checkpoint: Path) -> SideFile | None:
    """Read the side file of a checkpoint; None if it has none.

    Raises:
        CheckpointError: It is not JSON, lacks what a side file must have, or has what it must not.
    """
    path = side_file_path(checkpoint)
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the side file cannot be read: {shortened(error)}") from None
    try:
        return _side_file(raw)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a side file as train_cnn writes it: {error}") from None


def _side_file(raw: Any) -> SideFile:
    """Check all values.

    Raises:
        ValueError: One is wrong; the text names its key.
    """
    known = [each.name for each in fields(SideFile)]
    _require(isinstance(raw, dict), "it must be a JSON object")
    for key in ("sha256", "labels", "input_shape"):
        _require(key in raw, f"{key} is missing")
    for key in raw:
        _require(key in known, f"unknown key {shortened(repr(key))}; known are {', '.join(known)}")
    shape = _input_shape(raw["input_shape"])
    preprocessing = raw.get("preprocessing", RESIZE)
    require_preprocessing(preprocessing, shape)
    training = raw.get("training", {})
    _require(isinstance(training, dict), "training must be an object")
    return SideFile(
        sha256=_text(raw["sha256"], "sha256"),
        labels=checked_labels(raw["labels"]),
        input_shape=shape,
        preprocessing=preprocessing,
        scale=_factors(raw.get("scale"), "scale", shape[2]),
        offset=_factors(raw.get("offset"), "offset", shape[2]),
        engines=_engines(raw.get("engines", {})),
        training=training,
    )


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


def _text(value: Any, key: str) -> str:
    _require(isinstance(value, str) and value != "", f"{key} must be a text")
    return str(value)


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Check names of classes: a list of different texts that can be printed on one line.

    Raises:
        ValueError: They are not.
    """
    _require(isinstance(labels, (list, tuple)), "labels must be a list of texts")
    seen: set[str] = set()
    for label in labels:
        _require(
            isinstance(label, str) and label.strip() != "",
            f"labels must be texts that are not empty, but one is {shortened(repr(label))}",
        )
        # Control characters, halves of surrogate pairs, line and paragraph separators.
        bad = any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in label)
        _require(not bad, f"label {shortened(repr(label))} holds control characters")
        _require(label not in seen, f"two classes have the same label {shortened(repr(label))}")
        seen.add(label)
    return tuple(labels)


def require_preprocessing(preprocessing: Any, input_shape: tuple[int, int, int]) -> None:
    """Check that a way of preprocessing is known and fits the input.

    Raises:
        ValueError: It is not, or does not.
    """
    _require(
        preprocessing in (DIGITS, RESIZE),
        f"preprocessing is {shortened(repr(preprocessing))}, known are '{DIGITS}' and '{RESIZE}'",
    )
    _require(
        preprocessing != DIGITS or input_shape == DIGITS_SHAPE,
        f"preprocessing '{DIGITS}' makes images of {DIGITS_SHAPE}, but the model takes "
        f"{input_shape}; use '{RESIZE}'",
    )


def _input_shape(value: Any) -> tuple[int, int, int]:
    fit = (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(type(size) is int and size > 0 for size in value)
    )
    _require(fit, f"input_shape is {shortened(repr(value))}, needed are three positive integers")
    height, width, channels = value
    return height, width, channels


def _factors(value: Any, key: str, channels: int) -> tuple[float, ...] | None:
    """Check a number, or one for each channel."""
    if value is None:
        return None
    values = value if isinstance(value, (list, tuple)) else [value]
    fit = (
        len(values) in {1, channels}
        and all(type(each) in (int, float) and math.isfinite(each) for each in values)
        and (key != "scale" or all(values))
    )
    _require(fit, f"{key} must be a number or one for each of {channels} channels")
    return tuple(float(each) for each in values)


def _engines(value: Any) -> dict[str, EngineFile]:
    _require(isinstance(value, dict), "engines must be an object")
    known = {each.name for each in fields(EngineFile)}
    engines = {}
    for name, entry in value.items():
        key = f"engines.{name[:40]}"
        _require(
            isinstance(entry, dict) and {"file", "sha256"} <= entry.keys() <= known,
            f"{key} must hold file, sha256 and at most test_accuracy",
        )
        accuracy = entry.get("test_accuracy")
        _require(
            accuracy is None or type(accuracy) in (int, float),
            f"{key}.test_accuracy must be a number",
        )
        engines[name] = EngineFile(
            _text(entry["file"], f"{key}.file"), _text(entry["sha256"], f"{key}.sha256"), accuracy
        )
    return engines


def write_side_file(checkpoint: Path, side: SideFile) -> None:
    """Write the side file of a checkpoint; call it last."""
    entries = {key: value for key, value in asdict(side).items() if value is not None}
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
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
