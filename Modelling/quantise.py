"""Compile a Keras model for LiteRT, in float32 and quantised to 8 bits.

`train_cnn.py` does this by itself. For a checkpoint made elsewhere:

    python -m Modelling.quantise mine.keras --data mine.npz --labels cat,dog

writes `mine.float32.tflite`, `mine.int8.tflite` and `mine.json`. The quantised form is kept unless
it is less accurate on the test images than chance explains. Without `--data` only float32 is
written.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from DurableText.installation.command_line import command_parser
from DurableText.interrupts import BROKEN_OFF, Interrupts
from DurableText.option_types import nonempty, path_name
from Modelling.errors import CheckpointError, refusal_of, shortened
from Modelling.network.checkpoint import (
    DIGITS,
    RESIZE,
    Checkpoint,
    EngineFile,
    SideFile,
    engine_path,
    open_checkpoint,
    sha256_of,
    write_atomically,
    write_side_file,
)
from Modelling.network.declared_size import add_max_model_bytes
from Modelling.network.engine import LiteRTEngine
from Modelling.network.input_range import UNIT, InputRange, input_range_option
from Modelling.network.keras_models import KerasClassifier, load_keras_model
from Modelling.network.labels import read_labels
from Modelling.network.side_file_values import checked_labels, require_preprocessing
from Modelling.network.tensorflow import import_tensorflow, quiet
from Modelling.training.datasets import load_dataset

# Training images that set the ranges of the activations. 200 were enough; this takes 1 s.
CALIBRATION_IMAGES = 1000

FLOAT32, INT8 = "float32", "int8"

Found = npt.NDArray[np.bool_]

# How LiteRT's converter names what it cannot convert.
OPERATION = re.compile(r"error: (?:failed to legalize operation )?'(tf\.\w+)'")

# What a user wrote into the side file by hand stays when the model was trained anew.
KEPT_KEYS = ("resize", "white", "layout", "temperature")


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
    return f"LiteRT has no {', '.join(found)}" if found else f"LiteRT: {shortened(error)}"


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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = command_parser(
        "python -m Modelling.quantise",
        description="Compile a Keras checkpoint for fast serving without TensorFlow.",
    )
    parser.add_argument("checkpoint", type=path_name, help="a .h5 or .keras file")
    parser.add_argument(
        "--data", type=path_name, metavar="FILE",
        help="x_train to calibrate with, x_test and y_test to measure; without it no int8 is made",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=nonempty, metavar="NAMES|FILE",
        help="names of the classes, separated by commas, or a file of them: one a line, or JSON",
    )  # fmt: skip
    parser.add_argument(
        "--input-range", type=input_range_option, metavar="LOW,HIGH",
        help="what black and white are for the model, as in 0,255 (default: as the side file "
        "says, else as the model shows)",
    )  # fmt: skip
    parser.add_argument(
        "--preprocessing", choices=(RESIZE, DIGITS),
        help=f"{RESIZE}: scale the whole image; {DIGITS}: find the handwritten digit on it "
        f"(default: as the side file says, else {RESIZE})",
    )  # fmt: skip
    parser.add_argument(
        "--allow-code", action="store_true",
        help="load models whose layers carry code, only for files you made yourself; what is "
        "compiled carries none",
    )  # fmt: skip
    add_max_model_bytes(parser)
    options = parser.parse_args(arguments)
    interrupts = Interrupts()
    try:
        with interrupts:
            _quantise(options)
    except (CheckpointError, OSError, ValueError) as error:
        print(f"quantise: {refusal_of(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nquantise: {BROKEN_OFF}", file=sys.stderr)
        return interrupts.exit_code
    return 0


def _quantise(options: argparse.Namespace) -> None:
    path: Path = options.checkpoint
    checkpoint = open_checkpoint(
        path, patience=0, need_match=False, max_bytes=options.max_model_bytes
    )
    model = load_keras_model(path, allow_code=options.allow_code, max_bytes=options.max_model_bytes)
    side = _described(options, checkpoint, model)
    input_range = side.pixel_range or UNIT
    train_images = test = None
    if options.data is not None:
        dataset = load_dataset(path.stem, options.data)
        if dataset.input_shape != side.input_shape:
            raise ValueError(
                f"{options.data} holds {dataset.input_shape} images, {path} takes "
                f"{side.input_shape}"
            )
        train_images, test = dataset.train_images, (dataset.test_images, dataset.test_classes)
    try:
        forms = compile_forms(model, train_images, test, input_range)
    except NotCompilableError as error:
        print(f"not compiled: {error}; it is served by TensorFlow")
        forms = {}
    engines = write_forms(path, forms)
    write_side_file(path, replace(side, engines=engines))
    for name, engine in engines.items():
        accuracy = "" if engine.test_accuracy is None else f", accuracy {engine.test_accuracy:.2%}"
        print(f"{name}: {path.with_name(engine.file)}{accuracy}")
    if FLOAT32 in engines and options.data is not None and INT8 not in engines:
        print("int8: not kept, it loses more by rounding than chance explains")


def _described(options: argparse.Namespace, checkpoint: Checkpoint, model: Any) -> SideFile:
    """Make the new side file without engines: by the user, else the old one, else the model itself.

    Raises:
        ValueError: The labels or the preprocessing do not fit.
    """
    path, old = checkpoint.path, checkpoint.side
    told = options.input_range or (old.pixel_range if old else None)
    described = KerasClassifier(model, told)
    shape, count = described.input_shape, described.classes
    stale = old is not None and old.sha256 != checkpoint.sha256
    if old and stale and (old.input_shape, len(old.labels)) != (shape, count):
        print("the side file is of another model: it is written anew")
        old, described = None, KerasClassifier(model, options.input_range)
    elif stale:
        print("the side file is of an earlier checkpoint: its labels and preprocessing are kept")
    labels = read_labels(options.labels) if options.labels else old.labels if old else None
    labels = checked_labels(labels or [str(index) for index in range(count)])
    if len(labels) != count:
        raise CheckpointError(f"{path} has {count} outputs, but there are {len(labels)} labels")
    preprocessing = options.preprocessing or (old.preprocessing if old else RESIZE)
    require_preprocessing(preprocessing, shape)
    found = described.range_found
    print(f"pixels: {found.input_range}{'' if found.known else ', a guess'}: {found.why}")
    kept = {key: getattr(old, key) for key in KEPT_KEYS} if old else {}
    return SideFile(
        sha256=checkpoint.sha256,
        labels=labels,
        input_shape=shape,
        preprocessing=preprocessing,
        # Written down even where the model shows it: the compiled forms cannot.
        input_range=found.input_range if found.known else None,
        training=old.training if old and not stale else {},
        **kept,
    )


if __name__ == "__main__":
    sys.exit(main())
