"""The files that a training leaves: the checkpoint, its compiled forms, and the side file."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from Modelling.network.checkpoint import (
    DIGITS,
    RESIZE,
    SideFile,
    sha256_of,
    write_atomically,
    write_side_file,
)
from Modelling.network.compiling import compile_forms, write_forms
from Modelling.network.input_range import UNIT
from Modelling.network.tensorflow import quiet
from Modelling.training.datasets import LABELS, Dataset
from Modelling.training.options import Options

# What the files of the largest network take, twice: for a while they lie beside those before them.
ROOM_BYTES = 12 << 20


def require_room(folder: Path) -> None:
    """Find out, before the training and before the first file is replaced, whether there is room.

    Raises:
        OSError: No files can be made in the folder, or not of this size; the text names it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(ROOM_BYTES))
    except OSError as error:
        raise OSError(f"the folder {folder} cannot be written: {error.strerror}") from None


def write_checkpoint(
    options: Options, dataset: Dataset, model: Any, training: dict[str, Any], temperature: float
) -> SideFile:
    """Write the checkpoint, its compiled forms, and last the side file.

    All is made before anything is written: a server that starts meanwhile waits a few seconds only
    for files that match.
    """
    forms = compile_forms(model, dataset.train_images, (dataset.test_images, dataset.test_classes))
    require_room(options.output.parent)
    with quiet():  # Keras calls .h5 a legacy format; it is the one most tools read
        if options.output.suffix == ".h5":
            write_atomically(options.output, _as_h5(model))
        else:
            partial = options.output.with_name(f".{options.output.stem}.partial.keras")
            try:
                model.save(partial, include_optimizer=False)
                write_atomically(options.output, partial.read_bytes())
            finally:
                partial.unlink(missing_ok=True)
    side = SideFile(
        sha256=sha256_of(options.output),
        labels=dataset.labels,
        input_shape=dataset.input_shape,
        preprocessing=DIGITS if _is_like_mnist(options, dataset) else RESIZE,
        input_range=UNIT,
        temperature=temperature,
        engines=write_forms(options.output, forms),
        training=training,
    )
    write_side_file(options.output, side)
    return side


def _is_like_mnist(options: Options, dataset: Dataset) -> bool:
    """Tell whether images that come later are to be set as MNIST's were."""
    return (
        options.handwritten_digits
        and dataset.labels == LABELS["mnist"]
        and dataset.input_shape == (28, 28, 1)
    )


def _as_h5(model: Any) -> bytes:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        legacy_h5_format.save_model_to_hdf5(model, file, include_optimizer=False)
    return buffer.getvalue()
