"""Confidences that mean what they say: one number, fitted on images that the training never saw.

Source: C. Guo et al., *On Calibration of Modern Neural Networks*, 2017, for the temperature and the
expected calibration error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.integer]

# Of confidence, as the literature has it.
BINS = 15

# Temperatures that are tried, then closer around the best: networks are off by less than that.
LOWEST, HIGHEST = 0.05, 20.0
TRIED = 100

# A probability is at least that in a logarithm.
SMALLEST = 1e-12


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, and the error on the images that it was fitted on.

    Attributes:
        temperature: What logits are divided by.
        before: The expected calibration error without it.
        after: The same with it.
    """

    temperature: float
    before: float
    after: float


def calibrate(probabilities: Probabilities, classes: Classes) -> Calibration:
    """Fit a temperature: that under which the right classes are the likeliest.

    Args:
        probabilities: (N, classes), of the validation images.
        classes: (N,), what they show.
    """
    tried = np.geomspace(LOWEST, HIGHEST, TRIED)
    for _closer in range(2):
        best = int(np.argmin([_surprise(cooled(probabilities, each), classes) for each in tried]))
        tried = np.geomspace(tried[max(best - 1, 0)], tried[min(best + 1, TRIED - 1)], TRIED)
    temperature = round(float(tried[TRIED // 2]), 4)
    return Calibration(
        temperature,
        calibration_error(probabilities, classes),
        calibration_error(cooled(probabilities, temperature), classes),
    )


def cooled(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return what probabilities are under a temperature; which is the greatest stays so."""
    logits = np.log(np.maximum(probabilities, SMALLEST, dtype=np.float64)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    normalised: Probabilities = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return normalised


def calibration_error(probabilities: Probabilities, classes: Classes) -> float:
    """Return how far confidence and accuracy are apart: by bins of confidence, weighted by size."""
    confidences = probabilities.max(1)
    right = probabilities.argmax(1) == classes
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    return sum(
        float(chosen.mean()) * abs(float(confidences[chosen].mean() - right[chosen].mean()))
        for chosen in (bins == number for number in np.unique(bins))
    )


def _surprise(probabilities: Probabilities, classes: Classes) -> float:
    of_the_right = probabilities[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(of_the_right, SMALLEST)).mean())
