"""LiteRT: compiled networks (`.tflite`) on its CPU kernels."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.cores import available_cores
from Modelling.errors import CheckpointError, shortened
from Modelling.images.pixels import Pixels
from Modelling.images.plain_arrays import Batch
from Modelling.network.declared_size import (
    DEFAULT_MAX_MODEL_BYTES,
    require_tensor_sizes,
    tensor_bytes,
)
from Modelling.network.input_range import UNIT, InputRange
from Modelling.network.outputs import OutputKind, classes_of, kind_of, noise, to_probabilities
from Modelling.network.quickest_form import MOST_BYTES, quickest_form
from Modelling.network.range_probe import UNSAID, FoundRange
from Modelling.network.tensorflow import quiet

# What it says of operations that it does not have: those of TensorFlow, which a converter leaves in
# a file if it may, and those that only its maker has.
OF_TENSORFLOW = "Select TensorFlow op"
NAMES_OF_TENSORFLOW = re.compile(r"\((Flex\w+)\)")
OF_ITS_MAKER = "unresolved custom op"
WITH_ITS_OWN = (
    "convert it with LiteRT's own alone (TFLITE_BUILTINS), or serve the SavedModel that it is of"
)

# Images per call of LiteRT: at most so many, and so few that the largest layer's activations stay
# in the second-level cache, or one that does not fit. MobileNetV2 (4.8 MB at 224 x 224) takes a
# fifth less time for one image than for each of sixteen.
LITERT_CHUNK = 64
CACHE_BYTES = 2 << 20

# Whether it was announced: LiteRT names its CPU delegate on stderr, once in a process.
_announced = threading.Event()


def interpreter_of(compiled: bytes, what: str, threads: int | None, max_bytes: int) -> Any:
    """Load a compiled network and reserve its memory.

    Args:
        compiled: The content of a `.tflite` file.
        what: It is, in an error.
        threads: CPU threads; all cores if None.
        max_bytes: That one of its tensors may take.

    Raises:
        CheckpointError: It is damaged, too large, or needs what LiteRT does not have.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with contextlib.nullcontext() if _announced.is_set() else quiet():
            interpreter = Interpreter(
                model_content=compiled, num_threads=threads or available_cores()
            )
            sizes = (
                tensor_bytes(each["shape"], each["dtype"])
                for each in interpreter.get_tensor_details()
            )
            require_tensor_sizes(what, sizes, max_bytes)
            interpreter.allocate_tensors()
        _announced.set()
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{what}: LiteRT refuses it: {_reason(error)}") from None
    return interpreter


def _reason(error: Exception) -> str:
    """Say what the runtime refuses; of operations that it does not have, what can be done."""
    text = str(error)
    if OF_TENSORFLOW in text:
        names = ", ".join(dict.fromkeys(NAMES_OF_TENSORFLOW.findall(text)))
        return f"it needs operations of TensorFlow itself ({names or 'Flex'}): {WITH_ITS_OWN}"
    if OF_ITS_MAKER in text:
        return f"{shortened(text).removesuffix('.')}: {WITH_ITS_OWN}"
    return shortened(error)


class LiteRTEngine:
    """A compiled network on LiteRT's CPU kernels (XNNPACK).

    A new batch size costs 50 µs, once: LiteRT plans memory again but compiles nothing. Python's
    global lock is released while the network runs.
    """

    channels_first = False
    in_pieces = False

    def __init__(
        self,
        compiled: bytes,
        name: str,
        threads: int | None = None,
        input_range: InputRange | None = None,
        max_bytes: int = DEFAULT_MAX_MODEL_BYTES,
    ) -> None:
        """Load a `.tflite` file's bytes.

        Args:
            compiled: The file's content.
            name: `int8` or `float32`.
            threads: CPU threads; all cores if None.
            input_range: Of the pixels that the network wants; [0, 1] if None.
            max_bytes: That one of its tensors may take.

        Raises:
            CheckpointError: The bytes are no network with one image input and one vector output,
                or it is too large.
        """
        self.name = name
        self._range = input_range or UNIT
        self.range_found = None if input_range else FoundRange(UNIT, UNSAID, known=False)
        self._interpreter = interpreter_of(
            compiled, f"the {name} form of the checkpoint", threads, max_bytes
        )
        image, outputs = _image_and_outputs(self._interpreter, name)
        self._input, self._output = int(image["index"]), int(outputs["index"])
        height, width, channels = (int(size) for size in image["shape"][1:])
        self.input_shape = height, width, channels
        self.classes = classes_of(int(outputs["shape"][-1]))
        self._chunk = images_a_call(self._interpreter)
        self._batch = 1
        self._kind = OutputKind.PROBABILITIES
        self._kind = self._kind_of_outputs()

    def run(self, images: Batch) -> npt.NDArray[np.float32]:
        """Run the network in chunks; see `Engine.run`."""
        probabilities = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), self._chunk):
            outputs = self._outputs(self._range.apply(images[start : start + self._chunk]))
            probabilities[start : start + len(outputs)] = to_probabilities(outputs, self._kind)
        return probabilities

    def _outputs(self, chunk: Pixels) -> npt.NDArray[np.float32]:
        if len(chunk) != self._batch:
            self._interpreter.resize_tensor_input(self._input, (len(chunk), *self.input_shape))
            self._interpreter.allocate_tensors()
            self._batch = len(chunk)
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(chunk))
        self._interpreter.invoke()
        outputs: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return outputs

    def _kind_of_outputs(self) -> OutputKind:
        """Forms that `quantise` made answer probabilities; others are looked at."""
        try:
            return kind_of(self._outputs(self._range.apply(noise(self.input_shape))))
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the {self.name} form of the checkpoint takes no batches: {shortened(error)}"
            ) from None


def images_a_call(interpreter: Any) -> int:
    """Choose how many images are run at once; see `CACHE_BYTES`."""
    largest = max(
        (
            tensor_bytes(each["shape"], each["dtype"])
            for each in interpreter.get_tensor_details()
            if len(each["shape"]) == 4 and each["shape"][0] == 1  # an image's, and no weights
        ),
        default=CACHE_BYTES,
    )
    return max(1, min(LITERT_CHUNK, CACHE_BYTES // max(1, largest)))


def _image_and_outputs(interpreter: Any, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the only input and the only output of a compiled network.

    Raises:
        CheckpointError: There are others, or they are no images and no vectors of float32.
    """
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    found = [
        [f"{np.dtype(each['dtype']).name} {tuple(map(int, each['shape']))}" for each in tensors]
        for tensors in (inputs, outputs)
    ]
    fit = (
        (len(inputs), len(outputs)) == (1, 1)
        and (len(inputs[0]["shape"]), len(outputs[0]["shape"])) == (4, 2)
        and inputs[0]["dtype"] is outputs[0]["dtype"] is np.float32
    )
    if not fit:
        raise CheckpointError(
            f"the {name} form of the checkpoint maps {', '.join(found[0])[:80]} to "
            f"{', '.join(found[1])[:80]}; needed is float32 (N, height, width, channels) to "
            "float32 (N, classes)"
        )
    return inputs[0], outputs[0]


def open_quickest(
    compiled: bytes,
    name: str,
    threads: int | None,
    input_range: InputRange | None,
    max_bytes: int,
) -> LiteRTEngine:
    """Open a compiled network, packed as this CPU likes it; see `packing`."""
    opened = functools.partial(
        LiteRTEngine, name=name, threads=threads, input_range=input_range, max_bytes=max_bytes
    )
    try:
        engine = opened(compiled)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the {name} form of the checkpoint cannot be run: {shortened(error)}"
        ) from None
    if len(compiled) > MOST_BYTES:  # nor is it kept in memory
        return engine
    form = _quickest_here(compiled, name, max_bytes)
    return engine if form == compiled else opened(form)


@functools.lru_cache(maxsize=2)  # what is served, and a canary or a shadow
def _quickest_here(compiled: bytes, name: str, max_bytes: int) -> bytes:
    """Try the forms once in a process, whose CPU stays what it is, however often one is opened."""
    return quickest_form(
        compiled, functools.partial(LiteRTEngine, name=name, threads=1, max_bytes=max_bytes)
    )
