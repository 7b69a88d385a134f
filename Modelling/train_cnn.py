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
    from DurableText import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import io
import tempfile
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from DurableText.interrupts import BROKEN_OFF, Interrupts
from Modelling.errors import CheckpointError, refusal_of, shortened
from Modelling.network.checkpoint import (
    DIGITS,
    RESIZE,
    SideFile,
    sha256_of,
    write_atomically,
    write_side_file,
)
from Modelling.network.input_range import UNIT
from Modelling.network.tensorflow import import_tensorflow, quiet
from Modelling.quantise import CALIBRATION_IMAGES, INT8, compile_forms, write_forms
from Modelling.training.architecture import build_cnn
from Modelling.training.batches import accuracy as accuracy_metric
from Modelling.training.batches import training_batches, validation_batches
from Modelling.training.calibration import Calibration, calibrate
from Modelling.training.continuing import starting_weights
from Modelling.training.datasets import LABELS, Dataset, load_dataset
from Modelling.training.eight_bits import EightBitNetwork
from Modelling.training.options import Options, parse_options
from Modelling.training.plots import draw_confusion, draw_loss
from Modelling.training.provenance import provenance_of

# On top of `--epochs`; see `eight_bits`.
EIGHT_BIT_EPOCHS = 2

# Of AdamW. Reached after one epoch of warm-up, then lowered to nearly 0 along a cosine.
PEAK_LEARNING_RATE = 3e-3

# The same for `--start-from`: what was learned is to be kept.
CONTINUED_LEARNING_RATE = 2e-4

WEIGHT_DECAY = 1e-2

# Of Adam, lowered to 0 along a cosine: nothing is to be learned any more but rounding.
EIGHT_BIT_LEARNING_RATE = 1e-4

# Keeps the network from being certain of what nobody can read.
LABEL_SMOOTHING = 0.03

# Epochs without a lower validation loss after which training stops; half of them where that is
# more, because the loss falls most when the learning rate does, at the end.
PATIENCE = 8

WHITE = np.float32(255)

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def train(
    options: Options, dataset: Dataset, start: list[npt.NDArray[np.float32]] | None = None
) -> tuple[Any, dict[str, list[float]], int]:
    """Train a network: a new one, or on from the weights of another.

    Returns:
        The Keras model, the history (loss and accuracy by epoch, the last ones in 8 bits), and the
        epoch, from 1, that was the best before them.
    """
    tf = import_tensorflow()
    import keras

    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    validating, training = split(options, len(dataset.train_images))
    batch_size = min(options.batch_size, len(training))
    steps = len(training) // batch_size
    batches = training_batches(dataset, training, batch_size, options.seed, options.outliers)
    validation = validation_batches(dataset, validating)

    size = (dataset.input_shape, len(dataset.labels), options.network)
    network = build_cnn(*size, quick=True)
    if start is not None:
        network.set_weights(start)
    network.summary(line_length=80)
    best = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=max(PATIENCE, options.epochs // 2), restore_best_weights=True
    )
    peak = PEAK_LEARNING_RATE if start is None else CONTINUED_LEARNING_RATE
    optimizer = keras.optimizers.AdamW(
        _learning_rate(peak, steps, options.epochs), weight_decay=WEIGHT_DECAY
    )
    history = _fit(network, optimizer, batches, validation, options.epochs, [best])
    model = build_cnn(*size)
    model.set_weights(network.get_weights())

    print(
        f"\nepoch {best.best_epoch + 1} was the best; "
        f"now {EIGHT_BIT_EPOCHS} more in 8 bits, on top of --epochs"
    )
    calibration = dataset.train_images[training[:CALIBRATION_IMAGES]].astype(np.float32) / WHITE
    eight_bits = EightBitNetwork(model, calibration)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(EIGHT_BIT_LEARNING_RATE, steps * EIGHT_BIT_EPOCHS)
    )
    rounded = _fit(
        eight_bits.trainable(model), optimizer, batches, validation, EIGHT_BIT_EPOCHS, []
    )
    eight_bits.leave_weights_on_grid()
    for name, values in rounded.items():
        history[name] += values
    return model, history, best.best_epoch + 1


def split(options: Options, count: int) -> tuple[Indices, Indices]:
    """Draw the indices of the validation images and of those to train on.

    Raises:
        ValueError: There are too few images for both.
    """
    shuffled = np.random.default_rng(options.seed).permutation(count)
    validation_count = max(1, round(count * options.validation_ratio))
    if validation_count >= count:
        raise ValueError(
            f"{count} training images are too few: with --validation-ratio "
            f"{options.validation_ratio:g} none is left to train on"
        )
    return shuffled[:validation_count], shuffled[validation_count:]


def _fit(
    model: Any, optimizer: Any, batches: Any, validation: Any, epochs: int, callbacks: list[Any]
) -> dict[str, list[float]]:
    """Run epochs with a progress bar; returns loss and accuracy by epoch."""
    import keras

    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=LABEL_SMOOTHING),
        metrics=[accuracy_metric],
    )
    fitted = model.fit(
        batches,
        validation_data=validation,
        epochs=epochs,
        callbacks=callbacks,
        verbose="auto" if sys.stdout.isatty() else 2,
    )
    history: dict[str, list[float]] = fitted.history
    return history


def _learning_rate(peak: float, steps: int, epochs: int) -> Any:
    """Plan one epoch of warm-up, then a cosine down to a thousandth."""
    import keras

    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / 30,
        warmup_target=peak,
        warmup_steps=steps,
        decay_steps=max(1, steps * (epochs - 1)),
        alpha=1e-3,
    )


def evaluate(model: Any, images: Images) -> Probabilities:
    """Predict images as they are in a data set: (N, classes) float32."""
    pixels = images.astype(np.float32) / WHITE
    probabilities: Probabilities = model.predict(pixels, batch_size=500, verbose=0)
    return probabilities


def write_checkpoint(
    options: Options, dataset: Dataset, model: Any, training: dict[str, Any], temperature: float
) -> SideFile:
    """Write the checkpoint, its compiled forms, and last the side file.

    All is made before anything is written: a server that starts meanwhile waits a few seconds only
    for files that match.
    """
    forms = compile_forms(model, dataset.train_images, (dataset.test_images, dataset.test_classes))
    with quiet():  # Keras calls .h5 a legacy format; it is the one most tools read
        if options.output.suffix == ".h5":
            write_atomically(options.output, _as_h5(model))
        else:
            partial = options.output.with_name(f".{options.output.stem}.partial.keras")
            model.save(partial, include_optimizer=False)
            write_atomically(options.output, partial.read_bytes())
            partial.unlink()
    side = SideFile(
        sha256=sha256_of(options.output),
        labels=dataset.labels,
        input_shape=dataset.input_shape,
        preprocessing=DIGITS if _is_like_mnist(options, dataset) else RESIZE,
        input_range=UNIT,
        temperature=temperature,
        engines=write_forms(options.output, forms),
        training=training,
    )
    write_side_file(options.output, side)
    return side


def _is_like_mnist(options: Options, dataset: Dataset) -> bool:
    """Tell whether images that come later are to be set as MNIST's were."""
    return (
        options.handwritten_digits
        and dataset.labels == LABELS["mnist"]
        and dataset.input_shape == (28, 28, 1)
    )


def _as_h5(model: Any) -> bytes:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        legacy_h5_format.save_model_to_hdf5(model, file, include_optimizer=False)
    return buffer.getvalue()


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
        _require_writable(options.output.parent)
        _require_writable(options.plots)
    except (OSError, ValueError) as error:
        print(f"train_cnn: {refusal_of(error)}", file=sys.stderr)
        return 2
    return _train_and_write(options, dataset, start)


def _require_writable(folder: Path) -> None:
    """Find out before the training, not after it, whether files can be made in a folder.

    Raises:
        OSError: They cannot; the text names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"the folder {folder} cannot be written: {error.strerror}") from None


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
    calibration = _calibrated(options, dataset, model)
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


def _calibrated(options: Options, dataset: Dataset, model: Any) -> Calibration:
    """Fit the temperature on the validation images: neither trained on nor measured with."""
    validating, _ = split(options, len(dataset.train_images))
    answers = evaluate(model, dataset.train_images[validating])
    return calibrate(answers, dataset.train_classes[validating])


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
