"""The shipped network on LiteRT in 8 bits, as short as it can be: what the peers in Python run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

MODEL = (
    Path(__file__).resolve().parents[3]
    / "Modelling"
    / "model_checkpoints"
    / "mnist_cnn_model.int8.tflite"
)
PIXELS = 28 * 28
# More in one call is slower: see the benchmark of the engine.
CHUNK = 64


class Digits:
    """Answers images of 28 x 28 bytes, as `.npy`."""

    def __init__(self, threads: int) -> None:
        self._network = Interpreter(model_path=str(MODEL), num_threads=threads)
        self._input = self._network.get_input_details()[0]["index"]
        self._output = self._network.get_output_details()[0]["index"]
        self._size = 0
        for size in (1, CHUNK):
            self._run(np.zeros((size, 28, 28, 1), np.float32))

    def classify(self, images: Sequence[bytes]) -> list[tuple[int, float]]:
        """Return label and confidence of each."""
        raw = b"".join(image[10 + int.from_bytes(image[8:10], sys.byteorder) :] for image in images)
        return self.classify_pixels(np.frombuffer(raw, np.uint8).reshape(len(images), PIXELS))

    def classify_pixels(self, images: np.ndarray) -> list[tuple[int, float]]:
        """The same, of (N, 784) uint8."""
        pixels = images.reshape(-1, 28, 28, 1).astype(np.float32) / np.float32(255)
        chunks = [self._run(pixels[i : i + CHUNK]) for i in range(0, len(pixels), CHUNK)]
        scores = np.concatenate(chunks)
        labels = scores.argmax(1)
        return list(zip(labels.tolist(), scores.max(1).tolist(), strict=True))

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) != self._size:
            self._network.resize_tensor_input(self._input, pixels.shape)
            self._network.allocate_tensors()
            self._size = len(pixels)
        self._network.set_tensor(self._input, pixels)
        self._network.invoke()
        return self._network.get_tensor(self._output)
