"""An image model as ONNX, from its weights to a result: which colour has most of a picture?

    pip install 'event-driven-model-serving[onnx]'
    python -m examples.colours_onnx              # writes colours.onnx and its side file
    python model_server_sub.py --checkpoint colours.onnx

PyTorch (`torch.onnx.export`), scikit-learn (`skl2onnx`) and XGBoost (`onnxmltools`) write such
files; this one is put together by hand, so that the example needs none of them.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ("red", "green", "blue")
SIDE = 16


def write(path: Path) -> None:
    """Write the network, NCHW as PyTorch has it, and then its side file."""
    weights = np.eye(3, dtype=np.float32) * 20
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
            helper.make_node("Flatten", ["means"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    side = {
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "labels": LABELS,
        "input_shape": [SIDE, SIDE, 3],
        "input_range": [0, 1],
        "layout": "NCHW",
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(side, indent=2))


if __name__ == "__main__":
    write(Path("colours.onnx"))
    sys.stdout.write("wrote colours.onnx and colours.onnx.json\n")
