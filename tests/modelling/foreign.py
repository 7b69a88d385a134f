"""Small networks of other frameworks: the mean of each colour decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SHAPES = {"NHWC": ["N", SIDE, SIDE, 3], "NCHW": ["N", 3, SIDE, SIDE]}


def weights(layout: str) -> np.ndarray:
    by_channel = np.zeros((SIDE, SIDE, 3, 3), np.float32)
    for channel in range(3):
        by_channel[:, :, channel, channel] = 0.2
    if layout == "NCHW":
        by_channel = by_channel.transpose(2, 0, 1, 3)
    return by_channel.reshape(-1, 3)


def colours_onnx(
    path: Path,
    *,
    shape: list[Any] | None = None,
    layout: str = "NHWC",
    dtype: int = TensorProto.FLOAT,
    extra_inputs: list[Any] | None = None,
    extra_outputs: tuple[str, ...] = (),
    softmax_domain: str = "",
) -> Path:
    """Write an ONNX file that tells red, green and blue."""
    matrix = weights(layout).astype(helper.tensor_dtype_to_np_dtype(dtype))
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"], axis=1, domain=softmax_domain),
    ]
    outputs = [helper.make_tensor_value_info("p", dtype, [None, 3])]
    for name in extra_outputs:
        nodes.append(helper.make_node("Identity", ["p"], [name]))
        outputs.append(helper.make_tensor_value_info(name, dtype, [None, 3]))
    inputs = [helper.make_tensor_value_info("x", dtype, shape or SHAPES[layout])]
    graph = helper.make_graph(
        nodes, "colours", inputs + (extra_inputs or []), outputs,
        [numpy_helper.from_array(matrix, "w")],
    )  # fmt: skip
    domains = [helper.make_opsetid("", 17)]
    domains += [helper.make_opsetid(softmax_domain, 1)] if softmax_domain else []
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def one_of_each_colour() -> np.ndarray:
    return np.stack([np.full((SIDE, SIDE, 3), rgb) for rgb in COLOURS.values()]).astype(np.uint8)
