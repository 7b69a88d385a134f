"""Layers that train in less time than Keras' own and keep the same weights.

Keras' batch normalisation is a dozen passes over memory on a CPU; TensorFlow has one operation for
it. A CPU that multiplies matrices of bfloat16 in hardware (AMX) needs a fraction of the time for
convolutions of those, and what lies between them is half as many bytes. Sums, the means and
variances, weights and what the optimiser keeps stay in float32. What each of it gains stands in
docs/modelling.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers

from Modelling.network.tensorflow import import_tensorflow

# What Linux calls the units; elsewhere the file is missing and float32 is used.
AMX_BFLOAT16 = "amx_bf16"
CPU_INFO = Path("/proc/cpuinfo")


def quick_convolution(*args: Any, **settings: Any) -> keras.layers.Layer:
    """Make a convolution in the arithmetic that this machine is quickest in."""
    return layers.Conv2D(*args, **settings, dtype=quickest_arithmetic())


def quick_activation() -> keras.layers.Layer:
    """Make a ReLU between such convolutions."""
    return layers.ReLU(dtype=quickest_arithmetic())


def quickest_arithmetic() -> str:
    """Name the dtype policy of what is between the image and the pooled features."""
    return "mixed_bfloat16" if in_bfloat16() else "float32"


def in_bfloat16() -> bool:
    """Tell whether convolutions are quickest in bfloat16 here."""
    return not import_tensorflow().config.list_physical_devices("GPU") and has_amx()


def has_amx(cpu_info: Path = CPU_INFO) -> bool:
    """Tell whether the CPU multiplies matrices of bfloat16 in hardware."""
    try:
        text = cpu_info.read_text()
    except OSError:
        return False
    return any(
        AMX_BFLOAT16 in line.split() for line in text.splitlines() if line.startswith("flags")
    )


class QuickNormalisation(layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation in one operation."""

    def __init__(self, **settings: Any) -> None:
        # What is normalised may be bfloat16, what it is normalised by is not.
        super().__init__(**settings, dtype=quickest_arithmetic(), autocast=False)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Normalise (N, H, W, C); in training by the batch's own mean and variance."""
        tf = import_tensorflow()
        normalised, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=self.moving_mean.value,
            variance=self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=bool(training),
        )
        if training:
            for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + seen * (1 - self.momentum))
        return normalised
