"""Training on from a checkpoint in place of a new network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from Modelling.network.checkpoint import open_checkpoint
from Modelling.network.keras_models import load_keras_model
from Modelling.training.architecture import build_cnn
from Modelling.training.datasets import Dataset
from Modelling.training.options import Options


def starting_weights(options: Options, dataset: Dataset) -> list[npt.NDArray[np.float32]]:
    """Read the weights of `--start-from`.

    Raises:
        ValueError: They are not those of such a network for such images, or of another split: some
            images that would choose the epoch and the temperature had been trained on.
        CheckpointError: The file is none, is missing or damaged.
    """
    path = options.start_from
    assert path is not None
    side = open_checkpoint(path).side
    told = side.training if side else {}
    for name in ("seed", "validation_ratio"):
        if name in told and told[name] != getattr(options, name):
            raise ValueError(
                f"--start-from {path} was trained with --{name.replace('_', '-')} {told[name]}: "
                "with another it would be validated with images that it was trained on"
            )
    weights: list[npt.NDArray[np.float32]] = load_keras_model(path).get_weights()
    network = build_cnn(dataset.input_shape, len(dataset.labels), options.network)
    wanted = network.get_weights()
    if [each.shape for each in weights] != [each.shape for each in wanted]:
        raise ValueError(
            f"--start-from {path} is not the {options.network} network that is trained here on "
            f"{dataset.input_shape} images of {len(dataset.labels)} classes"
        )
    return weights
