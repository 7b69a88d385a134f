"""What the values of a side file may be, each by itself.

Anybody may write one by hand, and a wrong one would mislabel every result. Each check returns the
value as it is used, or raises `ValueError` with its key.
"""

from __future__ import annotations

import math
import os
import unicodedata
from pathlib import Path
from typing import Any

from Modelling.errors import shortened
from Modelling.images.digits import DIGITS, DIGITS_SHAPE
from Modelling.images.pixels import MAX_INPUT_VALUES
from Modelling.network.input_range import InputRange, range_of_pairs

# Preprocessing: scale the whole image to the model's input.
RESIZE = "resize"

# Characters of a label: it stands in each result.
MAX_LABEL = 1000


def require(condition: bool, text: str) -> None:
    """Raise `ValueError` with a text unless a condition holds."""
    if not condition:
        raise ValueError(text)


def text_of(value: Any, key: str) -> str:
    """Check a text that is not empty."""
    require(isinstance(value, str) and value != "", f"{key} must be a text")
    return str(value)


def file_name(value: Any) -> str:
    """Check the name of a file in the side file's own folder: anybody may have written it."""
    name = text_of(value, "file")
    require(is_file_name(name), "file must be a name without a folder")
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
    require(isinstance(labels, (list, tuple)), "labels must be a list of texts")
    for label in labels:
        require(
            not isinstance(label, str) or len(label) <= MAX_LABEL,
            f"labels have at most {MAX_LABEL} characters, but one is {shortened(str(label), 40)!r}",
        )
        require(
            isinstance(label, str) and label.strip() != "",
            f"labels must be texts that are not empty, but one is {shortened(repr(label))}",
        )
        # Control characters, halves of surrogate pairs, line and paragraph separators.
        bad = any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in label)
        require(not bad, f"label {shortened(repr(label))} holds control characters")
    return tuple(labels)


def require_preprocessing(preprocessing: Any, input_shape: tuple[int, int, int]) -> None:
    """Check that a way of preprocessing is known and fits the input.

    Raises:
        ValueError: It is not, or does not.
    """
    require(
        preprocessing in (DIGITS, RESIZE),
        f"preprocessing is {shortened(repr(preprocessing))}, known are '{DIGITS}' and '{RESIZE}'",
    )
    require(
        preprocessing != DIGITS or input_shape == DIGITS_SHAPE,
        f"preprocessing '{DIGITS}' makes images of {DIGITS_SHAPE}, but the model takes "
        f"{input_shape}; use '{RESIZE}'",
    )


def picture_shape(value: Any) -> tuple[int, int, int]:
    """Check height, width and channels."""
    fit = (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(type(size) is int and size > 0 for size in value)
    )
    require(fit, f"input_shape is {shortened(repr(value))}, needed are three positive integers")
    height, width, channels = value
    require(
        height * width * channels <= MAX_INPUT_VALUES,
        f"input_shape is {shortened(repr(value))}, a picture may have {MAX_INPUT_VALUES:,} values",
    )
    return height, width, channels


def by_channel(
    value: Any, key: str, channels: int, *, zero: bool = True
) -> tuple[float, ...] | None:
    """Check a number, or one for each channel."""
    if value is None:
        return None
    values = value if isinstance(value, (list, tuple)) else [value]
    fit = (
        len(values) in {1, channels}
        and all(type(each) in (int, float) and math.isfinite(each) for each in values)
        and (zero or all(values))
    )
    require(fit, f"{key} must be a number or one for each of {channels} channels")
    return tuple(float(each) for each in values)


def range_of(value: Any, channels: int) -> InputRange | None:
    """Check `[low, high]`, or one such pair for each channel."""
    if value is None:
        return None
    wanted = f"input_range must be [low, high], or one such pair for each of {channels} channels"
    require(isinstance(value, (list, tuple)) and len(value) > 0, wanted)
    pairs = value if isinstance(value[0], (list, tuple)) else [value]
    fit = len(pairs) in {1, channels} and all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and all(type(each) in (int, float) for each in pair)
        for pair in pairs
    )
    require(fit, wanted)
    return range_of_pairs([(float(low), float(high)) for low, high in pairs])


def one_of(value: Any, key: str, known: tuple[str, ...]) -> str | None:
    """Check one of several texts; None where it is not said."""
    if value is None:
        return None
    require(
        isinstance(value, str) and value in known,
        f"{key} is {shortened(repr(value))}, known are {', '.join(known)}",
    )
    return str(value)


def positive(value: Any, key: str, most: float) -> float | None:
    """Check a number above 0, up to the most that there may be."""
    if value is None:
        return None
    fit = type(value) in (int, float) and 0 < value <= most
    require(fit, f"{key} must be a number above 0, and at most {most:g}")
    return float(value)
