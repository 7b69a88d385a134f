"""The average of the weights of the last steps, which is what is validated and kept.

Each step moves the weights by what its own few images want. The mean of the weights of many steps
is nearer to what all images want than the last of them is (Polyak and Juditsky, *Acceleration of
Stochastic Approximation by Averaging*, 1992), and it costs one pass over the weights a step.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from Modelling.network.tensorflow import import_tensorflow


class WeightAverage(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep an exponential moving average, and put it into the model for each validation.

    The moving means and variances of batch normalisation are averaged as well. The average stays in
    the model until the next epoch begins, so that a callback that keeps the weights of an epoch
    keeps the average; after the last one it is what `fit` leaves.
    """

    def __init__(self, steps: int) -> None:
        """Say how far back it goes.

        Args:
            steps: After so many steps a weight's part in the average is down to 1 / e.
        """
        super().__init__()
        self._kept = 1 - 1 / max(2, steps)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin with the weights as they are."""
        tf = import_tensorflow()
        weights = [each.value for each in self.model.weights]
        average = [tf.Variable(each, trainable=False) for each in weights]

        @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
        def move(part: Any) -> None:
            for mean, weight in zip(average, weights, strict=True):
                mean.assign_sub((mean - weight) * part)

        self._average, self._move = average, move
        self._seen = 0
        self._aside: list[Any] | None = None

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Take the weights of one more step in."""
        tf = import_tensorflow()
        self._seen += 1
        # At first of those few steps that there were: the untrained weights are forgotten.
        kept = min(self._kept, self._seen / (9 + self._seen))
        self._move(tf.constant(1 - kept, tf.float32))

    def on_test_begin(self, *_: Any, **__: Any) -> None:
        """Put the average in the model's weights' place."""
        self._aside = self.model.get_weights()
        self.model.set_weights([each.numpy() for each in self._average])

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Train on from the weights themselves."""
        if self._aside is not None:
            self.model.set_weights(self._aside)
            self._aside = None


def settle_statistics(
    network: keras.Model, images: npt.NDArray[np.float32], batch_size: int = 500
) -> None:
    """Set the means and variances of batch normalisation to those of images as they are.

    What training leaves there is of distorted images, and of other weights than their average.

    Args:
        network: As `build_cnn` made it, trained.
        images: (N, H, W, C) float32 in [0, 1].
        batch_size: The means of the means and variances of so many at a time are taken.
    """
    chosen = [each for each in network.layers if isinstance(each, layers.BatchNormalization)]
    before = [each.momentum for each in chosen]
    for number in range(max(1, len(images) // batch_size)):
        for each in chosen:
            each.momentum = number / (number + 1)
        network(images[number * batch_size :][:batch_size], training=True)
    for each, momentum in zip(chosen, before, strict=True):
        each.momentum = momentum
