"""Which range of pixels a Keras model wants, told by what it does with them.

Whoever builds the scaling into a model does it in many ways: `Rescaling`, `x / 255`,
`preprocess_input`, a `Normalization`, after augmentation, pooling or a resize, in models inside of
models. So nothing is read off the layers' names: the model is given black and white images, in each
range that is asked about, and what arrives at the first layer that has a kernel is looked at. There
pixels are centred and of the order of one, if they were in the range that the model wants.

A model that does nothing to its pixels does not tell it that way. Its first batch normalisation
may: it remembers what it saw in training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.network.input_range import BYTES, UNIT, InputRange

# What a spread of the pixels at the first kernel is best: [-1, 1] has 2.
BEST_SPREAD = 2.0

# Distance of 0 from the pixels at the first kernel, in their spread, up to which they are centred:
# the mean and deviation that were taken of dark images leave 0 a little outside.
CENTRED = 0.5
OFF_CENTRE_PENALTY = 20.0

# Less, and what arrives is of another range than those that are asked about, of 16 bits, say.
LEAST_SPREAD = 1 / 16

# How far above black, in its deviation, the mean of pixels is at least; MNIST's is 0.4.
CENTRE_ABOVE_BLACK = 0.1

# How much nearer, in the logarithm of the deviation, one range must be to what a batch
# normalisation remembers. [0, 1] and [0, 255] are 5.5 apart.
CLEARLY_NEARER = 1.5

# Pixels that are the same up to this, of their size, are the same.
SAME = 1e-3


@dataclass(frozen=True)
class FoundRange:
    """A range, and how it was found.

    Attributes:
        input_range: What pixels are mapped to.
        why: For people.
        known: False where it is a guess.
    """

    input_range: InputRange
    why: str
    known: bool = True


# Of a network that shows nothing.
UNSAID = "its side file does not say it"


def find_input_range(model: Any) -> FoundRange:
    """Tell whether a Keras model of images wants [0, 1] or [0, 255].

    Args:
        model: Loaded and built, with one input of fixed size.
    """
    if "int" in str(model.inputs[0].dtype):
        return FoundRange(BYTES, "its input is of integers")
    try:
        arriving = {each: _interval(model, each) for each in (UNIT, BYTES)}
        black, white = arriving[UNIT]
        untouched = np.abs(black).max() < SAME and np.abs(white - 1).max() < SAME
        if not untouched:
            return _by_arithmetic(model, arriving)
        return _by_batch_normalisation(model) or _unknown("it does nothing to its pixels")
    except Exception as error:  # noqa: BLE001 - a foreign model may do anything with such images
        return _unknown(f"it could not be probed: {type(error).__name__}")


def _unknown(why: str) -> FoundRange:
    return FoundRange(UNIT, f"{why}, and its side file does not say it", known=False)


Arriving = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _by_arithmetic(model: Any, arriving: dict[InputRange, Arriving]) -> FoundRange:
    distances = {each: _distance(*ends) for each, ends in arriving.items()}
    best = min(distances, key=lambda each: distances[each])
    black, white = (float(end.mean()) for end in arriving[best])
    why = f"its own arithmetic makes [{black:.3g}, {white:.3g}] of them"
    if abs(distances[UNIT] - distances[BYTES]) < SAME:
        return FoundRange(UNIT, "its own arithmetic makes the same of all ranges")
    if abs(white - black) < LEAST_SPREAD:
        return _unknown(why)
    if _is_centred_on_black(model, best):
        return _unknown("its first normalisation is centred on black, as of pixels in [-1, 1]")
    return FoundRange(best, why)


def _is_centred_on_black(model: Any, input_range: InputRange) -> bool:
    """Tell whether the mean that a model remembers of its pixels is black in this range.

    Of pixels that are black or brighter it is brighter, in each range that is asked about.
    """
    black = np.full(_shape_of(model), input_range.offset[0], np.float32)
    layer, seen = _arriving(
        model, black, lambda each: _has_kernel(each) or _is_trained_normalisation(each)
    )
    if not _is_trained_normalisation(layer):
        return False
    deviation = np.sqrt(np.asarray(layer.moving_variance, np.float64))
    above = np.asarray(layer.moving_mean, np.float64) - seen.reshape(-1, seen.shape[-1]).mean(0)
    return bool((above < CENTRE_ABOVE_BLACK * deviation).all())


def _distance(black: npt.NDArray[np.float64], white: npt.NDArray[np.float64]) -> float:
    """Measure how far what arrives is from centred pixels of the order of one."""
    low, high = np.minimum(black, white), np.maximum(black, white)
    spread = max(float((high - low).mean()), 1e-9)
    outside = float(np.maximum(np.maximum(low, -high), 0).mean())
    penalty = OFF_CENTRE_PENALTY if outside > CENTRED * spread else 0.0
    return abs(math.log(spread / BEST_SPREAD)) + penalty


def _interval(model: Any, input_range: InputRange) -> Arriving:
    """Tell what arrives at the first kernel of black and of white images."""
    black, white = (
        _arriving(model, np.full(_shape_of(model), shade, np.float32), _has_kernel)
        for shade in (input_range.offset[0], input_range.offset[0] + input_range.scale[0])
    )
    return black[1], white[1]


def _shape_of(model: Any) -> tuple[int, ...]:
    """Tell the shape of one image, as a batch."""
    return (1, *(int(size) for size in model.inputs[0].shape[1:]))


def _by_batch_normalisation(model: Any) -> FoundRange | None:
    """Compare what the first batch normalisation remembers with what it sees."""
    pictures = _pictures(_shape_of(model)[1:])
    distances: dict[InputRange, float] = {}
    for each in (UNIT, BYTES):
        given = pictures * each.scale[0] + each.offset[0]
        try:
            layer, seen = _arriving(model, given.astype(np.float32), _is_trained_normalisation)
        except LookupError:
            return None
        deviation = seen.reshape(-1, seen.shape[-1]).std(0)
        remembered = np.sqrt(np.asarray(layer.moving_variance, np.float64))
        ratio = np.log((deviation + 1e-6) / (remembered + 1e-6))
        distances[each] = abs(float(np.median(ratio)))
    best, other = sorted(distances, key=lambda each: distances[each])
    if distances[other] - distances[best] < CLEARLY_NEARER:
        return None
    if best == UNIT:
        # Its spread is not so much smaller that it could be told from [-1, 1].
        return _unknown("what its first batch normalisation saw was [0, 1] or [-1, 1]")
    return FoundRange(best, "its first batch normalisation has seen such values in training")


def _pictures(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Make eight pictures in [0, 1] that are as smooth as photographs are."""
    random = np.random.default_rng(0)
    height, width = shape[:2]
    pictures = random.random((8, -(-height // 4), -(-width // 4), *shape[2:]))
    return pictures.repeat(4, 1).repeat(4, 2)[:, :height, :width]


def _has_kernel(layer: Any) -> bool:
    return any(len(weight.shape) >= 2 for weight in layer.weights) and not layer._layers


def _is_trained_normalisation(layer: Any) -> bool:
    if type(layer).__name__ != "BatchNormalization":
        return False
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    return not (np.abs(mean).max() < SAME and np.abs(variance - 1).max() < SAME)


class _ArrivedError(BaseException):
    """Ends a model's run at the layer that is looked at; no `except Exception` catches it."""


def _arriving(model: Any, images: Any, wanted: Any) -> tuple[Any, npt.NDArray[np.float64]]:
    """Run a model up to the first layer of a kind.

    Returns:
        The layer, and what it was given.

    Raises:
        LookupError: No such layer was reached.
    """
    found: list[tuple[Any, Any]] = []
    with _stopping_at([each for each in _leaves(model) if wanted(each)], found):
        try:
            model(images, training=False)
        except _ArrivedError:
            layer, given = found[0]
            return layer, np.asarray(given, np.float64)
    raise LookupError("no such layer is reached")


@contextmanager
def _stopping_at(layers: list[Any], found: list[tuple[Any, Any]]) -> Iterator[None]:
    def stop(layer: Any) -> Any:
        def call(given: Any, *_: Any, **__: Any) -> Any:
            found.append((layer, given))
            raise _ArrivedError

        return call

    try:
        for layer in layers:
            layer.call = stop(layer)
        yield
    finally:
        for layer in layers:
            del layer.call


def _leaves(model: Any) -> list[Any]:
    """List the layers of a model and of the models and wrappers inside it."""
    return [layer for layer in model._flatten_layers() if layer is not model]
