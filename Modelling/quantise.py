"""Compile a Keras model for LiteRT, in float32 and quantised to 8 bits.

`train_cnn.py` does this by itself. For a checkpoint made elsewhere:

    python -m Modelling.quantise mine.keras --data mine.npz --labels cat,dog

writes `mine.float32.tflite`, `mine.int8.tflite` and `mine.json`. The quantised form is kept unless
it is less accurate on the test images than chance explains. Without `--data` only float32 is
written.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from DurableText.installation.command_line import command_parser
from DurableText.program.interrupts import BROKEN_OFF, Interrupts
from DurableText.program.option_types import nonempty, path_name
from Modelling.errors import CheckpointError, refusal_of
from Modelling.network.checkpoint import (
    DIGITS,
    RESIZE,
    Checkpoint,
    SideFile,
    open_checkpoint,
    write_side_file,
)
from Modelling.network.compiling import (
    FLOAT32,
    INT8,
    NotCompilableError,
    compile_forms,
    write_forms,
)
from Modelling.network.declared_size import add_max_model_bytes
from Modelling.network.input_range import UNIT, input_range_option
from Modelling.network.keras_models import KerasClassifier, load_keras_model
from Modelling.network.labels import read_labels
from Modelling.network.side_file_values import checked_labels, require_preprocessing
from Modelling.training.datasets import load_dataset

# What a user wrote into the side file by hand stays when the model was trained anew.
KEPT_KEYS = ("resize", "white", "layout", "temperature")


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
