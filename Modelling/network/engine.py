"""The ways to run a network: LiteRT on compiled forms of it, or TensorFlow on the Keras model.

LiteRT (int8, else float32) is what a CPU is fastest with, see `docs/modelling.md` for the
measurements, and it starts in 0.1 s. TensorFlow runs everything: checkpoints without compiled
forms, and GPUs. `open_engine` chooses.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from Modelling.cores import MAX_THREADS
from Modelling.errors import CheckpointError
from Modelling.images.plain_arrays import Batch
from Modelling.network.checkpoint import Checkpoint, EngineFile
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES, require_size
from Modelling.network.file_kinds import misnamed
from Modelling.network.input_range import UNIT, InputRange
from Modelling.network.keras_loading import cause_of
from Modelling.network.keras_models import KerasClassifier, load_keras_model
from Modelling.network.litert import LiteRTEngine, open_quickest
from Modelling.network.onnx import open_onnx
from Modelling.network.range_probe import FoundRange
from Modelling.network.saved_model import open_saved_model
from Modelling.network.tensorflow import (
    gpu_device_present,
    import_tensorflow,
    limit_tensorflow_threads,
)
from Modelling.network.tflite import open_tflite

logger = logging.getLogger(__name__)

__all__ = ["Engine", "LiteRTEngine", "TensorFlowEngine", "load_keras_model", "open_engine"]

Probabilities = npt.NDArray[np.float32]

# Images per call of TensorFlow, which bounds its memory.
TENSORFLOW_CHUNK = 1024

# Compiled forms, the fastest first.
PREFERENCE = ("int8", "float32")


class Engine(Protocol):
    """Runs a network. One thread at a time calls `run`.

    Attributes:
        name: As `Classifier.engine`.
        input_shape: Height, width and channels.
        classes: How many it tells apart.
        channels_first: Whether it takes images faster that lie channel by channel in memory.
        in_pieces: Whether several threads of it run pieces of a batch, each for itself.
        range_found: Which range of pixels was chosen, where nobody said it.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    channels_first: bool
    in_pieces: bool
    range_found: FoundRange | None

    def run(self, images: Batch) -> Probabilities:
        """Map (N, H, W, C) float32 in [0, 1] to (N, classes) float32, rows summing to 1.

        However the images lie in memory.
        """
        ...


class TensorFlowEngine:
    """A Keras model as one TensorFlow graph, traced once for all batch sizes."""

    name = "tensorflow"
    channels_first = False
    in_pieces = False

    def __init__(self, model: Any, input_range: InputRange | None = None) -> None:
        """Trace the graph.

        Args:
            model: A loaded Keras model; see `load_keras_model`.
            input_range: Of the pixels that the model wants; what it shows if None.

        Raises:
            CheckpointError: The outputs are neither probabilities nor logits of classes.
        """
        self._tf = import_tensorflow()
        classifier = KerasClassifier(model, input_range)
        self.input_shape = classifier.input_shape
        self.classes = classifier.classes
        self._range = classifier.input_range
        self.range_found: FoundRange | None = classifier.range_found
        self._function = classifier.concrete_function()

    def run(self, images: Batch) -> Probabilities:
        """Run the network in chunks; see `Engine.run`."""
        probabilities = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), TENSORFLOW_CHUNK):
            chunk = self._range.apply(images[start : start + TENSORFLOW_CHUNK])
            probabilities[start : start + len(chunk)] = self._function(self._tf.constant(chunk))
        return probabilities


def open_engine(
    checkpoint: Checkpoint,
    *,
    engine: str | None = None,
    threads: int | None = None,
    allow_code: bool = False,
    input_range: InputRange | None = None,
    max_bytes: int = DEFAULT_MAX_MODEL_BYTES,
) -> Engine:
    """Choose and load the engine for a checkpoint.

    A GPU that TensorFlow sees wins; then int8; then float32; then TensorFlow on the CPU. A
    compiled form counts only if its SHA-256 is the one in the side file.

    Args:
        checkpoint: See `open_checkpoint`.
        engine: `int8`, `float32` or `tensorflow` to have that and no other.
        threads: CPU threads, 1 to 1,024; all cores if None.
        allow_code: Load Keras models with layers that carry code; only for files you made.
        input_range: Of the pixels that the model wants; what the side file says, else what the
            model shows, if None.
        max_bytes: That the model may take; see `declared_size`.

    Raises:
        CheckpointError: The model cannot be loaded, or has no such form.
        ValueError: So many threads cannot be had.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads must be from 1 to {MAX_THREADS}, not {threads}")
    if (
        engine is None
        and gpu_device_present()
        and import_tensorflow().config.list_physical_devices("GPU")
    ):
        engine = "tensorflow"
    try:
        served = _open(checkpoint, engine, threads, allow_code, input_range, max_bytes)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{misnamed(checkpoint.weights)}") from None
    if served.range_found is not None:
        tell_range(checkpoint.path, served.range_found)
    return served


def _open(
    checkpoint: Checkpoint,
    engine: str | None,
    threads: int | None,
    allow_code: bool,
    input_range: InputRange | None,
    max_bytes: int,
) -> Engine:
    """Open a file of another framework as it is, one of Keras in its fastest form."""
    opener = _foreign_opener(checkpoint.weights)
    if opener is not None:
        return opener(checkpoint, threads, input_range, max_bytes)
    input_range = input_range or _range_by_side_file(checkpoint)
    return _open_keras(checkpoint, engine, threads, allow_code, input_range, max_bytes)


def _open_keras(
    checkpoint: Checkpoint,
    engine: str | None,
    threads: int | None,
    allow_code: bool,
    input_range: InputRange | None,
    max_bytes: int,
) -> Engine:
    """Open the fastest compiled form of a Keras file, else the file itself."""
    if engine != "tensorflow":
        compiled = _open_compiled(checkpoint, engine, threads, input_range, max_bytes)
        if compiled is not None:
            return compiled
    if threads:
        limit_tensorflow_threads(threads)  # before the model's first tensor
    model = load_keras_model(checkpoint.weights, allow_code=allow_code, max_bytes=max_bytes)
    try:
        served = TensorFlowEngine(model, input_range)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever a foreign model makes TensorFlow raise
        raise CheckpointError(f"{checkpoint.path}: it cannot be run: {cause_of(error)}") from None
    return served


def _foreign_opener(path: Path) -> Callable[..., Engine] | None:
    """Return what opens a file of another framework; None where it is of this one's own."""
    if path.is_dir():
        return open_saved_model
    return {".onnx": open_onnx, ".tflite": open_tflite}.get(path.suffix.lower())


def _open_compiled(
    checkpoint: Checkpoint,
    engine: str | None,
    threads: int | None,
    input_range: InputRange | None,
    max_bytes: int,
) -> LiteRTEngine | None:
    """Open the fastest compiled form, or the one that is asked for."""
    for name in PREFERENCE if engine is None else (engine,):
        compiled = _compiled_form(checkpoint, name, max_bytes)
        if compiled is not None:
            return open_quickest(compiled, name, threads, input_range, max_bytes)
    if engine is not None:
        raise CheckpointError(
            f"{checkpoint.path} has no {engine} form that matches its side file; "
            "make one with `python -m Modelling.quantise`"
        )
    return None


def _range_by_side_file(checkpoint: Checkpoint) -> InputRange | None:
    side = checkpoint.side
    if side and side.layout == "NCHW":
        raise CheckpointError(
            f"{checkpoint.path}: its side file says layout NCHW; this engine's models take NHWC"
        )
    if side and side.pixel_range is None and side.training:
        return UNIT  # `train_cnn` made it
    return side.pixel_range if side else None


def tell_range(path: Path, found: FoundRange) -> None:
    """Log which range of pixels was chosen and why; as a warning where it was guessed."""
    if found.known:
        logger.info("%s is given pixels in %s: %s", path.name, found.input_range, found.why)
    else:
        logger.warning(
            "%s is given pixels in %s, which is a guess: %s; if its answers are wrong, write "
            '"input_range": [0, 255] into its side file, or give --input-range 0,255',
            path.name,
            found.input_range,
            found.why,
        )


def _compiled_form(checkpoint: Checkpoint, name: str, max_bytes: int) -> bytes | None:
    """Read a compiled form; None if there is none, or not the one that the side file means."""
    entry: EngineFile | None = checkpoint.side.engines.get(name) if checkpoint.side else None
    if entry is None:
        return None
    # The name comes from a file that anybody may have written: never leave the folder.
    path = checkpoint.path.parent / Path(entry.file).name
    try:
        require_size(path, path.stat().st_size, max_bytes)
        compiled = path.read_bytes()
    except OSError:
        return None
    # Of the very bytes that will run: the file may be replaced at any moment.
    return compiled if hashlib.sha256(compiled).hexdigest() == entry.sha256 else None
