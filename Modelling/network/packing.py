"""Convolutions of a compiled network, packed: fewer and fuller steps for a CPU, the same answers.

A kernel for 8 bits goes through a filter place by place, and takes up to 64 bytes of each at once
(a register of AVX-512, a row of a tile of AMX). Where an image has one channel that is one byte,
so a filter of 5 x 5 takes 25 steps that are nearly empty. But rows lie one behind the other:
28 x 28 x 1 is as well 14 x 1 x 56, two rows in one place, without moving a byte. A convolution over
that, with zeros where a filter does not reach, gives the numbers of 14 x 14 x 32 as 14 x 1 x 448.
Integers add up exactly, so the answers are the same to the last bit.

Which packing pays is for `quickest_form` to find out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from Modelling.network.tflite_graph import TfliteGraph, schema

# What a kernel takes of one place at once (bytes): more channels than that need no packing.
PLACE_BYTES = 64
# A packed filter is mostly zeros: so many times more to multiply, and so many bytes, at most.
MOST_WORK = 8
MOST_FILTER_BYTES = 1 << 20

Weights = npt.NDArray[np.int8]


class Packing(NamedTuple):
    """How many columns of how many rows become the channels of one place.

    More than one row only where all columns are in one place.
    """

    columns: int
    rows: int = 1


class _Convolution:
    """One convolution of a model, in 8 bits, that may be packed."""

    def __init__(self, graph: TfliteGraph, at: int) -> None:
        """Take apart operator `at`.

        Raises:
            ValueError: It is of another kind.
        """
        operator = graph.operators[at]
        options = operator.builtinOptions
        self.at, self.options = at, options
        if len(operator.inputs) != 3 or min(operator.inputs) < 0:
            raise ValueError("it has no bias")
        self.image, self.filters, self.bias = (graph.tensors[each] for each in operator.inputs)
        self.outcome = graph.tensors[operator.outputs[0]]
        kinds = [each.type for each in (self.image, self.filters, self.bias, self.outcome)]
        if kinds != [schema().TensorType.INT8] * 2 + [schema().TensorType.INT32, kinds[0]]:
            raise ValueError("it is not of 8 bits")
        _, self.height, self.width, self.channels = map(int, self.image.shape)
        self.count, self.filter_height, self.filter_width, deep = map(int, self.filters.shape)
        if deep != self.channels:
            raise ValueError("its channels are in groups")
        self.down, self.across = options.strideH, options.strideW
        _, high, wide, _ = self.outcome.shape
        if (
            options.padding != schema().Padding.SAME
            or (options.dilationHFactor, options.dilationWFactor) != (1, 1)
            or (high * self.down, wide * self.across) != (self.height, self.width)
        ):
            raise ValueError("its places do not divide evenly")
        self.weights: Weights = graph.constant(self.filters, np.int8)
        self.biases: npt.NDArray[np.int32] = graph.constant(self.bias, np.int32)

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
    graph = TfliteGraph(compiled)
    return _packings(graph, graph.convolutions()[number])


def packable_convolutions(compiled: bytes) -> list[int]:
    """List the numbers of a network's convolutions that may be packed in some way."""
    graph = TfliteGraph(compiled)
    return [number for number, at in enumerate(graph.convolutions()) if _packings(graph, at)]


def _packings(graph: TfliteGraph, at: int) -> list[Packing]:
    try:
        return _Convolution(graph, at).packings
    except ValueError:
        return []


def packed(compiled: bytes, number: int, packing: Packing) -> bytes:
    """Return a network with its convolution `number` packed.

    Raises:
        ValueError: It cannot be packed in this way.
    """
    graph = TfliteGraph(compiled)
    found = _Convolution(graph, graph.convolutions()[number])
    filters = found.packed_filters(packing)
    high, wide = found.axes(packing)
    places = found.height // packing.rows, found.width // packing.columns
    operator = graph.operators[found.at]
    first, last = operator.inputs[0], operator.outputs[0]
    image = graph.add_tensor(found.image, (1, *places, filters.shape[-1]))
    outcome = graph.add_tensor(
        found.outcome, (1, places[0] // high.stride, places[1] // wide.stride, len(filters))
    )
    biases = np.tile(found.biases, len(filters) // found.count)
    operator.inputs = [
        image,
        graph.add_tensor(found.filters, filters.shape, filters),
        graph.add_tensor(found.bias, biases.shape, biases),
    ]
    operator.outputs = [outcome]
    found.options.strideH, found.options.strideW = high.stride, wide.stride
    graph.operators[found.at : found.at + 1] = [
        graph.reshape(first, image),
        operator,
        graph.reshape(outcome, last),
    ]
    return graph.written()
