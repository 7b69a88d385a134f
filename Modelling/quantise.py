"""Compile a Keras model for LiteRT, in float32 and quantised to 8 bits.

`train_cnn.py` does this by itself. For a checkpoint made elsewhere:

    python -m Modelling.quantise mine.keras --data mine.npz --labels cat,dog

writes `mine.float32.tflite`, `mine.int8.tflite` and `mine.json`. The quantised form is kept only
if its accuracy on the test images is no lower. Without `--data` only float32 is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.checkpoint import (
    EngineFile,
    SideFile,
    engine_path,
    open_checkpoint,
    read_side_file,
    sha256_of,
    write_atomically,
    write_side_file,
)
from Modelling.datasets import load_dataset
from Modelling.engine import LiteRTEngine, concrete_function, load_keras_model
from Modelling.errors import CheckpointError
from Modelling.tensorflow_runtime import import_tensorflow, quiet

CALIBRATION_IMAGES = 1000
"""Training images that set the ranges of the activations. 200 were enough; this takes 1 s."""

FLOAT32, INT8 = "float32", "int8"


def compile_float32(model: Any) -> bytes:
    """Compile a Keras model to a LiteRT file with the same float32 arithmetic."""
    with quiet():
        compiled: bytes = _converter(model).convert()
    return compiled


def compile_int8(model: Any, calibration: npt.NDArray[np.float32]) -> bytes:
    """Compile a Keras model to a LiteRT file with 8-bit weights and activations.

    Inputs and outputs stay float32, and so does the softmax: an 8-bit one would know no
    confidence between 0.996 and 1.

    Args:
        model: Maps (N, H, W, C) float32 in [0, 1] to (N, classes).
        calibration: Typical images, (N, H, W, C) float32 in [0, 1].
    """
    tf = import_tensorflow()

    def images() -> Iterator[list[npt.NDArray[np.float32]]]:
        for index in range(len(calibration)):
            yield [calibration[index : index + 1]]

    with quiet():
        converter = _converter(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = images
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=images, debug_options=options
        )
        compiled: bytes = debugger.get_nondebug_quantized_model()
    return compiled


def _converter(model: Any) -> Any:
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    # Calibration runs the graph, and LiteRT's calibrator knows no variables: freeze them first.
    frozen = convert_variables_to_constants_v2(concrete_function(model))
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def accuracy_of(
    predict: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    images: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    chunk: int = 1000,
) -> float:
    """Share of (N, H, W, C) uint8 images whose most probable class is the true one."""
    right = 0
    for start in range(0, len(images), chunk):
        pixels = images[start : start + chunk].astype(np.float32) / np.float32(255)
        right += int((predict(pixels).argmax(1) == classes[start : start + chunk]).sum())
    return right / len(images)


@dataclass(frozen=True)
class CompiledForm:
    """A compiled network, before it is written."""

    compiled: bytes
    test_accuracy: float | None


def compile_forms(
    model: Any,
    train_images: npt.NDArray[np.uint8] | None = None,
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None = None,
) -> dict[str, CompiledForm]:
    """Compile a Keras model and measure what came out.

    Args:
        model: The loaded Keras model.
        train_images: (N, H, W, C) uint8 to calibrate with; without them no int8 form is made.
        test: Images and classes to measure accuracy with.

    Returns:
        `float32`, and `int8` if its accuracy is no lower.
    """
    forms = {FLOAT32: _measured(compile_float32(model), test)}
    if train_images is not None and test is not None:
        step = max(1, len(train_images) // CALIBRATION_IMAGES)
        calibration = train_images[::step][:CALIBRATION_IMAGES].astype(np.float32) / np.float32(255)
        int8 = _measured(compile_int8(model, calibration), test)
        if (int8.test_accuracy or 0.0) >= (forms[FLOAT32].test_accuracy or 0.0):
            forms[INT8] = int8
    return forms


def _measured(
    compiled: bytes, test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None
) -> CompiledForm:
    if test is None:
        return CompiledForm(compiled, None)
    return CompiledForm(compiled, accuracy_of(LiteRTEngine(compiled, "compiled").run, *test))


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
    parser = argparse.ArgumentParser(
        prog="python -m Modelling.quantise",
        description="Compile a Keras checkpoint for fast serving without TensorFlow.",
    )
    parser.add_argument("checkpoint", type=Path, help="a .h5 or .keras file")
    parser.add_argument(
        "--data", type=Path, metavar="FILE.npz",
        help="x_train to calibrate with, x_test and y_test to measure; without it no int8 is made",
    )  # fmt: skip
    parser.add_argument("--labels", help="names of the classes, separated by commas")
    options = parser.parse_args(arguments)
    try:
        _quantise(options.checkpoint, options.data, options.labels)
    except (CheckpointError, OSError, ValueError) as error:
        print(f"quantise: {error}", file=sys.stderr)
        return 2
    return 0


def _quantise(path: Path, data: Path | None, labels: str | None) -> None:
    checkpoint = open_checkpoint(path, patience=0)
    model = load_keras_model(path)
    input_shape = tuple(int(size) for size in model.input_shape[1:])
    classes = int(model.output_shape[-1])
    side = read_side_file(path) or SideFile(
        sha256=checkpoint.sha256,
        labels=tuple(str(index) for index in range(classes)),
        input_shape=(input_shape[0], input_shape[1], input_shape[2]),
    )
    if labels:
        side = replace(side, labels=tuple(labels.split(",")))
    if len(side.labels) != classes:
        raise CheckpointError(
            f"{path} has {classes} outputs, but there are {len(side.labels)} labels"
        )
    if data is None:
        forms = compile_forms(model)
    else:
        dataset = load_dataset(path.stem, data)
        if dataset.input_shape != input_shape:
            raise ValueError(
                f"{data} holds {dataset.input_shape} images, {path} takes {input_shape}"
            )
        forms = compile_forms(
            model, dataset.train_images, (dataset.test_images, dataset.test_classes)
        )
    engines = write_forms(path, forms)
    write_side_file(path, replace(side, sha256=checkpoint.sha256, engines=engines))
    for name, engine in engines.items():
        accuracy = "" if engine.test_accuracy is None else f", accuracy {engine.test_accuracy:.2%}"
        print(f"{name}: {path.with_name(engine.file)}{accuracy}")
    if data is not None and INT8 not in engines:
        print("int8: not kept, its accuracy is lower")


if __name__ == "__main__":
    sys.exit(main())
