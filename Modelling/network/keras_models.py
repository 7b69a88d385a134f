"""Keras models from strangers: loaded without running their code, and understood.

Models differ in what they want and give: pixels in [0, 1] or [0, 255], bytes, no channel axis,
probabilities or logits, one output for two classes. `KerasClassifier` finds that out, so that every
engine sees the same: (N, H, W, C) float32 to probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from Modelling.errors import CheckpointError
from Modelling.network.declared_size import (
    DEFAULT_MAX_MODEL_BYTES,
    require_tensor_sizes,
    tensor_bytes,
)
from Modelling.network.input_range import InputRange
from Modelling.network.keras_config import read_keras_file, refuse_code
from Modelling.network.keras_loading import advice_on_classes, cause_of, load
from Modelling.network.outputs import (
    OutputKind,
    classes_of,
    kind_of,
    noise,
    require_input_size,
)
from Modelling.network.range_probe import FoundRange, find_input_range
from Modelling.network.tensorflow import import_tensorflow, quiet

# Why a range is taken that was given.
SAID = "it was said"

# Layers that pass pixels on in the range they came in. So do all that are called `Random...`.
TRANSPARENT_LAYERS = frozenset(
    {"InputLayer", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Resizing",
     "CenterCrop", "ZeroPadding2D", "Cropping2D", "Reshape", "Identity", "Permute", "Cast",
     "ExpandDims", "AutoContrast"}
)  # fmt: skip


def load_keras_model(
    path: Path, *, allow_code: bool = False, max_bytes: int = DEFAULT_MAX_MODEL_BYTES
) -> Any:
    """Load a Keras image classifier from `.h5` or `.keras`, without its optimiser.

    Args:
        path: The checkpoint.
        allow_code: Load layers that carry code, too; only for files you made yourself.

        max_bytes: That its weights, or one of its tensors, may take.

    Raises:
        CheckpointError: Damaged, unsafe, too large, or not an image classifier.
    """
    file = read_keras_file(path)
    if not allow_code:
        refuse_code(file)
    import_tensorflow()
    import keras

    try:
        with quiet(show=False):
            model = load(file, safe_mode=not allow_code, max_bytes=max_bytes)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes Keras raise
        raise CheckpointError(
            f"{path}: written by {file.written_by}, Keras {keras.__version__} cannot load it: "
            f"{cause_of(error)}{advice_on_classes(error)}"
        ) from None
    _require_image_classifier(path, model)
    require_tensor_sizes(path, _tensor_sizes(model), max_bytes)
    return model


class KerasClassifier:
    """A Keras model with what it wants and gives.

    Attributes:
        input_shape: Height, width and channels; 1 channel for a model of (N, H, W).
        input_range: The range of pixels that it wants; see `InputRange`.
        range_found: That, and how it was found.
        classes: How many it tells apart.
    """

    def __init__(self, model: Any, input_range: InputRange | None = None) -> None:
        """Find out what the model wants and gives.

        Args:
            model: See `load_keras_model`.
            input_range: What its side file or the user says; overrules what the model shows.

        Raises:
            CheckpointError: The outputs are neither probabilities nor logits of classes.
        """
        self._tf = import_tensorflow()
        self._model = model
        self._given = tuple(int(size) for size in _only(model.input_shape)[1:])
        self._dtype = self._tf.as_dtype(model.inputs[0].dtype)
        height, width, channels = (*self._given, 1)[:3]
        self.input_shape = height, width, channels
        require_input_size(self.input_shape)
        self.range_found = FoundRange(input_range, SAID) if input_range else find_input_range(model)
        self.input_range = self.range_found.input_range
        images = self.input_range.apply(noise(self.input_shape))
        outputs = np.asarray(self._outputs(self._tf.constant(images)), np.float32)
        self._kind = kind_of(outputs, _last_activation(model))
        self.classes = classes_of(outputs.shape[1])

    def concrete_function(self) -> Any:
        """Trace it from (N, H, W, C) float32, in its input range, to probabilities, for any N."""
        tf = self._tf
        signature = tf.TensorSpec((None, *self.input_shape), tf.float32, name="image")
        return tf.function(self._probabilities).get_concrete_function(signature)

    def _outputs(self, images: Any) -> Any:
        """(N, outputs) float32."""
        tf = self._tf
        if len(self._given) == 2:
            images = images[..., 0]
        if self._dtype.is_integer:
            images = tf.round(images)
        outputs = _only(self._model(tf.cast(images, self._dtype), training=False))
        if len(outputs.shape) > 2:
            # Of a fully convolutional model, (N, 1, 1, classes).
            outputs = tf.reshape(outputs, (-1, outputs.shape[-1]))
        return tf.cast(outputs, tf.float32)

    def _probabilities(self, image: Any) -> Any:
        tf = self._tf
        outputs = self._outputs(image)
        if self._kind is OutputKind.LOGITS:
            return tf.nn.softmax(outputs)
        if self._kind is OutputKind.ONE_LOGIT:
            outputs = tf.sigmoid(outputs)
        if outputs.shape[-1] == 1:
            return tf.concat([1 - outputs, outputs], axis=1)
        return outputs


def _operations(model: Any) -> Iterator[Any]:
    """Yield the operations of a model in their order, those of models inside it in their place."""
    import keras

    layers = model.layers if isinstance(model, keras.Sequential) else model.operations
    for operation in layers:
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        else:
            yield operation


def _tensor_sizes(model: Any) -> Iterator[int]:
    """Yield the bytes of all that a model's operations give for one image."""
    import keras

    for operation in _operations(model):
        try:
            tensors = keras.tree.flatten(operation.output)
        except (AttributeError, ValueError):  # it is used in several places
            continue
        for tensor in tensors:
            yield tensor_bytes(tensor.shape, np.float32)


def _last_activation(model: Any) -> str | None:
    """Keras' name of the activation that makes the outputs; None if it cannot be told."""
    for operation in reversed(list(_operations(model))):
        name = type(operation).__name__
        if name in TRANSPARENT_LAYERS or name in ("Flatten", "Squeeze"):
            continue
        if name in ("Softmax", "Sigmoid", "ReLU"):
            return name.lower()
        activation = getattr(operation, "activation", None)
        return getattr(activation, "__name__", None)
    return None


def _only(outputs: Any) -> Any:
    """Take the one output out of a dictionary or list of one, as some models name it."""
    if isinstance(outputs, dict) and len(outputs) == 1:
        return next(iter(outputs.values()))
    return outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs


def _require_image_classifier(path: Path, model: Any) -> None:
    import keras

    try:
        shape, outputs = _only(model.input_shape), _only(model.output_shape)
    except AttributeError:
        shape = outputs = None
    if not isinstance(model, keras.Model) or shape is None or outputs is None:
        raise CheckpointError(
            f"{path}: holds no model with an input of known size; start it with keras.Input(...) "
            "and save the whole model"
        )
    single = all(
        isinstance(each, tuple) and all(size is None or isinstance(size, int) for size in each)
        for each in (shape, outputs)
    )
    if (
        not single
        or len(shape) not in (3, 4)
        or len(outputs) < 2
        or None in (*shape[1:], *outputs[1:])
        or any(size != 1 for size in outputs[1:-1])
    ):
        raise CheckpointError(
            f"{path}: not an image classifier: it maps {shape} to {outputs}, needed is "
            "(N, height, width, channels) of fixed size to (N, classes)"
        )
    if len(shape) == 4 and shape[3] not in (1, 3, 4):
        raise CheckpointError(
            f"{path}: takes {shape[3]} channels; known are 1 (grey), 3 (RGB) and 4 (RGBA)"
        )
