"""The ways to run a network: LiteRT on compiled forms of it, or TensorFlow on the Keras model.

LiteRT (int8, else float32) is what a CPU is fastest with, see `docs/modelling.md` for the
measurements, and it starts in 0.1 s. TensorFlow runs everything: checkpoints without compiled
forms, and GPUs. `open_engine` chooses.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from Modelling.checkpoint import Checkpoint, EngineFile, sha256_of
from Modelling.errors import CheckpointError
from Modelling.tensorflow_runtime import gpu_device_present, import_tensorflow, quiet

Pixels = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]

LITERT_CHUNK = 64
"""Images per call of LiteRT. Above 64 its activations fall out of the second-level cache."""

TENSORFLOW_CHUNK = 1024
"""Images per call of TensorFlow, which bounds its memory."""

PREFERENCE = ("int8", "float32")
"""Compiled forms, the fastest first."""

CODE_LAYERS = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__"}
)
"""Layers that carry code (or graphs that may read and write files) inside the checkpoint."""


class Engine(Protocol):
    """Runs a network. One thread at a time calls `run`."""

    name: str
    input_shape: tuple[int, int, int]
    classes: int

    def run(self, images: Pixels) -> Probabilities:
        """Map (N, H, W, C) float32 in [0, 1] to (N, classes) float32, rows summing to 1."""
        ...


class LiteRTEngine:
    """A compiled network on LiteRT's CPU kernels (XNNPACK).

    A new batch size costs 50 µs, once: LiteRT plans memory again but compiles nothing. Python's
    global lock is released while the network runs.
    """

    _announced = False

    def __init__(self, compiled: bytes, name: str, threads: int | None = None) -> None:
        """Load a `.tflite` file's bytes.

        Args:
            compiled: The file's content.
            name: `int8` or `float32`.
            threads: CPU threads; all cores if None.

        Raises:
            CheckpointError: The bytes are no network with one image input and one vector output.
        """
        from ai_edge_litert.interpreter import Interpreter

        self.name = name
        try:
            # It announces its CPU delegate on stderr, once in a process.
            with contextlib.nullcontext() if LiteRTEngine._announced else quiet():
                self._interpreter = Interpreter(
                    model_content=compiled, num_threads=threads or available_cores()
                )
                self._interpreter.allocate_tensors()
            LiteRTEngine._announced = True
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the {name} form of the checkpoint is damaged: {error}"
            ) from None
        [image] = self._interpreter.get_input_details()
        [probabilities] = self._interpreter.get_output_details()
        self._input, self._output = int(image["index"]), int(probabilities["index"])
        height, width, channels = (int(size) for size in image["shape"][1:])
        self.input_shape = height, width, channels
        self.classes = int(probabilities["shape"][-1])
        self._batch = 1

    def run(self, images: Pixels) -> Probabilities:
        """Run the network in chunks; see `Engine.run`."""
        probabilities = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), LITERT_CHUNK):
            chunk = images[start : start + LITERT_CHUNK]
            if len(chunk) != self._batch:
                self._interpreter.resize_tensor_input(self._input, (len(chunk), *self.input_shape))
                self._interpreter.allocate_tensors()
                self._batch = len(chunk)
            self._interpreter.set_tensor(self._input, chunk)
            self._interpreter.invoke()
            probabilities[start : start + len(chunk)] = self._interpreter.get_tensor(self._output)
        return probabilities


class TensorFlowEngine:
    """A Keras model as one TensorFlow graph, traced once for all batch sizes."""

    name = "tensorflow"

    def __init__(self, model: Any, threads: int | None = None) -> None:
        """Trace the graph.

        Args:
            model: A loaded Keras model; see `load_keras_model`.
            threads: CPU threads; all cores if None. TensorFlow takes this once in a process.

        Raises:
            CheckpointError: The outputs are neither probabilities nor logits of classes.
        """
        tf = import_tensorflow()
        if threads:
            _limit_threads(tf, threads)
        self._tf = tf
        height, width, channels = model.input_shape[1:]
        self.input_shape = height, width, channels
        self.classes = int(model.output_shape[-1])
        self._function = concrete_function(model)

    def run(self, images: Pixels) -> Probabilities:
        """Run the network in chunks; see `Engine.run`."""
        probabilities = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), TENSORFLOW_CHUNK):
            chunk = images[start : start + TENSORFLOW_CHUNK]
            probabilities[start : start + len(chunk)] = self._function(self._tf.constant(chunk))
        return probabilities


def concrete_function(model: Any) -> Any:
    """Trace a Keras model from (N, H, W, C) float32 to probabilities, for any N.

    Raises:
        CheckpointError: The outputs are neither probabilities nor logits of classes.
    """
    tf = import_tensorflow()
    logits = _outputs_logits(np.asarray(model(_probe(model.input_shape[1:]), training=False)))

    def probabilities(image: Any) -> Any:
        outputs = model(image, training=False)
        return tf.nn.softmax(outputs) if logits else outputs

    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")
    return tf.function(probabilities).get_concrete_function(signature)


def open_engine(
    checkpoint: Checkpoint,
    *,
    engine: str | None = None,
    threads: int | None = None,
    allow_code: bool = False,
) -> Engine:
    """Choose and load the engine for a checkpoint.

    A GPU that TensorFlow sees wins; then int8; then float32; then TensorFlow on the CPU. A
    compiled form counts only if its SHA-256 is the one in the side file.

    Args:
        checkpoint: See `open_checkpoint`.
        engine: `int8`, `float32` or `tensorflow` to have that and no other.
        threads: CPU threads; all cores if None.
        allow_code: Load Keras models with layers that carry code; only for files you made.

    Raises:
        CheckpointError: The model cannot be loaded, or has no such form.
    """
    if (
        engine is None
        and gpu_device_present()
        and import_tensorflow().config.list_physical_devices("GPU")
    ):
        engine = "tensorflow"
    if engine != "tensorflow":
        for name in PREFERENCE if engine is None else (engine,):
            compiled = _compiled_form(checkpoint, name)
            if compiled is not None:
                return LiteRTEngine(compiled, name, threads)
        if engine is not None:
            raise CheckpointError(
                f"{checkpoint.path} has no {engine} form that matches its side file; "
                "make one with `python -m Modelling.quantise`"
            )
    return TensorFlowEngine(load_keras_model(checkpoint.path, allow_code=allow_code), threads)


def _compiled_form(checkpoint: Checkpoint, name: str) -> bytes | None:
    """The bytes of a compiled form; None if there is none, or not the one the side file means."""
    entry: EngineFile | None = checkpoint.side.engines.get(name) if checkpoint.side else None
    if entry is None:
        return None
    # The name comes from a file that anybody may have written: never leave the folder.
    path = checkpoint.path.parent / Path(entry.file).name
    try:
        if sha256_of(path) != entry.sha256:
            return None
        return path.read_bytes()
    except OSError:
        return None


def available_cores() -> int:
    """Cores that this process may use; in a container that is often less than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CheckpointError(f"{path}: Keras cannot load it: {reason[:300]}") from None
    _require_image_classifier(path, model)
    return model


def _require_image_classifier(path: Path, model: Any) -> None:
    shape, outputs = model.input_shape, model.output_shape
    single = isinstance(shape, tuple) and isinstance(outputs, tuple)
    if not single or len(shape) != 4 or len(outputs) != 2 or None in (*shape[1:], outputs[1]):
        raise CheckpointError(
            f"{path}: not an image classifier: it maps {shape} to {outputs}, needed is "
            "(N, height, width, channels) of fixed size to (N, classes)"
        )
    if shape[3] not in (1, 3, 4) or outputs[1] < 2:
        raise CheckpointError(
            f"{path}: takes {shape[3]} channels and has {outputs[1]} outputs; known are 1 (grey), "
            "3 (RGB) and 4 (RGBA) channels, and at least 2 outputs"
        )


def _refuse_code(path: Path) -> None:
    """Look for layers with code in the model's configuration before Keras sees it."""
    try:
        config = _read_config(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: damaged, or not a Keras checkpoint ({error})") from None
    for layer in _class_entries(config):
        name, module = str(layer.get("class_name")), str(layer.get("module") or "keras")
        if name in CODE_LAYERS or module.split(".")[0] not in ("keras", "builtins"):
            raise CheckpointError(
                f"{path}: layer {name} of {module} brings code of its own, which is not run; "
                "replace it by Keras' own layers, or allow code if you trust the file's maker"
            )


def _read_config(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    import h5py

    with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
        if "model_config" not in file.attrs:
            raise ValueError("it holds weights only; save the whole model with model.save()")
        return json.loads(file.attrs["model_config"])


def _class_entries(config: Any) -> list[dict[str, Any]]:
    """All dictionaries with a `class_name`, at any depth."""
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


def _limit_threads(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        # TensorFlow has started already in this process, with the threads it was given then.
        return


def _probe(input_shape: tuple[int, int, int]) -> Pixels:
    """Noise, on which logits are sure to leave [0, 1]."""
    return np.random.default_rng(0).random((8, *input_shape), np.float32)


def _outputs_logits(outputs: Probabilities) -> bool:
    """Tell logits from probabilities by their values.

    Raises:
        CheckpointError: They are neither.
    """
    if not np.isfinite(outputs).all():
        raise CheckpointError("the model answers NaN or infinity; it was damaged or diverged")
    inside = bool((outputs >= -1e-6).all() and (outputs <= 1 + 1e-6).all())
    if inside and np.abs(outputs.sum(1) - 1).max() < 1e-3:
        return False
    if inside:
        raise CheckpointError(
            "the model's outputs are neither probabilities that sum to 1 nor logits; "
            "end it with a softmax over the classes"
        )
    return True
