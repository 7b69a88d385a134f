"""`.tflite` files of whatever origin, run by LiteRT.

Those that look like the forms which `quantise` makes run as these do. Others are taken as files of
other frameworks are: with several outputs, channels first, a batch of one that cannot be changed;
and with inputs and outputs in 8 bits, as devices without floating point want them.

Source: https://ai.google.dev/edge/litert/models/quantization_spec
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import CheckpointError, shortened
from Modelling.network.checkpoint import Checkpoint
from Modelling.network.declared_size import require_size
from Modelling.network.foreign import ForeignEngine, told_range
from Modelling.network.input_range import InputRange, range_of_pairs
from Modelling.network.layout import CHANNELS
from Modelling.network.litert import LiteRTEngine, images_a_call, interpreter_of, open_quickest
from Modelling.network.tensors import Tensor, chosen_output, chosen_signature, only_input
from Modelling.network.tflite_graph import TfliteGraph

Array = npt.NDArray[Any]

# Numbers that stand for others: these, less the zero point, times the scale.
EIGHT_BITS = (np.uint8, np.int8)

# The scale of probabilities in 8 bits, as the specification fixes it: 255 stands for 0.996.
SCALE_OF_PROBABILITIES = 1 / 256


def open_tflite(
    checkpoint: Checkpoint, threads: int | None, input_range: InputRange | None, max_bytes: int
) -> ForeignEngine | LiteRTEngine:
    """Load a `.tflite` file.

    Args:
        checkpoint: See `open_checkpoint`.
        threads: CPU threads; all cores if None.
        input_range: Of the pixels that it wants; what the side file says if None, else what its
            scale says, if it takes 8 bits.
        max_bytes: That it may take.

    Raises:
        CheckpointError: It is damaged, too large, or no image classifier.
    """
    path = checkpoint.weights
    compiled = _read(checkpoint, max_bytes)
    _require_whole(path, compiled)
    interpreter = interpreter_of(compiled, str(path), threads, max_bytes)
    told = input_range or told_range(checkpoint)
    try:
        network = _network_of(interpreter, checkpoint)
        image = only_input([_tensor(each) for each in network.inputs])
        output = chosen_output([_tensor(each) for each in network.outputs], checkpoint.side)
        network.choose(output.name)
        batches = network.takes_batches()
        plain = network.is_plain and len(output.shape) == 2
        if batches and plain and _is_picture(image, checkpoint):
            return open_quickest(compiled, "tflite", threads, told, max_bytes)
        shape = (None if batches else network.batch, *image.shape[1:])
        return ForeignEngine(
            "tflite",
            Tensor(image.name, shape, image.dtype),
            output,
            network.run,
            checkpoint.side,
            told or network.range_of_bytes(),
            images_a_call(network.interpreter),
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: it cannot be run: {shortened(error)}") from None


def _read(checkpoint: Checkpoint, max_bytes: int) -> bytes:
    path = checkpoint.weights
    try:
        require_size(path, path.stat().st_size, max_bytes)
        compiled = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(compiled).hexdigest() != checkpoint.sha256:
        raise CheckpointError(f"{path}: it changed while it was read: copy it again")
    return compiled


def _require_whole(path: Path, compiled: bytes) -> None:
    """Read it in Python first: of a table that lacks LiteRT ends the whole process."""
    try:
        TfliteGraph(compiled)
    except Exception as error:  # noqa: BLE001 - of a damaged file anything
        why = shortened(error)
        raise CheckpointError(f"{path}: damaged, or not LiteRT's ({why}): copy it again") from None


def _tensor(described: dict[str, Any]) -> Tensor:
    """Describe what goes in or out; 8 bits with a scale count as the floats they stand for."""
    known = described.get("shape_signature", described["shape"])
    sizes = tuple(int(size) if size > 0 else None for size in known)
    dtype = described["dtype"]
    scaled = dtype in EIGHT_BITS and described["quantization"][0]
    return Tensor(str(described["name"]), sizes, np.float32 if scaled else dtype)


def _is_picture(image: Tensor, checkpoint: Checkpoint) -> bool:
    first = checkpoint.side is not None and checkpoint.side.layout == "NCHW"
    return (
        len(image.shape) == 4 and all(image.shape[1:]) and image.shape[3] in CHANNELS and not first
    )


def _network_of(interpreter: Any, checkpoint: Checkpoint) -> _Network:
    """Return the file's network; of several signatures the one that is meant."""
    signatures = list(interpreter.get_signature_list())
    asked = checkpoint.side is not None and checkpoint.side.signature is not None
    if len(signatures) < 2 and not asked:
        return _Network(interpreter)
    name = chosen_signature(signatures, checkpoint.side)
    return _Signature(interpreter, name) if len(signatures) > 1 else _Network(interpreter)


class _Network:
    """A loaded network: real numbers in, real numbers out."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.inputs: list[dict[str, Any]] = interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = interpreter.get_output_details()
        self._shape = tuple(map(int, self.inputs[0]["shape"])) if self.inputs else ()
        self.batch = self._shape[0] if self._shape else 1
        self._output: dict[str, Any] = {}

    def choose(self, name: str) -> None:
        """Answer with the output of this name."""
        self._output = next(each for each in self.outputs if each["name"] == name)

    @property
    def is_plain(self) -> bool:
        """Whether it takes and gives floats, and nothing else."""
        tensors = (*self.inputs, *self.outputs)
        return len(tensors) == 2 and all(each["dtype"] is np.float32 for each in tensors)

    def takes_batches(self) -> bool:
        """Tell whether it can be run on another number of pictures than it was made for."""
        before, other = self._shape, (self.batch + 1, *self._shape[1:])
        try:
            return len(self.run(np.zeros(other, np.float32))) == self.batch + 1
        except (ValueError, RuntimeError):
            return False
        finally:
            self._resize(before)

    def run(self, batch: Array) -> Array:
        """Run it on a batch; its memory is planned anew where that has another shape."""
        if batch.shape != self._shape:
            self._resize(batch.shape)
        self.interpreter.set_tensor(self.inputs[0]["index"], _in_bits(batch, self.inputs[0]))
        self.interpreter.invoke()
        return _from_bits(self.interpreter.get_tensor(self._output["index"]), self._output)

    def _resize(self, shape: tuple[int, ...]) -> None:
        self.interpreter.resize_tensor_input(self.inputs[0]["index"], shape)
        self.interpreter.allocate_tensors()
        self._shape = shape

    def range_of_bytes(self) -> InputRange | None:
        """Tell what the smallest and the largest byte stand for; None where there are no bytes."""
        dtype, (scale, zero) = self.inputs[0]["dtype"], self.inputs[0]["quantization"]
        if dtype not in EIGHT_BITS or not scale:
            return None
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
        return range_of_pairs([(scale * (lowest - zero), scale * (highest - zero))])


class _Signature(_Network):
    """One of several networks in a file; the runtime plans its memory by itself."""

    is_plain = False

    def __init__(self, interpreter: Any, name: str) -> None:
        super().__init__(interpreter)
        self._runner = interpreter.get_signature_runner(name)
        self.inputs = _named(self._runner.get_input_details())
        self.outputs = _named(self._runner.get_output_details())
        self._shape = tuple(map(int, self.inputs[0]["shape"])) if self.inputs else ()
        self.batch = self._shape[0] if self._shape else 1

    def run(self, batch: Array) -> Array:
        """Run it on a batch."""
        answers = self._runner(**{self.inputs[0]["name"]: _in_bits(batch, self.inputs[0])})
        return _from_bits(answers[self._output["name"]], self._output)

    def _resize(self, shape: tuple[int, ...]) -> None:
        """Leave it to the next run."""


def _named(described: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Call tensors as the signature does, and not as the converter did."""
    return [{**each, "name": name} for name, each in described.items()]


def _in_bits(batch: Array, described: dict[str, Any]) -> Array:
    dtype, (scale, zero) = described["dtype"], described["quantization"]
    if dtype not in EIGHT_BITS or not scale:
        return np.ascontiguousarray(batch, dtype)
    ends = np.iinfo(dtype)
    numbers = np.rint(batch / np.float32(scale)) + zero
    bits: Array = np.clip(numbers, ends.min, ends.max).astype(dtype)
    return bits


def _from_bits(outputs: Array, described: dict[str, Any]) -> Array:
    scale, zero = described["quantization"]
    if described["dtype"] not in EIGHT_BITS or not scale:
        return outputs
    numbers: Array = (outputs.astype(np.float32) - zero) * np.float32(scale)
    if scale == SCALE_OF_PROBABILITIES and zero == np.iinfo(outputs.dtype).min:
        # Each was rounded: together they miss 1. All may have become 0.
        sums = numbers.sum(-1, keepdims=True) if outputs.shape[-1] > 1 else np.float32(1)
        numbers = numbers / np.where(sums > 0, sums, np.float32(1))
    return numbers
