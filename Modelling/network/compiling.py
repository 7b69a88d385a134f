"""Keras models compiled for LiteRT, in float32 and in 8 bits, and what that costs of accuracy."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.network.checkpoint import (
    EngineFile,
    engine_path,
    sha256_of,
    write_atomically,
)
from Modelling.network.engine import LiteRTEngine
from Modelling.network.input_range import UNIT, InputRange
from Modelling.network.keras_loading import cause_of
from Modelling.network.keras_models import KerasClassifier
from Modelling.network.tensorflow import import_tensorflow, quiet

# Training images that set the ranges of the activations. 200 were enough; this takes 1 s.
CALIBRATION_IMAGES = 1000

FLOAT32, INT8 = "float32", "int8"

Found = npt.NDArray[np.bool_]

# How LiteRT's converter names what it cannot convert.
OPERATION = re.compile(r"error: (?:failed to legalize operation )?'(tf\.\w+)'")


def compile_float32(model: Any, input_range: InputRange | None = None) -> bytes:
    """Compile a Keras model to a LiteRT file with the same float32 arithmetic.

    Args:
        model: See `keras_models.load_keras_model`.
        input_range: Of the pixels that it wants; what it shows if None.
    """
    classifier = KerasClassifier(model, input_range)
    try:
        with quiet(show=False):
            compiled: bytes = _converter(classifier).convert()
    except Exception as error:  # noqa: BLE001 - whatever the converter makes of a foreign model
        raise NotCompilableError(_lacking(error)) from None
    return compiled


class NotCompilableError(Exception):
    """Raised when LiteRT cannot hold a network; the text names the operation."""


def _lacking(error: Exception) -> str:
    """Name the operation that LiteRT lacks, out of what its converter says."""
    found = sorted(set(OPERATION.findall(str(error))))
    return f"LiteRT has no {', '.join(found)}" if found else f"LiteRT: {cause_of(error)}"


def compile_int8(
    model: Any, calibration: npt.NDArray[np.float32], input_range: InputRange | None = None
) -> bytes:
    """Compile a Keras model to a LiteRT file with 8-bit weights and activations.

    Inputs and outputs stay float32, and so does the softmax: an 8-bit one would know no
    confidence between 0.996 and 1.

    Args:
        model: See `keras_models.load_keras_model`.
        calibration: Typical images, (N, H, W, C) float32 in [0, 1].
        input_range: Of the pixels that it wants; what it shows if None.
    """
    tf = import_tensorflow()
    classifier = KerasClassifier(model, input_range)

    def images() -> Iterator[list[npt.NDArray[np.float32]]]:
        for index in range(len(calibration)):
            yield [classifier.input_range.apply(calibration[index : index + 1])]

    with quiet():
        converter = _converter(classifier)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = images
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=images, debug_options=options
        )
        compiled: bytes = debugger.get_nondebug_quantized_model()
    return compiled


def _converter(classifier: KerasClassifier) -> Any:
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    # Calibration runs the graph, and LiteRT's calibrator knows no variables: freeze them first.
    frozen = convert_variables_to_constants_v2(classifier.concrete_function())
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def found_of(
    predict: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    images: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    chunk: int = 1000,
) -> Found:
    """Tell of (N, H, W, C) uint8 images whether the most probable class is the true one: (N,)."""
    found = np.empty(len(images), np.bool_)
    for start in range(0, len(images), chunk):
        pixels = images[start : start + chunk].astype(np.float32) / np.float32(255)
        answers = predict(pixels).argmax(1)
        found[start : start + chunk] = answers == classes[start : start + chunk]
    return found


@dataclass(frozen=True)
class CompiledForm:
    """A compiled network, before it is written.

    Attributes:
        found: Of each test image whether it was recognised; None if there were none.
    """

    compiled: bytes
    found: Found | None

    @property
    def test_accuracy(self) -> float | None:
        """The share of the test images that was recognised."""
        return None if self.found is None else int(self.found.sum()) / len(self.found)


def loses_by_rounding(exact: Found, rounded: Found) -> bool:
    """Tell whether rounding costs more images than chance explains.

    It turns a few answers either way, each time others. What it loses may outnumber what it wins by
    two standard deviations of that difference.

    Source: Q. McNemar, *Note on the sampling error of the difference between correlated
    proportions*, 1947.

    Args:
        exact: (N,) whether the float32 form recognised an image.
        rounded: (N,) the same of the 8-bit form.
    """
    lost, won = int((exact & ~rounded).sum()), int((rounded & ~exact).sum())
    return lost - won > 2 * math.sqrt(lost + won)


def compile_forms(
    model: Any,
    train_images: npt.NDArray[np.uint8] | None = None,
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None = None,
    input_range: InputRange = UNIT,
) -> dict[str, CompiledForm]:
    """Compile a Keras model and measure what came out.

    Args:
        model: The loaded Keras model.
        train_images: (N, H, W, C) uint8 to calibrate with; without them no int8 form is made.
        test: Images and classes to measure accuracy with.
        input_range: Of the pixels that the model wants.

    Returns:
        `float32`, and `int8` unless it loses more than chance explains.
    """
    forms = {FLOAT32: _measured(compile_float32(model, input_range), test, input_range)}
    if train_images is not None and test is not None:
        step = max(1, len(train_images) // CALIBRATION_IMAGES)
        calibration = train_images[::step][:CALIBRATION_IMAGES].astype(np.float32) / np.float32(255)
        int8 = _measured(compile_int8(model, calibration, input_range), test, input_range)
        exact = forms[FLOAT32].found
        assert exact is not None
        assert int8.found is not None
        if not loses_by_rounding(exact, int8.found):
            forms[INT8] = int8
    return forms


def _measured(
    compiled: bytes,
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None,
    input_range: InputRange,
) -> CompiledForm:
    if test is None:
        return CompiledForm(compiled, None)
    engine = LiteRTEngine(compiled, "compiled", input_range=input_range)
    return CompiledForm(compiled, found_of(engine.run, *test))


def write_forms(checkpoint: Path, forms: dict[str, CompiledForm]) -> dict[str, EngineFile]:
    """Write compiled forms beside a checkpoint, and remove those of an earlier run.

    Returns:
        What was written, for the side file.
    """
    engines: dict[str, EngineFile] = {}
    for name in (FLOAT32, INT8):
        path = engine_path(checkpoint, name)
        if name in forms:
            write_atomically(path, forms[name].compiled)
            engines[name] = EngineFile(path.name, sha256_of(path), forms[name].test_accuracy)
        else:
            path.unlink(missing_ok=True)
    return engines
