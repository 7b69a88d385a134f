"""The model as a custom runtime of MLServer, for its Kafka mode."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.apps.digits import Digits


class DigitsRuntime(MLModel):
    """Answers (N, 784) uint8 with (N,) labels."""

    async def load(self) -> bool:
        """Load the network."""
        self._digits = Digits(threads=2)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch, as adaptive batching has put it together."""
        pixels = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8)
        labels = np.array([label for label, _ in self._digits.classify_pixels(pixels)])
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[NumpyCodec.encode_output("label", labels.reshape(-1, 1))],
        )
