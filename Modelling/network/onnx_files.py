"""What an ONNX file holds, and the files beside it that hold its weights, before anything is run.

Operators that only native code of its maker can run, and weights that lie outside of its folder,
are refused by name.

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from DurableText.installation.extras import needs
from Modelling.errors import CheckpointError, shortened
from Modelling.network.declared_size import (
    DEFAULT_MAX_MODEL_BYTES,
    require_size,
    require_size_on_disk,
    require_tensor_sizes,
    tensor_bytes,
)
from Modelling.network.expansion import require_few_nodes

# No tensor that tells a shape has more.
MAX_SHAPE_BYTES = 4096

# Stands for the network itself among its functions.
WHOLE = ""

# Whose operators ONNX Runtime brings.
KNOWN_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))


def require_safe(path: Path, max_bytes: int = DEFAULT_MAX_MODEL_BYTES) -> None:
    """Refuse operators of the maker's own, and weights that lie outside the file's folder.

    Raises:
        CheckpointError: There are such; or it is no ONNX file.
    """
    require_size_on_disk(path, max_bytes)
    model = _read(path)
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
    try:
        require_few_nodes(_calls_of(model))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    beside = sum(_inside(path, file).stat().st_size for file in sorted(_external_files(model)))
    # Several tensors may be read from one place: each takes what it says it takes.
    declared = sum(
        max(0, tensor_bytes(each.dims, _dtype(each)))  # one below 0 would hide another
        for each in _tensors(model)
        if each.external_data
    )
    require_size(path, path.stat().st_size + max(beside, declared), max_bytes)
    try:
        sizes = _tensor_sizes(model)
    except Exception as error:  # noqa: BLE001 - of ONNX's own checks
        raise CheckpointError(f"{path}: ONNX refuses it: {shortened(error)}") from None
    require_tensor_sizes(path, sizes, max_bytes)


def files_beside(path: Path) -> list[Path]:
    """List the files with weights that belong to an ONNX file; none where it cannot be used.

    Whoever loads it is told why.
    """
    try:
        return list(weights_beside(path).values())
    except CheckpointError:
        return []


def weights_beside(path: Path) -> dict[str, Path]:
    """Return the files with weights that belong to an ONNX file, by the names that stand in it.

    Raises:
        CheckpointError: It is no ONNX file, or one of them is missing or outside of its folder.
    """
    return {location: _inside(path, location) for location in sorted(_external_files(_read(path)))}


def _read(path: Path) -> Any:
    with needs("an ONNX model", CheckpointError):
        import onnx
    try:
        return onnx.load_model(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # noqa: BLE001 - protobuf's own, which differ by its version
        raise CheckpointError(f"{path}: not an ONNX file: {shortened(error)}") from None


def _calls_of(model: Any) -> dict[str, Counter[str]]:
    """Count by the name of each function, and of the network itself, what its nodes call."""
    functions = {_name_of(each.domain, each.name, each): each for each in model.functions}
    return {
        name: Counter(
            _name_of(node.domain, node.op_type, node)
            for graph in _nested([function])
            for node in graph.node
        )
        for name, function in {**functions, WHOLE: model.graph}.items()
    }


def _name_of(domain: str, name: str, described: Any) -> str:
    """Name a function, or what a node calls; newer versions tell several of a name apart."""
    return f"{domain}:{name}:{getattr(described, 'overload', '')}".rstrip(":")


def _graphs(model: Any) -> Iterator[Any]:
    """Yield all graphs: the model's, those of its functions, and those inside of nodes."""
    yield from _nested([model.graph, *model.functions])


def _nested(ahead: list[Any]) -> Iterator[Any]:
    """Yield graphs, and those inside of their nodes."""
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
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
    for sparse in _sparse_tensors(model):
        yield from (sparse.values, sparse.indices)


def _tensor_sizes(model: Any) -> list[int]:
    """Tell what tensors take for one image, as far as their shapes can be told.

    A few bytes may ask for gigabytes (`ConstantOfShape`, `Expand`, a sparse tensor), which the
    runtime makes while it loads the file, inside of an `If` too. The model is used up: it loses its
    weights.
    """
    from onnx import shape_inference

    sizes = [tensor_bytes(each.dims, _dtype(each.values)) for each in _sparse_tensors(model)]
    for tensor in _tensors(model):
        if len(tensor.raw_data) > MAX_SHAPE_BYTES:
            tensor.ClearField("raw_data")
    # The runtime says what is wrong with one whose shapes contradict each other.
    with contextlib.suppress(shape_inference.InferenceError):
        model = shape_inference.infer_shapes(model, data_prop=True)
    for graph in _graphs(model):
        # A function has names for what goes out; that is described where it is used.
        described = [*getattr(graph, "value_info", ()), *graph.output]
        for tensor in [each.type.tensor_type for each in described if hasattr(each, "type")]:
            dims = [size.dim_value or 1 for size in tensor.shape.dim]
            sizes.append(tensor_bytes(dims, _dtype_of(tensor.elem_type)))
    return sizes


def _sparse_tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from getattr(graph, "sparse_initializer", ())
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor"):
                    yield attribute.sparse_tensor
                yield from attribute.sparse_tensors


def _dtype(tensor: Any) -> Any:
    return _dtype_of(tensor.data_type)


def _dtype_of(number: int) -> Any:
    """Return numpy's type for one of ONNX; what is not told, or text, counts as four bytes."""
    from onnx import helper

    try:
        found = np.dtype(helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError, ValueError):
        return np.float32
    return np.float32 if found.hasobject else found


def _external_files(model: Any) -> set[str]:
    return {
        entry.value
        for tensor in _tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _inside(path: Path, location: str) -> Path:
    """Return where weights lie, which is in the checkpoint's folder, links followed."""
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        there = file.is_file()
    except (ValueError, OSError) as error:  # the character NUL, a name that is too long
        raise CheckpointError(
            f"{path}: no file can be called {shortened(location, 40)!r}, where its weights are "
            f"said to lie: {shortened(error)}"
        ) from None
    if not file.is_relative_to(folder):
        raise CheckpointError(
            f"{path}: its weights lie outside its folder, in {shortened(location)!r}: nothing of "
            "it was loaded"
        )
    if not there:
        raise CheckpointError(
            f"{path}: {shortened(location)!r}, with its weights, is missing in {folder}"
            + (", where the link leads to: copy both files themselves" if path.is_symlink() else "")
        )
    return file
