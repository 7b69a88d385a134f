"""The side file of a checkpoint: what is known of it, as JSON.

Anybody may write one by hand, and a wrong one would mislabel every result. So each value is
checked, and a key that is not known is refused: it may be a misspelt one.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from Modelling.errors import CheckpointError, shortened
from Modelling.images.digits import DIGITS, DIGITS_SHAPE
from Modelling.images.pixels import MAX_INPUT_VALUES, MAX_WHITE
from Modelling.images.resizing import WAYS
from Modelling.network.hashes import sha256_of
from Modelling.network.input_range import UNIT, InputRange, range_of_pairs
from Modelling.network.side_file_place import find_side_file, side_file_to_write

# Preprocessing: scale the whole image to the model's input.
RESIZE = "resize"

# Above this all classes are as good as equally probable.
MAX_TEMPERATURE = 1000.0

# Characters of a label: it stands in each result.
MAX_LABEL = 1000

# Names of compiled forms: `promote` makes them part of the names of files.
ENGINE_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")

# How a model's input is laid out: rows, columns and channels in this order, or channels first.
LAYOUTS = ("NHWC", "NCHW")


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
        input_shape: Height, width, channels.
        preprocessing: `digits` or `resize`, see `data_preparation.prepare_image`.
        resize: How a whole image is scaled, see `images.resizing`.
        input_range: What black and white are for the model. None: what the model shows.
        mean: What is taken from its pixels then, whole or by channel.
        std: What they are divided by then, likewise.
        scale: An older way to say the range: pixels in [0, 1] are multiplied by it.
        offset: What is added then.
        layout: `NHWC` or `NCHW`.
        file: Where the weights lie, beside it; the checkpoint itself if None. `promote` writes it.
        previous: The side file before that; `promote --back` returns to it.
        output: Which of several outputs holds the classes, by its name.
        signature: Which of several signatures is served, of a SavedModel or LiteRT's file.
        white: What is white in arrays and in deep grey pictures; None to tell by the image.
        temperature: What logits are divided by, so that confidences are what they say.
        engines: Compiled forms by name (`float32`, `int8`).
        training: Where it comes from: data set, seed, versions, accuracy. For people.
    """

    sha256: str
    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]
    preprocessing: str = RESIZE
    resize: str | None = None
    input_range: InputRange | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    layout: str | None = None
    output: str | None = None
    signature: str | None = None
    file: str | None = None
    previous: dict[str, Any] | None = None
    white: float | None = None
    temperature: float | None = None
    engines: dict[str, EngineFile] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def pixel_range(self) -> InputRange | None:
        """What pixels in [0, 1] become; None if nothing is said of it."""
        if self.scale is not None or self.offset is not None:
            return InputRange(self.scale or (1.0,), self.offset or (0.0,))
        if self.input_range is None and self.mean is None and self.std is None:
            return None
        given = self.input_range or UNIT
        count = max(
            len(each) for each in (given.scale, given.offset, self.mean or (), self.std or ())
        )
        low, span, mean, std = (
            np.broadcast_to(each, count)
            for each in (given.offset, given.scale, self.mean or (0.0,), self.std or (1.0,))
        )
        return InputRange(tuple(map(float, span / std)), tuple(map(float, (low - mean) / std)))


def read_side_file(checkpoint: Path, hash_of: Callable[[Path], str] = sha256_of) -> SideFile | None:
    """Read the side file of a checkpoint; None if it has none.

    Args:
        checkpoint: Whose.
        hash_of: Hashes the checkpoint, where its name does not tell whose side file it is.

    Raises:
        CheckpointError: It is not JSON, lacks what a side file must have, or has what it must not.
    """
    found = find_side_file(checkpoint, hash_of)
    if found is None:
        return None
    try:
        return _side_file(found.content)
    except (ValueError, OverflowError) as error:  # a whole number that no float can hold
        raise CheckpointError(
            f"{found.path}: not a side file as train_cnn writes it: {error}"
        ) from None


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
    _require(isinstance(raw.get("previous", {}), dict), "previous must be an object")
    _require(isinstance(training, dict), "training must be an object")
    old = sorted(key for key in ("scale", "offset") if raw.get(key) is not None)
    new = sorted(key for key in ("input_range", "mean", "std") if raw.get(key) is not None)
    _require(not (old and new), f"{' and '.join(old + new)} say the same in two ways: keep one")
    return SideFile(
        sha256=_text(raw["sha256"], "sha256"),
        labels=checked_labels(raw["labels"]),
        input_shape=shape,
        preprocessing=preprocessing,
        resize=_one_of(raw.get("resize"), "resize", WAYS),
        input_range=_input_range(raw.get("input_range"), shape[2]),
        mean=_numbers(raw.get("mean"), "mean", shape[2]),
        std=_numbers(raw.get("std"), "std", shape[2], zero=False),
        scale=_numbers(raw.get("scale"), "scale", shape[2], zero=False),
        offset=_numbers(raw.get("offset"), "offset", shape[2]),
        layout=_one_of(raw.get("layout"), "layout", LAYOUTS),
        output=None if raw.get("output") is None else _text(raw["output"], "output"),
        signature=None if raw.get("signature") is None else _text(raw["signature"], "signature"),
        file=None if raw.get("file") is None else _file_name(raw["file"]),
        previous=raw.get("previous"),
        white=_positive(raw.get("white"), "white", MAX_WHITE),
        temperature=_positive(raw.get("temperature"), "temperature", MAX_TEMPERATURE),
        engines=_engines(raw.get("engines", {})),
        training=training,
    )


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


def _text(value: Any, key: str) -> str:
    _require(isinstance(value, str) and value != "", f"{key} must be a text")
    return str(value)


def _file_name(value: Any) -> str:
    """Check the name of a file in the side file's own folder: anybody may have written it."""
    name = _text(value, "file")
    _require(is_file_name(name), "file must be a name without a folder")
    return name


def is_file_name(name: str) -> bool:
    """Tell whether a text may be the name of a file, without a folder."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return name not in ("", "..") and Path(name).name == name and "\0" not in name


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Check names of classes: a list of texts that can be printed on one line.

    Two classes may have one name, as two have in ImageNet; their indices tell them apart.

    Raises:
        ValueError: They are not.
    """
    _require(isinstance(labels, (list, tuple)), "labels must be a list of texts")
    for label in labels:
        _require(
            not isinstance(label, str) or len(label) <= MAX_LABEL,
            f"labels have at most {MAX_LABEL} characters, but one is {shortened(str(label), 40)!r}",
        )
        _require(
            isinstance(label, str) and label.strip() != "",
            f"labels must be texts that are not empty, but one is {shortened(repr(label))}",
        )
        # Control characters, halves of surrogate pairs, line and paragraph separators.
        bad = any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in label)
        _require(not bad, f"label {shortened(repr(label))} holds control characters")
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
    _require(
        height * width * channels <= MAX_INPUT_VALUES,
        f"input_shape is {shortened(repr(value))}, a picture may have {MAX_INPUT_VALUES:,} values",
    )
    return height, width, channels


def _numbers(value: Any, key: str, channels: int, *, zero: bool = True) -> tuple[float, ...] | None:
    """Check a number, or one for each channel."""
    if value is None:
        return None
    values = value if isinstance(value, (list, tuple)) else [value]
    fit = (
        len(values) in {1, channels}
        and all(type(each) in (int, float) and math.isfinite(each) for each in values)
        and (zero or all(values))
    )
    _require(fit, f"{key} must be a number or one for each of {channels} channels")
    return tuple(float(each) for each in values)


def _input_range(value: Any, channels: int) -> InputRange | None:
    """Check `[low, high]`, or one such pair for each channel."""
    if value is None:
        return None
    wanted = f"input_range must be [low, high], or one such pair for each of {channels} channels"
    _require(isinstance(value, (list, tuple)) and len(value) > 0, wanted)
    pairs = value if isinstance(value[0], (list, tuple)) else [value]
    fit = len(pairs) in {1, channels} and all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and all(type(each) in (int, float) for each in pair)
        for pair in pairs
    )
    _require(fit, wanted)
    return range_of_pairs([(float(low), float(high)) for low, high in pairs])


def _one_of(value: Any, key: str, known: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    _require(
        isinstance(value, str) and value in known,
        f"{key} is {shortened(repr(value))}, known are {', '.join(known)}",
    )
    return str(value)


def _positive(value: Any, key: str, most: float) -> float | None:
    if value is None:
        return None
    fit = type(value) in (int, float) and 0 < value <= most
    _require(fit, f"{key} must be a number above 0, and at most {most:g}")
    return float(value)


def _engines(value: Any) -> dict[str, EngineFile]:
    _require(isinstance(value, dict), "engines must be an object")
    known = {each.name for each in fields(EngineFile)}
    engines = {}
    for name, entry in value.items():
        key = f"engines.{name[:40]}"
        _require(ENGINE_NAME.fullmatch(name) is not None, f"{key!r} is no name of an engine")
        _require(
            isinstance(entry, dict) and {"file", "sha256"} <= entry.keys() <= known,
            f"{key} must hold file, sha256 and at most test_accuracy",
        )
        accuracy = entry.get("test_accuracy")
        _require(
            accuracy is None or type(accuracy) in (int, float),
            f"{key}.test_accuracy must be a number",
        )
        file = _text(entry["file"], f"{key}.file")
        _require(is_file_name(Path(file).name), f"{key}.file is no name of a file")
        engines[name] = EngineFile(file, _text(entry["sha256"], f"{key}.sha256"), accuracy)
    return engines


def entries_of(side: SideFile) -> dict[str, Any]:
    """Return a side file as JSON-able values."""
    entries = {key: value for key, value in asdict(side).items() if value is not None}
    if side.input_range is not None:
        pairs = side.input_range.pairs
        entries["input_range"] = pairs[0] if len(pairs) == 1 else pairs
    return entries


def write_side_file(checkpoint: Path, side: SideFile) -> Path:
    """Write the side file of a checkpoint, and return its path; call it last."""
    entries = entries_of(side)
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    path = side_file_to_write(checkpoint)
    write_atomically(path, text.encode())
    return path


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
    sync(path.parent)  # the rename itself is durable once the folder is


def sync(path: Path) -> None:
    """Return once the bytes of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
