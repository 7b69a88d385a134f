"""Loads a Keras file that another Keras may have written.

Its configuration is adapted (`keras_adaptation`), the network built of it, and the weights taken
from the file, in the order in which that Keras wrote them.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from Modelling.errors import shortened
from Modelling.network.declared_size import (
    limited_weights,
    require_archive_size,
    require_hdf5_size,
)
from Modelling.network.keras_adaptation import adapted
from Modelling.network.keras_config import WITHOUT_CODE, KerasFile
from Modelling.network.keras_operations import operation_layers

WEIGHTS_FILE = "model.weights.h5"

# The group of a model's layers in files of Keras 2.12 to 2.14, and how a layer is numbered there.
LAYERS_COUNTED_TWICE = "_layer_checkpoint_dependencies"
NUMBERED = re.compile(r"_\d+$")

# What Keras writes before the cause of an error, behind the place and the whole configuration.
# Errors lie in each other: the last cause is the first.
CAUSES = ("Error encountered:", "Exception encountered:")
# What it says of a class that it does not know, in a file of its own kind and in an older one.
UNKNOWN_CLASS = ("Could not locate class", "Unknown layer")
CALL = re.compile(r"Exception encountered when calling [^\n]*\n\s*")
# What TensorFlow writes before an error of a graph that it traces: the traceback, indented further.
IN_USER_CODE = re.compile(r"^in user code:\n.*?\n {4}(?=\w+: )", re.DOTALL)


def load(file: KerasFile, *, safe_mode: bool, max_bytes: int) -> Any:
    """Build the network and load its weights, without what is for training.

    Args:
        file: What is known of it.
        safe_mode: Whether code in it is refused; see Keras.
        max_bytes: That its weights may take.

    Raises:
        CheckpointError: They would take more.
        Exception: Whatever Keras raises.
    """
    import keras

    with (
        keras.saving.custom_object_scope({**operation_layers(), **_layers_of_applications()}),
        limited_weights(file.path, max_bytes),
    ):
        if not file.archive:
            require_hdf5_size(file.path, max_bytes)
            return _load_hdf5(file, safe_mode=safe_mode)
        require_archive_size(file.path, max_bytes)
        if file.of_keras_2:
            model = _built_as_of_old(file, safe_mode=safe_mode)
        else:
            config = adapted(file.config, keras_2=False)
            model = keras.saving.deserialize_keras_object(config, safe_mode=safe_mode)
        with _weights_of(file.path) as weights:
            require_hdf5_size(weights, max_bytes, file.path)
            _renumber_layers(weights)
            model.load_weights(weights)
        return model


def _layers_of_applications() -> dict[str, type]:
    """Name the layers of Keras' own applications that Keras itself does not find by name."""
    from keras.src.applications import convnext

    return {each.__name__: each for each in (convnext.LayerScale, convnext.StochasticDepth)}


def _load_hdf5(file: KerasFile, *, safe_mode: bool) -> Any:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    model = _built_as_of_old(file, safe_mode=safe_mode)
    with file.path.open("rb") as raw, h5py.File(raw, "r") as hdf5:
        legacy_h5_format.load_weights_from_hdf5_group(hdf5["model_weights"], model)
    return model


def _built_as_of_old(file: KerasFile, *, safe_mode: bool) -> Any:
    """Build a network of a configuration as Keras 2 wrote it, and HDF5 files have it still."""
    from keras.src.legacy.saving import saving_options, saving_utils
    from keras.src.saving import serialization_lib

    with (
        saving_options.keras_option_scope(use_legacy_config=True),
        serialization_lib.SafeModeScope(safe_mode),
    ):
        return saving_utils.model_from_config(adapted(file.config, keras_2=file.of_keras_2))


@contextlib.contextmanager
def _weights_of(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        yield Path(archive.extract(WEIGHTS_FILE, folder))


def _renumber_layers(weights: Path) -> None:
    """Count the layers of each class as Keras does today: one after another.

    Keras 2.12 to 2.14 counted each layer that has weights twice: `conv2d`, `conv2d_2`, `conv2d_4`.
    """
    import h5py

    with weights.open("r+b") as raw, h5py.File(raw, "r+") as hdf5:
        if LAYERS_COUNTED_TWICE in hdf5:
            _renumber_group(hdf5)


def _renumber_group(group: Any) -> None:
    by_class: dict[str, list[int]] = {}
    for name in group:
        kind, _, number = name.rpartition("_") if NUMBERED.search(name) else (name, "", "0")
        by_class.setdefault(kind, []).append(int(number))
    if group.name.endswith(f"/{LAYERS_COUNTED_TWICE}"):
        for kind, numbers in by_class.items():
            for today, number in enumerate(sorted(numbers)):
                if today != number:  # it is lower, and free by now
                    group.move(f"{kind}_{number}", f"{kind}_{today}")
    for inner in group.values():
        if hasattr(inner, "move"):
            _renumber_group(inner)


def advice_on_classes(error: BaseException) -> str:
    """Say what can be done where Keras does not know a class, to be put behind an error."""
    if any(each in str(error) for each in UNKNOWN_CLASS):
        return f"; if it is not of a newer Keras but of its maker's own, {WITHOUT_CODE}"
    return ""


def cause_of(error: BaseException) -> str:
    """Find the cause in what Keras says, which puts it last, behind the whole configuration.

    And in what TensorFlow says of a network that Keras has loaded, and that cannot be run.
    """
    text = IN_USER_CODE.sub("", str(error).strip()) or repr(error)
    for cause in CAUSES:
        text = text.rpartition(cause)[2].strip()
    return shortened(CALL.sub("", text).replace("\x1b[1m", "").replace("\x1b[0m", ""))
