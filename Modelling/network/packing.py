"""Convolutions of a compiled network, packed: fewer and fuller steps for a CPU, the same answers.

A kernel for 8 bits goes through a filter place by place, and takes up to 64 bytes of each at once
(a register of AVX-512, a row of a tile of AMX). Where an image has one channel that is one byte,
so a filter of 5 x 5 takes 25 steps that are nearly empty. But rows lie one behind the other:
28 x 28 x 1 is as well 14 x 1 x 56, two rows in one place, without moving a byte. A convolution over
that, with zeros where a filter does not reach, gives the numbers of 14 x 14 x 32 as 14 x 1 x 448.
Integers add up exactly, so the answers are the same to the last bit.

It multiplies more, and pays or not as the CPU is made. So each packing is tried when a network is
opened: the shipped one takes 17 µs an image for 39 with AMX (`python -m benchmarks.engine`).

Source of the format: https://ai.google.dev/edge/litert, `schema.fbs`; `ai-edge-litert` brings what
reads and writes it.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

# What a kernel takes of one place at once (bytes): more channels than that need no packing.
PLACE_BYTES = 64
# A packed filter is mostly zeros: so many times more to multiply, and so many bytes, at most.
MOST_WORK = 8
MOST_FILTER_BYTES = 1 << 20
# A larger file is no small network, and would be copied for each packing.
MOST_BYTES = 16 << 20

# Images that each form is tried on, how often, and the CPU time that all of them may take (s): a
# start must not wait for what it is to gain.
TRIED_IMAGES = 64
TRIALS = 4
TRIAL_SECONDS = 0.2
# Of the time of the best one: what is hardly quicker is chance.
QUICKER = 0.95

_FILE_IDENTIFIER = b"TFL3"

Weights = npt.NDArray[np.int8]


class Runs(Protocol):
    """A form that can be run."""

    input_shape: tuple[int, int, int]

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Engine.run`."""
        ...


class Packing(NamedTuple):
    """How many columns of how many rows become the channels of one place.

    More than one row only where all columns are in one place.
    """

    columns: int
    rows: int = 1


def quickest_form(compiled: bytes, opened: Callable[[bytes], Runs]) -> bytes:
    """Return the form of a network that is quickest on this CPU; `compiled` itself if none is.

    Args:
        compiled: A `.tflite` file that can be opened.
        opened: Opens a form for one thread.
    """
    if len(compiled) > MOST_BYTES:
        return compiled
    try:
        return _quickest_form(compiled, opened)
    except Exception as error:  # noqa: BLE001 - whatever a foreign file holds: it is served as it is
        logger.debug("no form was packed: %s", error)
        return compiled


def _quickest_form(compiled: bytes, opened: Callable[[bytes], Runs]) -> bytes:
    model = _read(compiled)
    numbers = [each for each in range(len(_convolutions(model))) if _packings(model, each)]
    if not numbers:
        return compiled
    engine = opened(compiled)
    if TRIED_IMAGES * _cpu_seconds(engine, _images(1, engine)) * TRIALS > TRIAL_SECONDS:
        return compiled
    images = _images(TRIED_IMAGES, engine)  # now that they are known to be small
    answers = engine.run(images)
    best, least = compiled, _cpu_seconds(engine, images)
    spent = least * TRIALS
    for number in numbers:
        base = best
        for packing in packings_of(base, number):
            if spent > TRIAL_SECONDS:
                return best
            form = packed(base, number, packing)
            engine = opened(form)
            if not np.array_equal(engine.run(images), answers):
                continue
            seconds = _cpu_seconds(engine, images)
            spent += seconds * TRIALS
            if seconds < QUICKER * least:
                best, least = form, seconds
                logger.debug("convolution %d in %s: %.1f ms", number, packing, 1e3 * seconds)
    return best


def _images(count: int, engine: Runs) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((count, *engine.input_shape), np.float32)


def _cpu_seconds(engine: Runs, images: npt.NDArray[np.float32]) -> float:
    """Measure this thread's: what else the machine does meanwhile counts little."""
    least = float("inf")
    for _ in range(TRIALS):
        began = time.thread_time()
        engine.run(images)
        least = min(least, time.thread_time() - began)
    return least


class _Convolution:
    """One convolution of a model, in 8 bits, that may be packed."""

    def __init__(self, model: Any, at: int) -> None:
        """Take apart operator `at`.

        Raises:
            ValueError: It is of another kind.
        """
        graph, operator = model.subgraphs[0], model.subgraphs[0].operators[at]
        options = operator.builtinOptions
        self.at, self.options = at, options
        if len(operator.inputs) != 3 or min(operator.inputs) < 0:
            raise ValueError("it has no bias")
        self.image, self.filters, self.bias = (graph.tensors[each] for each in operator.inputs)
        self.outcome = graph.tensors[operator.outputs[0]]
        kinds = [each.type for each in (self.image, self.filters, self.bias, self.outcome)]
        if kinds != [_schema().TensorType.INT8] * 2 + [_schema().TensorType.INT32, kinds[0]]:
            raise ValueError("it is not of 8 bits")
        _, self.height, self.width, self.channels = map(int, self.image.shape)
        self.count, self.filter_height, self.filter_width, deep = map(int, self.filters.shape)
        if deep != self.channels:
            raise ValueError("its channels are in groups")
        self.down, self.across = options.strideH, options.strideW
        _, high, wide, _ = self.outcome.shape
        if (
            options.padding != _schema().Padding.SAME
            or (options.dilationHFactor, options.dilationWFactor) != (1, 1)
            or (high * self.down, wide * self.across) != (self.height, self.width)
        ):
            raise ValueError("its places do not divide evenly")
        self.weights: Weights = _numbers(model, self.filters, np.int8)
        self.biases: npt.NDArray[np.int32] = _numbers(model, self.bias, np.int32)

    @property
    def packings(self) -> list[Packing]:
        """All that fill a place better than before, no more than that, and cost no more either."""
        return [each for each in self._that_fit() if self._is_worth_a_trial(each)]

    def _that_fit(self) -> Iterator[Packing]:
        most = PLACE_BYTES // self.channels
        for columns in range(self.across, min(most, self.width) + 1, self.across):
            if columns > 1 and self.width % columns == 0:
                yield Packing(columns)
        for rows in range(self.down, min(most // self.width, self.height) + 1, self.down):
            if rows > 1 and self.height % rows == 0:
                yield Packing(self.width, rows)

    def axes(self, packing: Packing) -> tuple[_Axis, _Axis]:
        """Return the rows and the columns, packed."""
        high = _packed_axis(self.height, self.filter_height, self.down, packing.rows)
        return high, _packed_axis(self.width, self.filter_width, self.across, packing.columns)

    def _is_worth_a_trial(self, packing: Packing) -> bool:
        high, wide = self.axes(packing)
        work = high.places * wide.places * packing.rows * packing.columns * self.channels
        filters = high.outcomes * wide.outcomes * self.count
        return (
            work <= MOST_WORK * self.filter_height * self.filter_width * self.channels
            and filters * work <= MOST_FILTER_BYTES
        )

    def packed_filters(self, packing: Packing) -> Weights:
        """Return the filters over packed places: (filters, height, width, bytes of a place)."""
        high, wide = self.axes(packing)
        outcomes = high.outcomes, wide.outcomes, self.count
        place = packing.rows, packing.columns, self.channels
        filters = np.zeros((*outcomes, high.places, wide.places, *place), np.int8)
        for down, across in itertools.product(high.taps, wide.taps):
            filters[down.outcome, across.outcome, :, down.place, across.place, down.within,
                    across.within] = self.weights[:, down.tap, across.tap]  # fmt: skip
        return filters.reshape(math.prod(outcomes), high.places, wide.places, math.prod(place))


class _Tap(NamedTuple):
    """Where a row or column of the filter has gone: for which outcome of a place, and whereto."""

    tap: int
    outcome: int
    place: int
    within: int


class _Axis(NamedTuple):
    """The rows or the columns of a packed convolution.

    Attributes:
        outcomes: How many come of one place.
        places: The filter's size.
        stride: In places.
        taps: Of the filter as it was.
    """

    outcomes: int
    places: int
    stride: int
    taps: list[_Tap]


def _packed_axis(size: int, taps: int, stride: int, packed: int) -> _Axis:
    if packed == 1:
        return _Axis(1, taps, stride, [_Tap(tap, 0, tap, 0) for tap in range(taps)])
    outcomes = packed // stride
    before = max((size // stride - 1) * stride + taps - size, 0) // 2  # "SAME": the odd one behind
    first = -(-before // packed)
    last = max((outcomes - 1) * stride - before + taps - 1, 0) // packed
    if size == packed:  # beyond the only place there is nothing but padding
        first = last = 0
    first = max(first, last - 1)  # and so it must be with the places, too
    places = first + max(first, last) + 1
    found = []
    for outcome, tap in itertools.product(range(outcomes), range(taps)):
        place, within = divmod(outcome * stride - before + tap, packed)
        if 0 <= place + first < places:
            found.append(_Tap(tap, outcome, place + first, within))
    return _Axis(outcomes, places, 1, found)


def packings_of(compiled: bytes, number: int) -> list[Packing]:
    """List how convolution `number` of a network may be packed."""
    return _packings(_read(compiled), number)


def _packings(model: Any, number: int) -> list[Packing]:
    try:
        return _Convolution(model, _convolutions(model)[number]).packings
    except ValueError:
        return []


def packed(compiled: bytes, number: int, packing: Packing) -> bytes:
    """Return a network with its convolution `number` packed.

    Raises:
        ValueError: It cannot be packed in this way.
    """
    model = _read(compiled)
    found = _Convolution(model, _convolutions(model)[number])
    filters = found.packed_filters(packing)
    high, wide = found.axes(packing)
    places = found.height // packing.rows, found.width // packing.columns
    graph = model.subgraphs[0]
    operator = graph.operators[found.at]
    first, last = operator.inputs[0], operator.outputs[0]
    image = _add(model, found.image, (1, *places, filters.shape[-1]))
    outcome = _add(
        model, found.outcome, (1, places[0] // high.stride, places[1] // wide.stride, len(filters))
    )
    biases = np.tile(found.biases, len(filters) // found.count)
    operator.inputs = [
        image,
        _add(model, found.filters, filters.shape, filters),
        _add(model, found.bias, biases.shape, biases),
    ]
    operator.outputs = [outcome]
    found.options.strideH, found.options.strideW = high.stride, wide.stride
    graph.operators[found.at : found.at + 1] = [
        _reshape(model, first, image),
        operator,
        _reshape(model, outcome, last),
    ]
    return _written(model)


# ---------------------------------------------------------------------- the format


def _schema() -> Any:
    """Import what reads the format: only where a network is packed."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def _read(compiled: bytes) -> Any:
    schema = _schema()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(compiled, 0))


def _written(model: Any) -> bytes:
    builder = _schema().flatbuffers.Builder(MOST_FILTER_BYTES)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _operation(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))  # the second is a byte


def _convolutions(model: Any) -> list[int]:
    """List the places of the convolutions among the operators."""
    kind = _schema().BuiltinOperator.CONV_2D
    operators = model.subgraphs[0].operators
    return [at for at, each in enumerate(operators) if _operation(model, each) == kind]


def _numbers(model: Any, tensor: Any, dtype: type[np.generic]) -> npt.NDArray[Any]:
    data = model.buffers[tensor.buffer].data
    if data is None:
        raise ValueError("it is no constant")
    return np.frombuffer(bytes(data), dtype).reshape(tensor.shape)


def _add(
    model: Any, like: Any, shape: Sequence[int], numbers: npt.NDArray[Any] | None = None
) -> int:
    """Add a tensor like another one, but for its shape; return its number."""
    tensor = copy.deepcopy(like)
    tensor.name = f"{like.name} packed" if isinstance(like.name, str) else "packed"
    tensor.shape = [int(each) for each in shape]
    tensor.shapeSignature = None if numbers is not None else [-1, *tensor.shape[1:]]
    tensor.buffer = 0 if numbers is None else _add_buffer(model, numbers)
    scales = tensor.quantization.scale
    if len(scales) > 1:  # one for each filter
        times = len(numbers if numbers is not None else scales) // len(scales)
        tensor.quantization.scale = np.tile(scales, times)
        tensor.quantization.zeroPoint = np.tile(tensor.quantization.zeroPoint, times)
        tensor.quantization.min = tensor.quantization.max = None
    tensors = model.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def _add_buffer(model: Any, numbers: npt.NDArray[Any]) -> int:
    buffer = _schema().BufferT()
    buffer.data = np.frombuffer(numbers.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _reshape(model: Any, given: int, wanted: int) -> Any:
    """Make the operator that gives a tensor the shape of another; batches keep their size."""
    schema, tensors = _schema(), model.subgraphs[0].tensors
    shape = np.array([-1, *tensors[wanted].shape[1:]], np.int32)
    sizes = schema.TensorT()
    sizes.name, sizes.type, sizes.shape = "shape", schema.TensorType.INT32, [len(shape)]
    sizes.buffer = _add_buffer(model, shape)
    tensors.append(sizes)
    operator = schema.OperatorT()
    operator.opcodeIndex = _code_of_reshape(model)
    operator.inputs, operator.outputs = [given, len(tensors) - 1], [wanted]
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = shape.tolist()
    return operator


def _code_of_reshape(model: Any) -> int:
    schema = _schema()
    wanted = schema.BuiltinOperator.RESHAPE
    for number, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return number
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = wanted
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
