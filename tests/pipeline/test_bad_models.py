"""Files that cannot be served, put in the place of one that is: each is told, and it goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from MessageBroker import OutgoingMessage
from Modelling.data_preparation import encode_npy
from Modelling.network.replacing import write_atomically
from tests.modelling.foreign import SIDE, colours_onnx, one_of_each_colour, weights
from tests.pipeline.runner import Pipeline

Change = Callable[[Any], object]


def outside(model: Any) -> None:
    [tensor] = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")


def not_a_number(model: Any) -> None:
    matrix = np.full_like(weights("NHWC"), np.nan)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(matrix, "w"))


def newer(model: Any) -> None:
    model.opset_import[0].version = 999


def without_weights(model: Any) -> None:
    del model.graph.initializer[:]


def unchanged(model: Any) -> None: ...


# What is wrong with a file, and what is said of it.
BAD: list[tuple[dict[str, Any], Change, str]] = [
    ({"softmax_domain": "com.evil"}, unchanged, "operators of its maker's own, com.evil.Softmax"),
    (
        {"extra_inputs": [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]},
        unchanged,
        "it has 2 inputs, x float32 (N, 8, 8, 3), y float32 (1)",
    ),
    ({"extra_outputs": ("again",)}, unchanged, "p float32 (N, 3), again float32 (N, 3)"),
    ({"shape": ["N", None, None, 3]}, unchanged, 'open sizes: write "input_shape"'),
    ({"dtype": TensorProto.INT32}, unchanged, "ONNX Runtime refuses it"),
    ({"shape": ["N", 0, SIDE, 3]}, unchanged, "ONNX Runtime refuses it"),
    ({}, outside, "its weights lie outside its folder"),
    ({}, not_a_number, "the model answers NaN or infinity"),
    ({}, newer, "Opset 999"),
    ({}, without_weights, "ONNX Runtime refuses it"),
]


def test_a_file_that_cannot_be_served_is_told_and_the_one_before_goes_on(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    served = colours_onnx(pipeline.folder / "colours.onnx")
    good = served.read_bytes()
    sub = pipeline.sub("--checkpoint", served).ready()
    pipeline.pub().ready()
    pipeline.app_2().ready()
    version = sub.output.split("ready: ")[1].split(",")[0]
    bad = []
    for made, change, said in BAD:
        model = onnx.load(colours_onnx(tmp_path / "bad.onnx", **made))
        change(model)
        bad.append((model.SerializeToString(), said))
    bad += [(good[: len(good) // 2], "not an ONNX file"), (b"no model", "not an ONNX file")]
    for content, said in bad:
        before = len(sub.output)
        write_atomically(served, content)
        sub.process.send_signal(signal.SIGHUP)
        sub.says("the new checkpoint is unfit", after=before)
        assert f"{version} goes on" in sub.output[before:]
        assert said in sub.output[before:]
    broker = pipeline.connect()
    green = encode_npy(one_of_each_colour()[1])
    broker.publish_batch(pipeline.images, [OutgoingMessage(green)])
    pipeline.wait_for_rows(1)
    [row] = pipeline.rows()
    assert (row["label"], row["model"]) == ("1", version)
    sub.terminate()
    end = pipeline.sub("--checkpoint", served).end(2)
    assert "not an ONNX file" in end
