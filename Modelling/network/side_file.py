"""The side file of a checkpoint: what is known of it, as JSON.

What each value may be is checked by `side_file_values`; a key that is not known is refused: it may
be a misspelt one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from Modelling.errors import CheckpointError, shortened
from Modelling.images.pixels import MAX_WHITE
from Modelling.images.resizing import WAYS
from Modelling.network.hashes import sha256_of
from Modelling.network.input_range import UNIT, InputRange
from Modelling.network.replacing import write_atomically
from Modelling.network.side_file_place import find_side_file, side_file_to_write
from Modelling.network.side_file_values import (
    RESIZE,
    by_channel,
    checked_labels,
    file_name,
    is_file_name,
    one_of,
    picture_shape,
    positive,
    range_of,
    require,
    require_preprocessing,
    text_of,
)

# Above this all classes are as good as equally probable.
MAX_TEMPERATURE = 1000.0

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
    require(isinstance(raw, dict), "it must be a JSON object")
    for key in ("sha256", "labels", "input_shape"):
        require(key in raw, f"{key} is missing")
    for key in raw:
        require(key in known, f"unknown key {shortened(repr(key))}; known are {', '.join(known)}")
    shape = picture_shape(raw["input_shape"])
    preprocessing = raw.get("preprocessing", RESIZE)
    require_preprocessing(preprocessing, shape)
    training = raw.get("training", {})
    require(isinstance(raw.get("previous", {}), dict), "previous must be an object")
    require(isinstance(training, dict), "training must be an object")
    old = sorted(key for key in ("scale", "offset") if raw.get(key) is not None)
    new = sorted(key for key in ("input_range", "mean", "std") if raw.get(key) is not None)
    require(not (old and new), f"{' and '.join(old + new)} say the same in two ways: keep one")
    return SideFile(
        sha256=text_of(raw["sha256"], "sha256"),
        labels=checked_labels(raw["labels"]),
        input_shape=shape,
        preprocessing=preprocessing,
        resize=one_of(raw.get("resize"), "resize", WAYS),
        input_range=range_of(raw.get("input_range"), shape[2]),
        mean=by_channel(raw.get("mean"), "mean", shape[2]),
        std=by_channel(raw.get("std"), "std", shape[2], zero=False),
        scale=by_channel(raw.get("scale"), "scale", shape[2], zero=False),
        offset=by_channel(raw.get("offset"), "offset", shape[2]),
        layout=one_of(raw.get("layout"), "layout", LAYOUTS),
        output=None if raw.get("output") is None else text_of(raw["output"], "output"),
        signature=None if raw.get("signature") is None else text_of(raw["signature"], "signature"),
        file=None if raw.get("file") is None else file_name(raw["file"]),
        previous=raw.get("previous"),
        white=positive(raw.get("white"), "white", MAX_WHITE),
        temperature=positive(raw.get("temperature"), "temperature", MAX_TEMPERATURE),
        engines=_engines(raw.get("engines", {})),
        training=training,
    )


def _engines(value: Any) -> dict[str, EngineFile]:
    require(isinstance(value, dict), "engines must be an object")
    known = {each.name for each in fields(EngineFile)}
    engines = {}
    for name, entry in value.items():
        key = f"engines.{name[:40]}"
        require(ENGINE_NAME.fullmatch(name) is not None, f"{key!r} is no name of an engine")
        require(
            isinstance(entry, dict) and {"file", "sha256"} <= entry.keys() <= known,
            f"{key} must hold file, sha256 and at most test_accuracy",
        )
        accuracy = entry.get("test_accuracy")
        require(
            accuracy is None or type(accuracy) in (int, float),
            f"{key}.test_accuracy must be a number",
        )
        file = text_of(entry["file"], f"{key}.file")
        require(is_file_name(Path(file).name), f"{key}.file is no name of a file")
        engines[name] = EngineFile(file, text_of(entry["sha256"], f"{key}.sha256"), accuracy)
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
