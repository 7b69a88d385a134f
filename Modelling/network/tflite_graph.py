"""The graph of a `.tflite` file, taken apart to be changed and written again.

Source of the format: https://ai.google.dev/edge/litert, `schema.fbs`; `ai-edge-litert` brings what
reads and writes it. Its objects have no types, so they stay in here and in `packing`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_FILE_IDENTIFIER = b"TFL3"
# What the writer begins with; it grows.
_BUILDER_BYTES = 1 << 20


def schema() -> Any:
    """Import what reads the format: only where a network is changed."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


class TfliteGraph:
    """The first graph of a file, which is the network.

    Attributes:
        operators: In the order in which they run.
        tensors: Constants, and what one operator leaves to the next.
    """

    def __init__(self, compiled: bytes) -> None:
        """Take the content of a `.tflite` file apart; whatever is no such file raises anything."""
        self._model = schema().ModelT.InitFromObj(schema().Model.GetRootAsModel(compiled, 0))
        self.operators: list[Any] = self._model.subgraphs[0].operators
        self.tensors: list[Any] = self._model.subgraphs[0].tensors

    def written(self) -> bytes:
        """Return the content of a file with all changes."""
        builder = schema().flatbuffers.Builder(_BUILDER_BYTES)
        builder.Finish(self._model.Pack(builder), _FILE_IDENTIFIER)
        return bytes(builder.Output())

    def convolutions(self) -> list[int]:
        """List the places of the convolutions among the operators."""
        kind = schema().BuiltinOperator.CONV_2D
        return [at for at, each in enumerate(self.operators) if self._kind_of(each) == kind]

    def constant(self, tensor: Any, dtype: type[np.generic]) -> npt.NDArray[Any]:
        """Return the numbers of a tensor, in its shape.

        Raises:
            ValueError: It has none: it is what an operator leaves.
        """
        data = self._model.buffers[tensor.buffer].data
        if data is None:
            raise ValueError("it is no constant")
        return np.frombuffer(bytes(data), dtype).reshape(tensor.shape)

    def add_tensor(
        self, like: Any, shape: Sequence[int], numbers: npt.NDArray[Any] | None = None
    ) -> int:
        """Add a tensor like another one, but for its shape; return its number.

        Args:
            like: The other one.
            shape: Its first size is the batch's, where it has no numbers.
            numbers: Of a constant; None for what an operator leaves.
        """
        tensor = copy.deepcopy(like)
        tensor.name = f"{like.name} packed" if isinstance(like.name, str) else "packed"
        tensor.shape = [int(each) for each in shape]
        tensor.shapeSignature = None if numbers is not None else [-1, *tensor.shape[1:]]
        tensor.buffer = 0 if numbers is None else self._add_buffer(numbers)
        scales = tensor.quantization.scale
        if len(scales) > 1:  # one for each filter
            times = len(numbers if numbers is not None else scales) // len(scales)
            tensor.quantization.scale = np.tile(scales, times)
            tensor.quantization.zeroPoint = np.tile(tensor.quantization.zeroPoint, times)
            tensor.quantization.min = tensor.quantization.max = None
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def reshape(self, given: int, wanted: int) -> Any:
        """Make the operator that gives a tensor the shape of another; batches keep their size."""
        shape = np.array([-1, *self.tensors[wanted].shape[1:]], np.int32)
        sizes = schema().TensorT()
        sizes.name, sizes.type, sizes.shape = "shape", schema().TensorType.INT32, [len(shape)]
        sizes.buffer = self._add_buffer(shape)
        self.tensors.append(sizes)
        operator = schema().OperatorT()
        operator.opcodeIndex = self._code_of_reshape()
        operator.inputs, operator.outputs = [given, len(self.tensors) - 1], [wanted]
        operator.builtinOptionsType = schema().BuiltinOptions.ReshapeOptions
        operator.builtinOptions = schema().ReshapeOptionsT()
        operator.builtinOptions.newShape = shape.tolist()
        return operator

    def _kind_of(self, operator: Any) -> int:
        return _builtin_code(self._model.operatorCodes[operator.opcodeIndex])

    def _add_buffer(self, numbers: npt.NDArray[Any]) -> int:
        buffer = schema().BufferT()
        buffer.data = np.frombuffer(numbers.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _code_of_reshape(self) -> int:
        wanted, codes = schema().BuiltinOperator.RESHAPE, self._model.operatorCodes
        for number, code in enumerate(codes):
            if _builtin_code(code) == wanted:
                return number
        code = schema().OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = wanted
        code.version = 1
        codes.append(code)
        return len(codes) - 1


def _builtin_code(code: Any) -> int:
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))  # the second is a byte
