"""Confidences mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from Modelling.predict_cnn import Classifier
from Modelling.training.calibration import calibrate, calibration_error, cooled


def test_a_temperature_that_was_hidden_is_found_again() -> None:
    rng = np.random.default_rng(0)
    true = cooled(rng.dirichlet(np.ones(10), 20_000).astype(np.float32), 0.4)
    classes = (true.cumsum(1) > rng.random((len(true), 1))).argmax(1)
    found = calibrate(cooled(true, 2.5), classes)
    assert found.temperature == pytest.approx(1 / 2.5, rel=0.05)
    assert found.after < 0.02 < 0.1 < found.before


def test_the_shipped_model_is_as_sure_as_it_is_right(
    mnist: tuple[np.ndarray, np.ndarray], classifier: Classifier
) -> None:
    pixels = (mnist[0] / np.float32(255))[..., None].astype(np.float32)
    answers = classifier.probabilities(pixels)
    assert calibration_error(answers, mnist[1]) <= 0.005
    assert calibration_error(classifier._engine.run(pixels), mnist[1]) > 0.02
    assert np.array_equal(answers.argmax(1), classifier._engine.run(pixels).argmax(1))
