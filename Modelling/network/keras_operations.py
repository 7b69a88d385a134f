"""Operations that Keras 2 wrote as layers of their own: `x / 255`, `x + 3`, `x[..., ::-1]`.

Keras 2 saved what Python's operators did to a model's tensors as `TFOpLambda` and
`SlicingOpLambda`, by the name of TensorFlow's function. Keras 3 does not know them. The arithmetic
among them is known here by name, and by nothing but its name: no code comes out of the file.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

OPERATION_CLASSES = frozenset({"TFOpLambda", "SlicingOpLambda"})

# The class by which they stand in an adapted configuration.
LAYER_NAME = "NamedOperation"

ELLIPSIS = "__ellipsis__"


def as_operation_layer(entry: dict[str, Any]) -> None:
    """Rewrite such an entry, and the nodes that call it, as a layer of `NamedOperation`.

    The tensors of a call become its inputs, in a list; all else becomes part of the layer.
    """
    config = entry.get("config")
    nodes = entry.get("inbound_nodes")
    if not isinstance(config, dict) or not isinstance(nodes, list) or len(nodes) != 1:
        return
    [node] = nodes
    tensors: list[list[Any]] = []
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    several = isinstance(node, list) and bool(node) and isinstance(node[0], list)
    references: list[Any] = node if several else [node]
    for reference in references:
        if not _is_reference(reference):
            return
        arguments.append({"tensor": len(tensors)})
        tensors.append([*reference[:3], {}])
        named: dict[str, Any] = reference[3] if len(reference) > 3 else {}
        for key, value in named.items():
            if _is_reference(value):
                keywords[key] = {"tensor": len(tensors)}
                tensors.append([*value[:3], {}])
            elif key != "name":
                keywords[key] = value
    entry["class_name"] = LAYER_NAME
    for key in ("module", "registered_name", "build_config"):
        entry.pop(key, None)
    entry["config"] = {
        "name": config.get("name"),
        "function": config.get("function"),
        "arguments": arguments,
        "keywords": keywords,
    }
    entry["inbound_nodes"] = [tensors]


def references_in(value: Any) -> Iterator[list[Any]]:
    """Yield all that names a tensor, at any depth."""
    pending = [value]
    while pending:
        each = pending.pop()
        if _is_reference(each):
            yield each
        if isinstance(each, dict):
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)


def _is_reference(value: Any) -> bool:
    """Tell whether this names a tensor: a layer, and two numbers."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and type(value[1]) is type(value[2]) is int
    )


def name_operation(entry: dict[str, Any]) -> None:
    """Say where an operation of Keras 3 stands, which its HDF5 files leave out.

    Layers have other keys beside their name; operations, some of which are called like layers, have
    none of those.
    """
    config = entry.get("config")
    if "module" in entry or not isinstance(config, dict) or "trainable" in config:
        return
    module = _operation_modules().get(entry["class_name"])
    if module and "inbound_nodes" in entry:
        entry |= {"module": module, "registered_name": None}


@functools.cache
def _operation_modules() -> dict[str, str]:
    """Find Keras' own operations, by the names of their classes."""
    from keras.src import ops

    return {
        name: kind.__module__
        for part in ("numpy", "nn", "math", "core", "image", "linalg")
        for name, kind in vars(getattr(ops, part)).items()
        if inspect.isclass(kind) and kind.__module__ == f"keras.src.ops.{part}"
    }


@functools.cache
def operation_layers() -> dict[str, type]:
    """Make the class by which Keras builds them."""
    import keras

    class NamedOperation(keras.layers.Layer):  # type: ignore[misc]
        """Arithmetic on one or two tensors, by name."""

        def __init__(
            self, function: str, arguments: list[Any], keywords: dict[str, Any], **options: Any
        ) -> None:
            super().__init__(**options)
            known = _functions()
            if function not in known:
                raise ValueError(f"the operation {function} of TensorFlow is not known here")
            self._function = known[function]
            self._named: dict[str, Any] = {
                "function": function,
                "arguments": arguments,
                "keywords": keywords,
            }

        def call(self, tensors: Any) -> Any:
            given = tensors if isinstance(tensors, (list, tuple)) else [tensors]
            arguments = [_filled(each, given) for each in self._named["arguments"]]
            keywords = {key: _filled(each, given) for key, each in self._named["keywords"].items()}
            return self._function(*arguments, **keywords)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), **self._named}

    return {LAYER_NAME: NamedOperation}


def _filled(value: Any, tensors: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"tensor"}:
        return tensors[value["tensor"]]
    return value


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    """List what is known, by the names that Keras 2 writes."""
    from keras import ops

    binary = {
        "add": ops.add, "subtract": ops.subtract, "multiply": ops.multiply, "divide": ops.divide,
        "truediv": ops.true_divide, "pow": ops.power, "maximum": ops.maximum,
        "minimum": ops.minimum,
    }  # fmt: skip
    known: dict[str, Callable[..., Any]] = {}
    for name, function in binary.items():
        for prefix in ("math.", "__operators__.", ""):
            known[prefix + name] = _of_two(function)
    known |= {
        "nn.relu": lambda features: ops.relu(features),
        "nn.relu6": lambda features: ops.relu6(features),
        "nn.sigmoid": lambda x: ops.sigmoid(x),
        "math.sigmoid": lambda x: ops.sigmoid(x),
        "nn.swish": lambda features, **_: ops.silu(features),
        "nn.silu": lambda features, **_: ops.silu(features),
        "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis),
        "nn.bias_add": lambda value, bias, **_: ops.add(value, ops.cast(bias, value.dtype)),
        "cast": lambda x, dtype: ops.cast(x, dtype),
        "reshape": lambda tensor, shape: ops.reshape(tensor, shape),
        "math.reduce_mean": _reduced(ops.mean),
        "math.reduce_max": _reduced(ops.max),
        "math.reduce_sum": _reduced(ops.sum),
        "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(
            t, clip_value_min, clip_value_max
        ),
        "__operators__.getitem": lambda tensor, slice_spec: tensor[_slices(slice_spec)],
    }
    return known


def _of_two(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: function(x, y)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda input_tensor, axis=None, keepdims=False: function(input_tensor, axis, keepdims)


def _slices(specification: Any) -> Any:
    """Read indices and slices as JSON has them."""
    if isinstance(specification, list):
        return tuple(_slices(each) for each in specification)
    if isinstance(specification, dict):
        if specification.get("class_name") == ELLIPSIS or specification.get("type") == "ellipsis":
            return ...
        return slice(*(specification.get(key) for key in ("start", "stop", "step")))
    return ... if specification in ("...", "Ellipsis") else specification
