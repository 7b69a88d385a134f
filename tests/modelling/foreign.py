"""Small networks of other frameworks: the mean of each colour decides."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from Modelling.classifier import Classifier
from Modelling.data_preparation import encode_npy

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


def point_to(path: Path, location: str) -> None:
    """Let an ONNX file have its weights in another file."""
    model = onnx.load(path)
    [tensor] = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())


def endless_onnx(path: Path) -> Path:
    """Write an ONNX file with a loop of 2⁶² rounds."""
    rounds = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Abs", ["p"], ["q"])],
        "rounds",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("p", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("q", TensorProto.FLOAT, None),
        ],
    )
    model = onnx.load(colours_onnx(path))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(
        helper.make_node("Loop", ["most", "true", "before"], ["p"], body=rounds)
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "most"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    onnx.save(model, path)
    return path


def nan_on_black(path: Path) -> Path:
    """Write a network that divides by the mean of its picture, as many standardise."""
    model = onnx.load(colours_onnx(path))
    flat = model.graph.node[0].output[0]
    model.graph.node[1].input[0] = "even"
    mean = helper.make_node("ReduceMean", [flat], ["mean"], axes=[1], keepdims=1)
    model.graph.node.insert(1, helper.make_node("Div", [flat, "mean"], ["even"]))
    model.graph.node.insert(1, mean)
    onnx.save(model, path)
    return path


def one_of_each_colour() -> np.ndarray:
    return np.stack([np.full((SIDE, SIDE, 3), rgb) for rgb in COLOURS.values()]).astype(np.uint8)


def write_side(path: Path, **more: Any) -> None:
    """Write a side file that names the colours."""
    side = {
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "labels": ["red", "green", "blue"],
        "input_shape": [SIDE, SIDE, 3],
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps({**side, **more}))


def labels_of(classifier: Classifier) -> list[str]:
    images, errors = classifier.prepare_batch([encode_npy(i) for i in one_of_each_colour()])
    assert not any(errors)
    return classifier.predict(images).labels


def exported(model: Any, path: Path, picture: tuple[int, int, int] = (1, 28, 28)) -> Path:
    """Write a Keras network of the shipped kind as ONNX, NCHW, as exporters do."""
    nodes, values, last = [], [], "image"

    def constant(name: str, value: np.ndarray) -> str:
        values.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        name, weights, kind = layer.name, layer.get_weights(), type(layer).__name__
        if kind == "Conv2D":
            kernel = constant(f"{name}/w", weights[0].transpose(3, 2, 0, 1))
            node = helper.make_node(
                "Conv", [last, kernel], [name], auto_pad="SAME_UPPER", strides=layer.strides
            )
        elif kind == "BatchNormalization":
            inputs = [last, *(constant(f"{name}/{i}", each) for i, each in enumerate(weights))]
            node = helper.make_node("BatchNormalization", inputs, [name], epsilon=layer.epsilon)
        elif kind == "ReLU":
            node = helper.make_node("Relu", [last], [name])
        elif kind == "GlobalAveragePooling2D":
            nodes.append(helper.make_node("GlobalAveragePool", [last], [f"{name}/4d"]))
            node = helper.make_node("Flatten", [f"{name}/4d"], [name])
        elif kind == "Dense":
            matrix, bias = (constant(f"{name}/{i}", each) for i, each in enumerate(weights))
            nodes.append(helper.make_node("Gemm", [last, matrix, bias], [f"{name}/logits"]))
            node = helper.make_node("Softmax", [f"{name}/logits"], [name], axis=1)
        else:
            assert kind == "Dropout", kind
            continue
        nodes.append(node)
        last = name
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *picture])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", None])], values,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
