"""Makes the configuration of a network that another Keras wrote into one that this Keras reads.

Nothing that changes an answer is left out. A key that this Keras does not know is dropped where its
value is neutral (nothing was asked for), or where it only matters for training; if not, it stays,
and Keras refuses the file. What was renamed is called by its name of today.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from Modelling.network.keras_config import entries
from Modelling.network.keras_operations import (
    OPERATION_CLASSES,
    as_operation_layer,
    name_operation,
    references_in,
)

# Values of keys by which nothing is asked for.
NEUTRAL_VALUES: tuple[Any, ...] = (None, False, [], {}, "channels_last")

# Keys whose neutral value is another one.
NEUTRAL_BY_KEY: dict[str, Any] = {"groups": 1, "fill_value": 0.0, "filters": None}

# What only training asks for.
TRAINING_ENDS = ("_momentum", "_clipping")
TRAINING_KEYS = frozenset({"seed", "rng_type", "fused", "virtual_batch_size", "adjustment"})

# Where classes stand, by which Keras 3 tells its files from older ones.
MODULE_KEYS = ("module", "registered_name", "build_config")

# What every layer takes.
LAYER_KEYS = frozenset({"name", "trainable", "dtype", "activity_regularizer", "autocast"})

# Names that older files use.
RENAMED = {
    "Model": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}

# Classes that hold others, and read their configuration themselves.
HOLDERS = frozenset({"Functional", "Sequential", "Model"})

POLICIES = frozenset({"Policy", "PolicyV1", "DTypePolicy"})


def adapted(config: Any, *, keras_2: bool) -> Any:
    """Adapt a network's configuration to this Keras.

    Args:
        config: As `keras_config.read_keras_file` gives it.
        keras_2: Whether Keras 2, or 1, wrote it.

    Returns:
        Another one; equal to it if nothing had to be done.
    """
    config = copy.deepcopy(config)
    _rename_slashes(config)
    for _, entry in list(entries(config)):
        if keras_2:
            for key in MODULE_KEYS:
                entry.pop(key, None)
            _count_calls_as_today(entry)
        _name_tensors_as_today(entry)
        _adapt_entry(entry)
    return config


def _adapt_entry(entry: dict[str, Any]) -> None:
    name = entry["class_name"] = RENAMED.get(entry["class_name"], entry["class_name"])
    config = entry.get("config")
    if name in OPERATION_CLASSES:
        as_operation_layer(entry)
        return
    if not isinstance(config, dict):
        return
    name_operation(entry)
    if "dtype" in config:
        config["dtype"] = _dtype(config["dtype"])
    if name == "Sequential" and isinstance(config.get("layers"), list):
        _begin_with_input(config["layers"])
    if name in HOLDERS or (
        "module" in entry and not str(entry["module"]).startswith("keras.layers")
    ):
        return
    for key, value in list(config.items()):
        config[key] = _plain(value)
    axis = config.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    _drop_unknown_keys(name, config)


def _name_tensors_as_today(entry: dict[str, Any]) -> None:
    """Name a model's single tensor as one, and not as a list of one, as Keras does before 3.11.

    A `Sequential` calls the models inside it with tensors, and today's Keras minds the difference.
    """
    config = entry.get("config")
    if entry.get("class_name") not in HOLDERS or not isinstance(config, dict):
        return
    for key in ("input_layers", "output_layers"):
        named = list(references_in(config.get(key)))
        if isinstance(config.get(key), list) and len(named) == 1:
            config[key] = named[0]


def _count_calls_as_today(entry: dict[str, Any]) -> None:
    """Count the calls of models inside a model from 0.

    Keras 2 counts the call by which the inner model was built, Keras 3 does not.
    """
    config = entry.get("config")
    if entry.get("class_name") not in HOLDERS or not isinstance(config, dict):
        return
    layers = [each for each in config.get("layers", []) if isinstance(each, dict)]
    holders = {each.get("name") for each in layers if each.get("class_name") in HOLDERS}
    references: dict[str, list[list[Any]]] = {}
    nodes = [each.get("inbound_nodes") for each in layers]
    for reference in references_in([*nodes, config.get("output_layers")]):
        if reference[0] in holders:
            references.setdefault(reference[0], []).append(reference)
    for found in references.values():
        first = min(reference[1] for reference in found)
        for reference in found:
            reference[1] -= first


def _dtype(dtype: Any) -> Any:
    """Name a policy of older Keras by its name alone."""
    if isinstance(dtype, dict) and dtype.get("class_name") in POLICIES:
        inner = dtype.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            return inner["name"]
    return dtype


def _plain(value: Any) -> Any:
    """Make an array as Keras 2 writes it into a list or number."""
    if isinstance(value, dict) and value.get("type") == "ndarray":
        return value.get("value")
    return value


def _begin_with_input(layers: list[Any]) -> None:
    """Give a Sequential of Keras 2 the input that its first layer describes."""
    first = layers[0] if layers else None
    if not isinstance(first, dict) or not isinstance(first.get("config"), dict):
        return
    for each in layers[1:] if first.get("class_name") == "InputLayer" else ():
        if isinstance(each, dict) and isinstance(each.get("config"), dict):
            each["config"].pop("batch_input_shape", None)
    if first.get("class_name") == "InputLayer":
        return
    shape = first["config"].pop("batch_input_shape", None)
    if shape is not None:
        given = {"batch_shape": shape, "dtype": "float32", "name": f"{_name_of(first)}_input"}
        layers.insert(0, {"class_name": "InputLayer", "config": given})
        if "module" in first:
            layers[0] |= {"module": "keras.layers", "registered_name": None}


def _name_of(entry: dict[str, Any]) -> str:
    return str(entry["config"].get("name", "sequential"))


def _drop_unknown_keys(class_name: str, config: dict[str, Any]) -> None:
    known = _known_keys(class_name)
    if known is None:
        return
    renorm = bool(config.get("renorm"))
    for key in [key for key in config if key not in known]:
        value = config[key]
        by_key = NEUTRAL_BY_KEY.get(key, NEUTRAL_VALUES)
        neutral = value in NEUTRAL_VALUES or value == by_key
        trains = key in TRAINING_KEYS or key.endswith(TRAINING_ENDS)
        if neutral or (trains and not renorm):
            del config[key]


def _known_keys(class_name: str) -> frozenset[str] | None:
    """List what a class of this Keras takes; None if it cannot be told."""
    import keras

    kind = getattr(keras.layers, class_name, None)
    if not inspect.isclass(kind):
        return None
    known = set(LAYER_KEYS)
    if class_name == "InputLayer":
        known |= {"batch_input_shape", "input_tensor"}
    for each in kind.__mro__:
        if each.__module__.startswith("keras.src.layers.layer") or each is object:
            break
        if "__init__" in vars(each):
            parameters = inspect.signature(_initialiser(each)).parameters.values()
            known |= {parameter.name for parameter in parameters}
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
                break
    # Older names that classes still take through their `**kwargs`.
    return frozenset(known | {"alpha", "theta"} - {"self", "kwargs"})


def _initialiser(kind: type) -> Callable[..., None]:
    initialiser: Callable[..., None] = vars(kind)["__init__"]
    return initialiser


def _rename_slashes(config: Any) -> None:
    """Write `_` for `/` in the names of layers, wherever they are named."""
    names = {
        each
        for _, entry in entries(config)
        for each in (entry.get("name"), (entry.get("config") or {}).get("name"))
        if isinstance(entry.get("config"), dict) and isinstance(each, str) and "/" in each
    }
    if not names:
        return
    pending = [config]
    while pending:
        value = pending.pop()
        places = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in list(places):
            if isinstance(each, str) and each in names:
                value[key] = each.replace("/", "_")
            elif isinstance(each, (dict, list)):
                pending.append(each)
