"""How the weights are moved: AdamW, its learning rate by step."""

from __future__ import annotations

from typing import Any

import keras

from Modelling.network.tensorflow import import_tensorflow


class QuickAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """Keras' AdamW with one pass over memory for what is eleven there."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable; the sums are those of Keras."""
        tf = import_tensorflow()
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def learning_rate(peak: float, steps: int, epochs: int) -> Any:
    """Plan one epoch of warm-up, then a cosine down to a thousandth."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / 30,
        warmup_target=peak,
        warmup_steps=steps,
        decay_steps=max(1, steps * (epochs - 1)),
        alpha=1e-3,
    )
