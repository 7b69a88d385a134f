"""Train the image classifier, and write the checkpoint that the model server serves.

    python -m Modelling.train_cnn                            # MNIST, downloaded by Keras
    python -m Modelling.train_cnn --dataset fashion_mnist
    python -m Modelling.train_cnn --data mine.npz            # or a .csv, or MNIST's idx files

What it does, in order: splits off validation images, trains `architecture.build_cnn` on images that
`augmentation.augment` distorts anew in every epoch, keeps the weights of the epoch with the lowest
validation loss, lets them get used to 8 bits (see `eight_bits`), measures them once on the test
images, and writes, the side file as the last of the checkpoint:

    model_checkpoints/mnist_cnn_model.h5  .float32.tflite  .int8.tflite  .json
    plots/loss_plot.png  plots/confusion_matrix.png

The test images choose neither the epoch nor the seed, only whether the quantised form is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # python Modelling/train_cnn.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import time

import numpy as np
import numpy.typing as npt

from DurableText.program.interrupts import BROKEN_OFF, Interrupts
from Modelling.errors import CheckpointError, refusal_of, shortened
from Modelling.network.compiling import INT8
from Modelling.training.continuing import starting_weights
from Modelling.training.datasets import Dataset, load_dataset
from Modelling.training.options import Options, parse_options
from Modelling.training.plots import draw_confusion, draw_loss
from Modelling.training.provenance import provenance_of
from Modelling.training.recipe import (
    EIGHT_BIT_EPOCHS,
    Probabilities,
    calibrated,
    evaluate,
    split,
    train,
)
from Modelling.training.saving import require_room, write_checkpoint


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse_options(arguments)
    interrupts = Interrupts()
    try:
        with interrupts:
            return _load_and_train(options)
    except KeyboardInterrupt:
        print(f"\ntrain_cnn: {BROKEN_OFF}", file=sys.stderr)
        return interrupts.exit_code
    except OSError as error:
        print(f"train_cnn: the checkpoint could not be written: {error}", file=sys.stderr)
    except CheckpointError as error:  # TensorFlow is missing
        print(f"train_cnn: {error}", file=sys.stderr)
        return 2
    return 1


def _load_and_train(options: Options) -> int:
    try:
        dataset = load_dataset(options.dataset, options.data)
        split(options, len(dataset.train_images))
        start = starting_weights(options, dataset) if options.start_from else None
        require_room(options.output.parent)
        require_room(options.plots)
    except (OSError, ValueError) as error:
        print(f"train_cnn: {refusal_of(error)}", file=sys.stderr)
        return 2
    return _train_and_write(options, dataset, start)


def _train_and_write(
    options: Options, dataset: Dataset, start: list[npt.NDArray[np.float32]] | None
) -> int:
    started = time.monotonic()
    model, history, best_epoch = train(options, dataset, start)
    seconds = time.monotonic() - started
    probabilities = evaluate(model, dataset.test_images)
    accuracy = float((probabilities.argmax(1) == dataset.test_classes).mean())
    if not np.isfinite(probabilities).all():
        print("train_cnn: the training diverged; no checkpoint was written", file=sys.stderr)
        return 1

    # The checkpoint first: nothing that goes wrong with a picture shall lose it.
    calibration = calibrated(options, dataset, model)
    told = provenance_of(options, history, best_epoch, accuracy, seconds)
    told["validation_calibration_error"] = [
        round(calibration.before, 5),
        round(calibration.after, 5),
    ]
    side = write_checkpoint(options, dataset, model, told, calibration.temperature)
    title = f"{options.output.stem}: test accuracy {accuracy:.2%}"
    _draw(options, dataset, history, best_epoch, probabilities, title)
    print(f"\ntest accuracy {accuracy:.2%} (best epoch {best_epoch}, {seconds / 60:.1f} minutes)")
    print(
        f"expected calibration error {calibration.before:.2%} on the validation images, "
        f"{calibration.after:.2%} at temperature {calibration.temperature:g}"
    )
    for name, engine in side.engines.items():
        print(f"{name:8} test accuracy {engine.test_accuracy:.2%}  {engine.file}")
    if INT8 not in side.engines:
        print("int8     not kept: it loses more by rounding than chance explains")
    print(f"written  {options.output}, {options.plots}/")
    return 0


def _draw(
    options: Options,
    dataset: Dataset,
    history: dict[str, list[float]],
    best_epoch: int,
    probabilities: Probabilities,
    title: str,
) -> None:
    try:
        seen = "distorted, and of no class" if options.outliers else "distorted images"
        file = options.plots / "loss_plot.png"
        draw_loss(history, best_epoch, EIGHT_BIT_EPOCHS, title, file, seen)
        draw_confusion(
            dataset.test_images, dataset.test_classes, probabilities, dataset.labels, title,
            options.plots / "confusion_matrix.png",
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - the checkpoint is written, and is what counts
        print(f"train_cnn: the plots were not drawn: {shortened(error)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
