"""ONNX files, run by ONNX Runtime: how models of PyTorch, scikit-learn and XGBoost travel.

Anybody may have written the file. It is looked at before the runtime sees it: operators that only
native code of its maker can run, and weights in other files that lie somewhere else, are refused by
name.

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from DurableText.installation.extras import needs
from Modelling.cores import available_cores
from Modelling.errors import CheckpointError, shortened
from Modelling.network.checkpoint import Checkpoint
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES, require_size
from Modelling.network.foreign import (
    ForeignEngine,
    Tensor,
    chosen_output,
    only_input,
    told_range,
)
from Modelling.network.input_range import InputRange

# Whose operators ONNX Runtime brings.
KNOWN_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))

# The types of tensors, as ONNX Runtime writes them.
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}

# Of the runtime's log: errors only. What it warns of is its own planning.
LOG_ERRORS = 3


def open_onnx(
    checkpoint: Checkpoint, threads: int | None, input_range: InputRange | None, max_bytes: int
) -> ForeignEngine:
    """Load an ONNX file.

    Args:
        checkpoint: See `open_checkpoint`.
        threads: CPU threads; all cores if None.
        input_range: Of the pixels that it wants; what the side file says if None.
        max_bytes: That its files may take together.

    Raises:
        CheckpointError: It is unsafe, too large, or no image classifier.
    """
    path = checkpoint.weights
    require_size(path, path.stat().st_size, max_bytes)
    require_safe(path, max_bytes)
    with needs("an ONNX model", CheckpointError):
        import onnxruntime
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = LOG_ERRORS
    settings.intra_op_num_threads = threads or available_cores()
    settings.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - it has a class of its own for each kind of fault
        raise CheckpointError(f"{path}: ONNX Runtime refuses it: {shortened(error)}") from None
    try:
        image = only_input([_tensor(each) for each in session.get_inputs()])
        output = chosen_output([_tensor(each) for each in session.get_outputs()], checkpoint.side)

        def call(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
            (answers,) = session.run([output.name], {image.name: batch})
            return np.asarray(answers)

        return ForeignEngine(
            "onnx", image, output, call, checkpoint.side, input_range or told_range(checkpoint)
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _tensor(described: Any) -> Tensor:
    sizes = tuple(size if type(size) is int and size > 0 else None for size in described.shape)
    return Tensor(described.name, sizes, TYPES.get(described.type))


def require_safe(path: Path, max_bytes: int = DEFAULT_MAX_MODEL_BYTES) -> None:
    """Refuse operators of the maker's own, and weights that lie outside the file's folder.

    Raises:
        CheckpointError: There are such; or it is no ONNX file.
    """
    with needs("an ONNX model", CheckpointError):
        import onnx
    try:
        model = onnx.load_model(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # noqa: BLE001 - protobuf's own, which differ by its version
        raise CheckpointError(f"{path}: not an ONNX file: {shortened(error)}") from None
    own = {(each.domain, each.name) for each in model.functions}
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in _nodes(model)
            if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own
        }
    )
    if foreign:
        raise CheckpointError(
            f"{path}: it needs operators of its maker's own, {shortened(', '.join(foreign))}: "
            "export it with standard ones"
        )
    total = path.stat().st_size
    for file in sorted(_external_files(model)):
        total += _inside(path, file).stat().st_size
    require_size(path, total, max_bytes)


def _graphs(model: Any) -> Iterator[Any]:
    """Yield all graphs: the model's, those of its functions, and those inside of nodes."""
    ahead = [model.graph, *model.functions]
    while ahead:
        graph = ahead.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                ahead.extend(
                    [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
                )


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def _external_files(model: Any) -> set[str]:
    return {
        entry.value
        for tensor in _tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _inside(path: Path, location: str) -> Path:
    """Return where weights lie, which is in the checkpoint's folder, links followed."""
    folder = path.parent.resolve()
    file = (folder / location).resolve()
    if not file.is_relative_to(folder):
        raise CheckpointError(
            f"{path}: its weights lie outside its folder, in {shortened(location)!r}: nothing of "
            "it was loaded"
        )
    if not file.is_file():
        raise CheckpointError(f"{path}: {shortened(location)!r}, with its weights, is missing")
    return file
