"""Keras models from strangers: loaded without running their code, and understood.

Models differ in what they want and give: pixels in [0, 1] or [0, 255], bytes, no channel axis,
probabilities or logits, one output for two classes. `KerasClassifier` finds that out, so that every
engine sees the same: (N, H, W, C) float32 to probabilities.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from Modelling.errors import CheckpointError, shortened
from Modelling.network.input_range import InputRange
from Modelling.network.outputs import OutputKind, classes_of, kind_of, noise
from Modelling.network.range_probe import FoundRange, find_input_range
from Modelling.network.tensorflow import import_tensorflow, quiet

# Of a model's architecture as JSON. The largest of keras.applications has half a megabyte.
MAX_CONFIG_BYTES = 16 << 20

# Layers that carry code (or graphs that may read and write files) inside the checkpoint.
CODE_LAYERS = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__"}
)

# Why a range is taken that was given.
SAID = "it was said"

# Layers that pass pixels on in the range they came in. So do all that are called `Random...`.
TRANSPARENT_LAYERS = frozenset(
    {"InputLayer", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Resizing",
     "CenterCrop", "ZeroPadding2D", "Cropping2D", "Reshape", "Identity", "Permute", "Cast",
     "ExpandDims", "AutoContrast"}
)  # fmt: skip


def load_keras_model(path: Path, *, allow_code: bool = False) -> Any:
    """Load a Keras image classifier from `.h5` or `.keras`, without its optimiser.

    Args:
        path: The checkpoint.
        allow_code: Load layers that carry code, too; only for files you made yourself.

    Raises:
        CheckpointError: Damaged, unsafe, or not an image classifier.
    """
    if not allow_code:
        _refuse_code(path)
    import_tensorflow()
    import keras

    try:
        with quiet():
            model = keras.models.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes Keras raise
        raise CheckpointError(f"{path}: Keras cannot load it: {shortened(error)}") from None
    _require_image_classifier(path, model)
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
        self._given = tuple(int(size) for size in model.input_shape[1:])
        self._dtype = self._tf.as_dtype(model.inputs[0].dtype)
        height, width, channels = (*self._given, 1)[:3]
        self.input_shape = height, width, channels
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
        outputs = self._model(tf.cast(images, self._dtype), training=False)
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


def _require_image_classifier(path: Path, model: Any) -> None:
    import keras

    try:
        shape, outputs = model.input_shape, model.output_shape
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


def _refuse_code(path: Path) -> None:
    """Look for layers with code in the model's configuration before Keras sees it."""
    try:
        entries = _class_entries(_read_config(path))
    except Exception as error:  # noqa: BLE001 - archives and JSON from strangers raise anything
        raise CheckpointError(
            f"{path}: damaged, or not a Keras checkpoint ({shortened(error)})"
        ) from None
    for layer in entries:
        name, module = str(layer.get("class_name")), str(layer.get("module") or "keras")
        if name in CODE_LAYERS or module.split(".")[0] not in ("keras", "builtins"):
            raise CheckpointError(
                f"{path}: layer {name[:100]} of {module[:100]} brings code of its own, which is "
                "not run; replace it by Keras' own layers, or, if you made the file yourself, "
                "compile it once with `python -m Modelling.quantise --allow-code`"
            )


def _read_config(path: Path) -> Any:
    # The suffix decides, as in Keras: a file may be an archive and HDF5 at the same time.
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            config = file.read(MAX_CONFIG_BYTES + 1)
    else:
        import h5py

        with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
            if "model_config" not in file.attrs:
                raise ValueError("it holds weights only; save the whole model with model.save()")
            config = file.attrs["model_config"]
    if not isinstance(config, (str, bytes)):
        raise TypeError(f"its model_config is {type(config).__name__}, not a text")
    if len(config) > MAX_CONFIG_BYTES:
        raise ValueError(f"its configuration has more than {MAX_CONFIG_BYTES >> 20} MB")
    return json.loads(config)


def _class_entries(config: Any) -> list[dict[str, Any]]:
    """Find all dictionaries with a `class_name`, at any depth."""
    found: list[dict[str, Any]] = []
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                found.append(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return found
