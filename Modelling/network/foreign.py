"""Networks of other frameworks as an `Engine`.

A runtime (ONNX Runtime, TensorFlow) says what its network takes and gives, and runs it; all else is
the same for each: where the channels stand, a batch that is fixed or open, numbers of 16 bits.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import CheckpointError, shortened
from Modelling.images.pixels import Pixels
from Modelling.images.plain_arrays import Batch
from Modelling.network.checkpoint import Checkpoint
from Modelling.network.input_range import BYTES, UNIT, InputRange
from Modelling.network.layout import layout_of
from Modelling.network.outputs import OutputKind, classes_of, kind_of, noise, to_probabilities
from Modelling.network.range_probe import UNSAID, FoundRange
from Modelling.network.side_by_side import Call, SideBySide
from Modelling.network.side_file import SideFile
from Modelling.network.tensors import Tensor

logger = logging.getLogger(__name__)

# Images per call: at most so many, and so few that they take no more than this (bytes), or one.
# Activations grow with the pictures, and are fetched from memory once they leave the caches: of
# 224 x 224 pixels 64 at once take a sixth more time each than eight.
CHUNK = 64
CHUNK_BYTES = 5 << 20


class ForeignEngine:
    """Runs a network of another framework; see `Engine`."""

    def __init__(
        self,
        name: str,
        image: Tensor,
        output: Tensor,
        call: Call,
        side: SideFile | None,
        input_range: InputRange | None,
        images_a_call: int | None = None,
        beside: SideBySide | None = None,
    ) -> None:
        """Find out how pictures are laid out, and what the answers are.

        Args:
            name: The engine's.
            image: The input.
            output: The output that holds the classes.
            call: Runs the network on a batch.
            side: What is known of it.
            input_range: Of the pixels that it wants; None if nothing is said of it.
            images_a_call: That are run at once, at most; by their size if None.
            beside: Runs the pieces of larger batches beside each other, if that is quicker.

        Raises:
            CheckpointError: It is no image classifier.
        """
        self.name = name
        self.keep: Any = None
        self._layout = layout_of(image, side)
        self.channels_first = self._layout.channels_first
        self._dtype = image.dtype
        self._batch = image.shape[0]
        chunk = images_a_call or min(CHUNK, CHUNK_BYTES // (4 * math.prod(self._layout.picture)))
        # A file for so many pictures runs so many each time, whether all are there or not.
        self._chunk = self._whole_calls(chunk)
        self._call = call
        self._beside = beside
        self.in_pieces = beside is not None
        self.input_shape = self._layout.picture
        bytes_in = image.dtype == np.uint8
        self._range = input_range or (BYTES if bytes_in else UNIT)
        why = "its input holds bytes" if bytes_in else UNSAID
        self.range_found = None if input_range else FoundRange(self._range, why, known=bytes_in)
        self._kind = OutputKind.PROBABILITIES
        images = noise(self.input_shape)
        try:
            outputs = self._answers(images, output)
        except CheckpointError as error:
            outputs = self._answers_one_by_one(images, output, error)
        self._kind = kind_of(outputs)
        self.classes = classes_of(outputs.shape[1])

    def _answers(self, images: Pixels, output: Tensor) -> npt.NDArray[np.float32]:
        """Run it on a few pictures.

        Raises:
            CheckpointError: It fails, or does not answer with a row for each.
        """
        try:
            outputs = self._outputs(images, self._call)
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises
            raise CheckpointError(f"it cannot be run: {shortened(error)}") from None
        if outputs.ndim != 2 or len(outputs) != len(images):
            raise CheckpointError(
                f"{output} answers {outputs.shape} for {len(images)} images: needed is "
                f"({len(images)}, classes)"
            )
        return outputs

    def _answers_one_by_one(
        self, images: Pixels, output: Tensor, error: CheckpointError
    ) -> npt.NDArray[np.float32]:
        """Run it on one picture at a time from now on, if that is what its graph was made for.

        Exporters trace a network with one picture. Where they leave that number in it, its input
        says all the same that any number may come.
        """
        if self._batch is not None:
            raise error
        self._batch = 1
        try:
            outputs = self._answers(images, output)
        except CheckpointError:
            raise error from None
        logger.warning(
            "the network takes one picture at a time, though its input says any number (%s): it is "
            "run for each; export it with an open batch, and it is quicker",
            error,
        )
        return outputs

    def run(self, images: Batch) -> npt.NDArray[np.float32]:
        """Run the network in chunks; see `Engine.run`."""
        probabilities = np.empty((len(images), self.classes), np.float32)
        beside = self._beside
        piece = beside.piece(len(images), self._chunk) if beside else None
        call = beside.call if beside and piece else self._call
        chunk = self._whole_calls(piece) if piece else self._chunk

        def fill(start: int) -> None:
            outputs = self._outputs(images[start : start + chunk], call)
            probabilities[start : start + len(outputs)] = to_probabilities(outputs, self._kind)

        starts = range(0, len(images), chunk)
        if beside and piece:
            beside.run(fill, starts)
        else:
            for start in starts:
                fill(start)
        return probabilities

    def _whole_calls(self, images: int) -> int:
        a_call = self._batch or 1
        return max(1, images // a_call) * a_call

    def _outputs(self, images: Pixels, call: Call) -> npt.NDArray[np.float32]:
        pixels = self._range.apply(images)
        if self._dtype == np.uint8:
            pixels = np.rint(np.clip(pixels, 0, 255))
        batch = self._layout.apply(pixels).astype(self._dtype, copy=False)
        if self._batch is None:
            return _rows(np.asarray(call(batch), np.float32), len(batch))
        return np.concatenate([self._fixed(part, call) for part in _cut(batch, self._batch)])

    def _fixed(self, part: npt.NDArray[Any], call: Call) -> npt.NDArray[np.float32]:
        """Run a batch of the only size that the network takes; what lacks is filled with zeros."""
        assert self._batch is not None
        lack = self._batch - len(part)
        zeros = np.zeros((lack, *part.shape[1:]), part.dtype)
        filled = np.concatenate([part, zeros]) if lack else part
        rows = _rows(np.asarray(call(filled), np.float32), len(filled))
        if len(rows) != self._batch:
            raise ValueError(f"it answers {rows.shape} for {self._batch} images")
        return rows[: len(part)]


def _rows(outputs: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Leave out axes of one: (N, classes, 1, 1) of a network that ends with a convolution.

    And let (N) be one number for each image, and (classes) be those of a single one.
    """
    if outputs.ndim == 1 and len(outputs) != count == 1:
        return outputs[None]
    inner = outputs.shape[1:]
    if len(outputs.shape[:1]) and sum(size != 1 for size in inner) <= 1:
        return outputs.reshape(len(outputs), math.prod(inner))
    return outputs


def _cut(batch: npt.NDArray[Any], size: int) -> list[npt.NDArray[Any]]:
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def told_range(checkpoint: Checkpoint) -> InputRange | None:
    """Return the range of pixels that the side file says."""
    return checkpoint.side.pixel_range if checkpoint.side else None
