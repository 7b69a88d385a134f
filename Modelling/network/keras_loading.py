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
from Modelling.network.keras_adaptation import adapted
from Modelling.network.keras_config import KerasFile
from Modelling.network.keras_operations import operation_layers

WEIGHTS_FILE = "model.weights.h5"

# What Keras puts around the cause of an error: where, and with which configuration. The cause is
# what it says last.
CAUSES = (
    re.compile(r"Exception encountered: (?P<cause>.+?)\s*$", re.DOTALL),
    re.compile(
        r"Error when deserializing class '(?P<name>\w+)'.*?(?P<cause>[^\n]+)\s*$", re.DOTALL
    ),
)


def load(file: KerasFile, *, safe_mode: bool) -> Any:
    """Build the network and load its weights, without what is for training.

    Args:
        file: What is known of it.
        safe_mode: Whether code in it is refused; see Keras.

    Raises:
        Exception: Whatever Keras raises.
    """
    import keras

    with keras.saving.custom_object_scope(operation_layers()):
        if not file.archive:
            return _load_hdf5(file, safe_mode=safe_mode)
        model = keras.saving.deserialize_keras_object(adapted(file.config), safe_mode=safe_mode)
        with _weights_of(file.path) as weights:
            if _is_of_keras_2(file):
                _load_weights_of_keras_2(model, weights)
            else:
                model.load_weights(weights)
        return model


def _load_hdf5(file: KerasFile, *, safe_mode: bool) -> Any:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format, saving_options, saving_utils
    from keras.src.saving import serialization_lib

    with (
        file.path.open("rb") as raw,
        h5py.File(raw, "r") as hdf5,
        saving_options.keras_option_scope(use_legacy_config=True),
        serialization_lib.SafeModeScope(safe_mode),
    ):
        model = saving_utils.model_from_config(adapted(file.config))
        legacy_h5_format.load_weights_from_hdf5_group(hdf5["model_weights"], model)
    return model


def _is_of_keras_2(file: KerasFile) -> bool:
    return file.version.startswith(("0.", "1.", "2."))


@contextlib.contextmanager
def _weights_of(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        yield Path(archive.extract(WEIGHTS_FILE, folder))


def _load_weights_of_keras_2(model: Any, path: Path) -> None:
    raise NotImplementedError


def cause_of(error: BaseException) -> str:
    """Find the cause in what Keras says, which puts it last, behind the whole configuration."""
    text = str(error).strip() or repr(error)
    for pattern in CAUSES:
        if found := pattern.search(text):
            return shortened(found["cause"].strip())
    return shortened(text)
