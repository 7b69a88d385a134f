"""SavedModel folders, run by TensorFlow.

A graph may hold operations that read and write files, or run Python: what is loaded comes from
strangers, so a folder whose graph has such is refused before anything of it is loaded.

Source: https://www.tensorflow.org/guide/saved_model
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import CheckpointError, shortened
from Modelling.network.checkpoint import Checkpoint
from Modelling.network.declared_size import require_size, tensor_bytes
from Modelling.network.expansion import require_few_nodes
from Modelling.network.foreign import ForeignEngine, told_range
from Modelling.network.hashes import files_of
from Modelling.network.input_range import InputRange
from Modelling.network.tensorflow import import_tensorflow, limit_tensorflow_threads, quiet
from Modelling.network.tensors import Tensor, chosen_output, chosen_signature, only_input

# Parts of names of operations that reach out of the graph. Those by which every SavedModel restores
# its own variables are none of them.
UNSAFE = (
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "Dataset", "Reader", "FromTextFile",
    "Summary", "DecodeProtoV2", "XlaLaunch", "Send", "Recv", "RpcCall",
)  # fmt: skip


def open_saved_model(
    checkpoint: Checkpoint, threads: int | None, input_range: InputRange | None, max_bytes: int
) -> ForeignEngine:
    """Load a signature of a SavedModel: the side file's, else `serving_default`, else its only one.

    Args:
        checkpoint: See `open_checkpoint`.
        threads: CPU threads, taken before TensorFlow's first tensor; all cores if None.
        input_range: Of the pixels that it wants; what the side file says if None.
        max_bytes: That its files may take together.

    Raises:
        CheckpointError: It is unsafe, too large, or no image classifier.
    """
    path = checkpoint.weights
    of_files = sum(each.stat().st_size for each in files_of(path))
    require_size(path, of_files, max_bytes)
    tf = import_tensorflow()
    if threads:
        limit_tensorflow_threads(threads)
    try:
        graphs = _graphs_of(path)
        for functions in graphs:
            require_few_nodes({name: _calls_of(nodes) for name, nodes in functions})
        graph = [node for functions in graphs for _, nodes in functions for node in nodes]
        _require_safe(graph)
        require_size(path, of_files + sum(map(_bytes_of_constant, graph)), max_bytes)
        with quiet(show=False):
            loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[chosen_signature(list(loaded.signatures), checkpoint.side)]
        image = only_input(
            [_tensor(name, each) for name, each in function.structured_input_signature[1].items()]
        )
        output = chosen_output(
            [_tensor(name, each) for name, each in function.structured_outputs.items()],
            checkpoint.side,
        )

        def call(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
            answers: npt.NDArray[Any] = function(**{image.name: tf.constant(batch)})[
                output.name
            ].numpy()
            return answers

        engine = ForeignEngine(
            "saved_model", image, output, call, checkpoint.side,
            input_range or told_range(checkpoint),
        )  # fmt: skip
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever a foreign model makes TensorFlow raise
        raise CheckpointError(f"{path}: it cannot be loaded: {shortened(error)}") from None
    engine.keep = loaded  # its variables live as long as it does
    return engine


def _tensor(name: str, described: Any) -> Tensor:
    shape = described.shape
    sizes = tuple(shape.as_list()) if shape.rank is not None else ()
    dtype = described.dtype.as_numpy_dtype
    known = dtype if np.issubdtype(dtype, np.number) else None
    return Tensor(name, sizes, known, described.dtype.name)


def _graphs_of(path: Path) -> list[list[tuple[str, Sequence[Any]]]]:
    """Read the nodes of a folder's graphs: of each its own, and those of its functions by name."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return [
        [
            ("", meta.graph_def.node),
            *((each.signature.name, each.node_def) for each in meta.graph_def.library.function),
        ]
        for meta in saved.meta_graphs
    ]


def _calls_of(nodes: Iterable[Any]) -> Counter[str]:
    """Count what nodes are, or call: a function is named by an attribute."""
    calls: Counter[str] = Counter()
    for node in nodes:
        calls[node.op] += 1
        for attribute in node.attr.values():
            calls.update(each.name for each in (attribute.func, *attribute.list.func) if each.name)
    return calls


def _require_safe(graph: list[Any]) -> None:
    operations = {node.op for node in graph}
    unsafe = sorted(each for each in operations if any(part in each for part in UNSAFE))
    if unsafe:
        raise CheckpointError(
            f"its graph reaches out of itself, by {shortened(', '.join(unsafe))}: nothing of it "
            "was loaded"
        )


def _bytes_of_constant(node: Any) -> int:
    """Tell what a constant takes once it is unpacked: one value may stand for a whole tensor."""
    import tensorflow as tf

    if node.op != "Const":
        return 0
    tensor = node.attr["value"].tensor
    shape = [each.size for each in tensor.tensor_shape.dim]
    itemsize: int = tf.dtypes.as_dtype(tensor.dtype).size or 1  # None: of no fixed size
    return tensor_bytes(shape, np.uint8) * itemsize
