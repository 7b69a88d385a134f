"""What the numbers are that a network ends with, and how they become probabilities."""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
import numpy.typing as npt

from Modelling.errors import CheckpointError
from Modelling.images.pixels import MAX_INPUT_VALUES

Outputs = npt.NDArray[np.float32]


class OutputKind(Enum):
    """What a row of outputs is, and so what makes it probabilities of at least two classes."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    ONE_PROBABILITY = "the probability of the second of two classes"
    ONE_LOGIT = "the logit of the second of two classes"


def kind_of(outputs: Outputs, activation: str | None = None) -> OutputKind:
    """Tell what outputs are, by the network's last activation and by values on noise.

    Args:
        outputs: (N, outputs), what the network answers to `noise`.
        activation: Keras' name of the last activation, if it is known.

    Raises:
        CheckpointError: They are neither probabilities nor logits of classes.
    """
    if not np.isfinite(outputs).all():
        raise CheckpointError("the model answers NaN or infinity; it was damaged or diverged")
    inside = bool((outputs >= -1e-6).all() and (outputs <= 1 + 1e-6).all())
    if outputs.shape[1] == 1:
        return OutputKind.ONE_PROBABILITY if _one_is_probability(inside, activation) else (
            OutputKind.ONE_LOGIT
        )  # fmt: skip
    if inside and np.abs(outputs.sum(1) - 1).max() < 1e-3:
        return OutputKind.PROBABILITIES
    if inside and activation != "linear":
        raise CheckpointError(
            "the model's outputs are neither probabilities that sum to 1 nor logits; "
            "end it with a softmax over the classes"
        )
    return OutputKind.LOGITS


def _one_is_probability(inside: bool, activation: str | None) -> bool:
    if activation in ("sigmoid", "hard_sigmoid"):
        return True
    if activation == "linear":
        return False
    # A single softmax is always 1, a ReLU never below 0: neither can tell two classes apart.
    if activation is not None:
        raise CheckpointError(
            f"the model ends with one {activation} output; for two classes end it with a sigmoid, "
            "or with two outputs and a softmax"
        )
    return inside


def to_probabilities(outputs: Outputs, kind: OutputKind) -> Outputs:
    """Make (N, outputs) into (N, classes) whose rows sum to 1."""
    if kind is OutputKind.PROBABILITIES:
        return outputs
    if kind is OutputKind.LOGITS:
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
        normalised: Outputs = powers / powers.sum(1, keepdims=True)
        return normalised
    if kind is OutputKind.ONE_LOGIT:
        # By the hyperbolic tangent, which does not overflow.
        outputs = 0.5 * (1 + np.tanh(0.5 * outputs))
    return np.concatenate([1 - outputs, outputs], axis=1)


def classes_of(outputs: int) -> int:
    """Tell how many classes so many outputs tell apart; a single one tells two."""
    return max(outputs, 2)


def require_input_size(shape: tuple[int, int, int]) -> None:
    """Refuse pictures that are too large to be made: a few bytes may ask for them.

    Raises:
        CheckpointError: They are.
    """
    if math.prod(shape) > MAX_INPUT_VALUES:
        raise CheckpointError(
            f"it takes images of {shape}: {MAX_INPUT_VALUES:,} values are the most"
        )


def noise(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Make eight images in [0, 1], on which logits are sure to leave [0, 1].

    Raises:
        CheckpointError: They are too large.
    """
    require_input_size(shape)
    return np.random.default_rng(0).random((8, *shape), np.float32)
