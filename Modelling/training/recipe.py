"""The training itself: which images, how often, by which optimizer, and the epochs in 8 bits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.network.compiling import CALIBRATION_IMAGES
from Modelling.network.tensorflow import import_tensorflow
from Modelling.training.architecture import build_cnn
from Modelling.training.batches import accuracy as accuracy_metric
from Modelling.training.batches import training_batches, validation_batches
from Modelling.training.calibration import Calibration, calibrate
from Modelling.training.datasets import Dataset
from Modelling.training.eight_bits import EightBitNetwork
from Modelling.training.options import Options

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


@dataclass(frozen=True)
class _Feed:
    """What the epochs are fed with.

    Attributes:
        batches: the training images of an epoch, distorted anew in each.
        validation: the validation images, as they are.
        steps: batches in an epoch.
    """

    batches: Any
    validation: Any
    steps: int


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
    feed = _Feed(
        training_batches(dataset, training, batch_size, options.seed, options.outliers),
        validation_batches(dataset, validating),
        len(training) // batch_size,
    )
    model, history, best_epoch = _train_in_float32(options, dataset, feed, start)
    print(  # noqa: T201 - beside Keras' progress
        f"\nepoch {best_epoch} was the best; "
        f"now {EIGHT_BIT_EPOCHS} more in 8 bits, on top of --epochs"
    )
    shown = dataset.train_images[training[:CALIBRATION_IMAGES]]
    for name, values in _train_in_eight_bits(model, shown, feed).items():
        history[name] += values
    return model, history, best_epoch


def _train_in_float32(
    options: Options,
    dataset: Dataset,
    feed: _Feed,
    start: list[npt.NDArray[np.float32]] | None,
) -> tuple[Any, dict[str, list[float]], int]:
    """Train until the loss falls no more; returns what `train` does."""
    import keras

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
        _learning_rate(peak, feed.steps, options.epochs), weight_decay=WEIGHT_DECAY
    )
    history = _fit(network, optimizer, feed, options.epochs, [best])
    model = build_cnn(*size)
    model.set_weights(network.get_weights())
    return model, history, best.best_epoch + 1


def _train_in_eight_bits(model: Any, shown: Images, feed: _Feed) -> dict[str, list[float]]:
    """Let a trained network get used to 8 bits; its weights are then on their grid.

    Args:
        model: the network.
        shown: images by which the ranges of its layers are found.
        feed: what it is trained with.
    """
    import keras

    eight_bits = EightBitNetwork(model, shown.astype(np.float32) / WHITE)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(
            EIGHT_BIT_LEARNING_RATE, feed.steps * EIGHT_BIT_EPOCHS
        )
    )
    history = _fit(eight_bits.trainable(model), optimizer, feed, EIGHT_BIT_EPOCHS, [])
    eight_bits.leave_weights_on_grid()
    return history


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
    model: Any, optimizer: Any, feed: _Feed, epochs: int, callbacks: list[Any]
) -> dict[str, list[float]]:
    """Run epochs with a progress bar; returns loss and accuracy by epoch."""
    import keras

    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=LABEL_SMOOTHING),
        metrics=[accuracy_metric],
    )
    fitted = model.fit(
        feed.batches,
        validation_data=feed.validation,
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


def calibrated(options: Options, dataset: Dataset, model: Any) -> Calibration:
    """Fit the temperature on the validation images: neither trained on nor measured with."""
    validating, _ = split(options, len(dataset.train_images))
    answers = evaluate(model, dataset.train_images[validating])
    return calibrate(answers, dataset.train_classes[validating])
