"""What a side file tells people of the run that made its checkpoint."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import Any

import numpy as np

from Modelling.network.checkpoint import open_checkpoint, sha256_of
from Modelling.training.options import Options


def provenance_of(
    options: Options,
    history: dict[str, list[float]],
    best_epoch: int,
    accuracy: float,
    seconds: float,
) -> dict[str, Any]:
    """Gather what the side file tells of the run.

    Args:
        options: As the command line asked for them.
        history: Loss and accuracy by epoch, see `recipe.train`.
        best_epoch: The epoch, from 1, that was kept.
        accuracy: On the test images, in float32.
        seconds: How long the training took.
    """
    import keras
    import tensorflow as tf

    file = options.data
    return {
        "dataset": options.dataset,
        **({"file": file.name} if file else {}),
        **({"file_sha256": sha256_of(file)} if file and file.is_file() else {}),
        "test_accuracy": accuracy,
        "validation_accuracy": round(history["val_accuracy"][best_epoch - 1], 5),
        "seed": options.seed,
        "epochs": len(history["loss"]),
        "best_epoch": best_epoch,
        "batch_size": options.batch_size,
        "validation_ratio": options.validation_ratio,
        "network": options.network,
        "outliers": options.outliers,
        **_origin(options),
        "minutes": round(seconds / 60, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def _origin(options: Options) -> dict[str, str]:
    start = options.start_from
    return {"started_from": open_checkpoint(start).version} if start else {}
