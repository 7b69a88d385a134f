"""The last epochs of training: the network learns to live with 8 bits.

Rounding a finished network to 8 bits turns the answer on the two or three images in 10,000 that it
was hardly sure of. So for the last epochs the rounding is part of training: every weight and every
activation is rounded in the forward pass as LiteRT will do it, and gradients pass through as if it
were not (Jacob et al., 2018, https://arxiv.org/abs/1712.05877). Batch normalisation is frozen and
folded into the weights, as LiteRT's converter folds it. In the end the weights are left on the
8-bit grid, where the float32 network uses them as well; what differs then is the rounding of
activations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.network.tensorflow import import_tensorflow

# Weights are rounded to -127..127 times a scale, one scale per output channel.
LEVELS = 127

# Activations, after ReLU, to 0..255 times a scale, one for a layer.
ACTIVATION_LEVELS = 255


class EightBitNetwork:
    """The network of `architecture.build_cnn`, as it answers in 8 bits.

    It has no weights of its own: training it trains the network that it was made from.
    """

    def __init__(self, network: Any, calibration: npt.NDArray[np.float32]) -> None:
        """Measure the ranges of the activations.

        Args:
            network: As `build_cnn` made it, trained.
            calibration: Training images, (N, H, W, C) float32 in [0, 1].
        """
        from keras import layers

        self._convolutions = [each for each in network.layers if isinstance(each, layers.Conv2D)]
        self._normalisations = [
            each for each in network.layers if isinstance(each, layers.BatchNormalization)
        ]
        self._dense = network.layers[-1]
        self._ranges: list[float] | None = None
        seen: list[Any] = []
        self._forward(calibration, seen)
        self._ranges = [float(highest) for highest in seen]

    def trainable(self, network: Any) -> Any:
        """Make a Keras model, for `fit`, that trains `network` through the rounding."""
        import keras

        forward = self._forward

        class Trainable(keras.Model):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(name="eight_bits")
                self.network = network

            def call(self, images: Any) -> Any:
                return forward(images)

        return Trainable()

    def leave_weights_on_grid(self) -> None:
        """Round the weights for good."""
        for convolution, normalisation in self._layers():
            scale, _ = _folded(normalisation)
            convolution.kernel.assign(_rounded_weights(convolution.kernel * scale) / scale)
        self._dense.kernel.assign(_rounded_weights(self._dense.kernel))

    def _layers(self) -> list[tuple[Any, Any]]:
        return list(zip(self._convolutions, self._normalisations, strict=True))

    def _forward(self, images: Any, seen: list[Any] | None = None) -> Any:
        """Probabilities of (N, H, W, C) images; `seen` collects the highest activations."""
        tf = import_tensorflow()
        x = tf.convert_to_tensor(images)

        def rounded(activations: Any, layer: int) -> Any:
            if seen is not None:
                seen.append(tf.reduce_max(activations))
            if self._ranges is None:
                return activations
            return _rounded_activations(activations, self._ranges[layer])

        for layer, (convolution, normalisation) in enumerate(self._layers()):
            scale, bias = _folded(normalisation)
            kernel = _rounded_weights(convolution.kernel * scale)
            x = tf.nn.conv2d(x, kernel, convolution.strides, convolution.padding.upper())
            x = rounded(tf.nn.relu(x + bias), layer)
        x = rounded(tf.reduce_mean(x, (1, 2)), len(self._convolutions))
        return tf.nn.softmax(x @ _rounded_weights(self._dense.kernel) + self._dense.bias)


def _folded(normalisation: Any) -> tuple[Any, Any]:
    """Batch normalisation as what it does to a convolution: a factor and a bias per channel."""
    tf = import_tensorflow()
    scale = normalisation.gamma / tf.sqrt(normalisation.moving_variance + normalisation.epsilon)
    return scale, normalisation.beta - normalisation.moving_mean * scale


def _rounded_weights(kernel: Any) -> Any:
    """Round to the 8-bit grid of each output channel, the last axis."""
    tf = import_tensorflow()
    axes = list(range(len(kernel.shape) - 1))
    highest = tf.stop_gradient(tf.reduce_max(tf.abs(kernel), axes, keepdims=True))
    step = tf.maximum(highest, 1e-8) / LEVELS
    return _round_straight_through(kernel / step) * step


def _rounded_activations(activations: Any, highest: float) -> Any:
    tf = import_tensorflow()
    step = max(highest, 1e-8) / ACTIVATION_LEVELS
    return _round_straight_through(tf.clip_by_value(activations, 0.0, highest) / step) * step


def _round_straight_through(values: Any) -> Any:
    """Round, with the gradient of not rounding."""
    tf = import_tensorflow()
    return values + tf.stop_gradient(tf.round(values) - values)
