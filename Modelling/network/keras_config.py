"""What a Keras file says of a network, read before Keras sees it: its version, and code in it.

A network's configuration is JSON: names of classes and their arguments, at any depth. Only what is
going to be loaded counts: how a network was trained (its loss, its optimiser) is not.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DurableText.installation.extras import needs
from Modelling.errors import CheckpointError, shortened
from Modelling.network.declared_size import HDF5_SIGNATURE

# Of a model's architecture as JSON. The largest of keras.applications has half a megabyte.
MAX_CONFIG_BYTES = 16 << 20

# Layers that carry code (or graphs that may read and write files) inside the checkpoint.
CODE_LAYERS = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__"}
)

# What can be done where a layer is code of its maker's.
WITHOUT_CODE = (
    "replace it by Keras' own; or write a SavedModel where that code is, with "
    "model.export(FOLDER), and serve the folder"
)

# Packages of Keras itself, in files of all its versions; `builtins` holds names of functions.
KERAS_PACKAGES = frozenset({"keras", "keras_core", "tf_keras", "tensorflow", "builtins"})

# Between the package and the name of a class of one's own.
REGISTERED = ">"

# What is only for training: how it goes, what weights begin with, and what holds them down.
TRAINING_KEYS = frozenset({"compile_config"})
TRAINING_ENDS = ("_initializer", "_regularizer", "_constraint")

UNKNOWN_VERSION = "of an unknown version"


@dataclass(frozen=True)
class KerasFile:
    """A Keras file's configuration.

    Attributes:
        path: The file.
        config: Of the network, without what is only for training.
        version: Of the Keras that wrote it, as in `2.4.0`; "" if the file does not say.
        archive: Whether it is a `.keras` archive, and not HDF5.
    """

    path: Path
    config: Any
    version: str
    archive: bool

    @property
    def of_keras_2(self) -> bool:
        """Whether Keras 2 wrote it, or 1; a HDF5 file that does not say is of Keras 1."""
        return self.version.startswith(("0.", "1.", "2.")) or not (self.version or self.archive)

    @property
    def written_by(self) -> str:
        """The Keras that wrote it, for people."""
        return f"Keras {self.version or UNKNOWN_VERSION}"


def read_keras_file(path: Path) -> KerasFile:
    """Read a `.h5` or `.keras` file's configuration.

    Raises:
        CheckpointError: It is damaged, or no whole model, or what reads HDF5 is not installed.
    """
    try:
        # The first bytes decide, here and when it is loaded: a file may be an archive and HDF5 at
        # the same time, and what Keras 2.12 saved as .keras is HDF5.
        with path.open("rb") as start:
            archive = not start.read(len(HDF5_SIGNATURE)).startswith(HDF5_SIGNATURE)
        if archive and path.suffix.lower() != ".keras":
            raise ValueError("it is no HDF5")
        config, version = _read_archive(path) if archive else _read_hdf5(path)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - archives and JSON from strangers raise anything
        raise CheckpointError(
            f"{path}: damaged, or not a Keras checkpoint ({shortened(error)})"
        ) from None
    return KerasFile(path, _without_training(config), version, archive)


def _read_archive(path: Path) -> tuple[Any, str]:
    with zipfile.ZipFile(path) as archive:
        with archive.open("config.json") as file:
            config = _json(file.read(MAX_CONFIG_BYTES + 1))
        version = ""
        if "metadata.json" in archive.namelist():
            with archive.open("metadata.json") as file:
                metadata = _json(file.read(MAX_CONFIG_BYTES + 1))
            version = str(metadata.get("keras_version", ""))
    return config, shortened(version, 20) if version else ""


def _read_hdf5(path: Path) -> tuple[Any, str]:
    with needs("a Keras model", CheckpointError):
        import h5py

    with path.open("rb") as raw, h5py.File(raw, "r") as file:
        if "model_config" not in file.attrs:
            raise ValueError("it holds weights only; save the whole model with model.save()")
        version = file.attrs.get("keras_version", "")
        if isinstance(version, bytes):
            version = version.decode("utf-8", "replace")
        version = str(version).removesuffix("-tf")
        return _json(file.attrs["model_config"]), shortened(version, 20) if version else ""


def _json(config: Any) -> Any:
    if not isinstance(config, (str, bytes)):
        raise TypeError(f"its model_config is {type(config).__name__}, not a text")
    if len(config) > MAX_CONFIG_BYTES:
        raise ValueError(f"its configuration has more than {MAX_CONFIG_BYTES >> 20} MB")
    return json.loads(config)


def _without_training(config: Any) -> Any:
    """Drop what is only for training, at any depth."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for key in [
                key for key in value if key in TRAINING_KEYS or key.endswith(TRAINING_ENDS)
            ]:
                del value[key]
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return config


def refuse_code(file: KerasFile) -> None:
    """Look for what brings code of its own.

    Raises:
        CheckpointError: With its name.
    """
    for role, entry in entries(file.config):
        name, module = str(entry.get("class_name")), str(entry.get("module") or "keras")
        # Classes of one's own that were registered stand as `package>Class`, without a module.
        registered = str(entry.get("registered_name") or name)
        if module == "keras" and REGISTERED in registered:
            module, _, name = registered.rpartition(REGISTERED)
        if name in CODE_LAYERS or module.split(".")[0] not in KERAS_PACKAGES:
            raise CheckpointError(
                f"{file.path}: {role} {shortened(name, 100)} of {shortened(module, 100)} brings "
                f"code of its own, which is not run; {WITHOUT_CODE}; or, if you made the file "
                "yourself, compile it once with `python -m Modelling.quantise --allow-code`"
            )


def entries(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all dictionaries with a `class_name`, at any depth, and what each is for."""
    pending: list[tuple[str, Any]] = [("layer", config)]
    while pending:
        role, value = pending.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield role, value
            for key, each in value.items():
                inner = role if key in ("config", "layers") else shortened(str(key), 40)
                pending.append((inner, each))
        elif isinstance(value, list):
            pending.extend((role, each) for each in value)
