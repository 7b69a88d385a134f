"""A checkpoint that was loaded to classify images, with all that its side file says of it.

Nothing here is bound to MNIST: input shape, labels and preprocessing come from the model and its
side file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from Modelling.data_preparation import preparation_of
from Modelling.errors import CheckpointError, ImageError, UnpredictableError, shortened
from Modelling.images.batch_preparation import Decoders, prepare_batch
from Modelling.images.pixels import Pixels
from Modelling.images.plain_arrays import Batch, stay_as_sent
from Modelling.network.checkpoint import (
    DEFAULT_CHECKPOINT,
    RESIZE,
    Checkpoint,
    SideFile,
    open_checkpoint,
)
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES
from Modelling.network.engine import Engine, open_engine
from Modelling.network.input_range import InputRange

# Batch sizes predicted before the first real image: the smallest, and LiteRT's largest.
WARM_UP_BATCHES = (1, 64)


@dataclass(frozen=True)
class Predictions:
    """What a batch of N images shows.

    Attributes:
        labels: Name of the most probable class of each image.
        class_indices: Its index, (N,) int64.
        confidences: Its probability, (N,) float32.
        top: The most probable classes of each image with their probabilities, best first; empty
            where nobody asked for them.
    """

    labels: list[str]
    class_indices: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float32]
    top: list[list[tuple[str, float]]] = field(default_factory=list)


class Classifier:
    """A loaded checkpoint. Made by `load_classifier`.

    `prepare` and `prepare_batch` may be called from any thread, `predict` and `probabilities` from
    one at a time. While the network runs, Python's global lock is free: other threads decode and
    do I/O meanwhile.

    Attributes:
        input_shape: Height, width and channels of an image.
        labels: Names of the classes, by index.
        version: Name and hash, as in `mnist_cnn_model@3f2a9c1d0b77`, with `+int8` where the
            quantised form answers.
        preprocessing: `digits` or `resize`; see `data_preparation.prepare_image`.
        preparation: That, and all else that images are made into.
        engine: What runs the network: `int8`, `float32` or `tensorflow`.
    """

    def __init__(
        self, checkpoint: Checkpoint, engine: Engine, decoders: Decoders | None = None
    ) -> None:
        """Put together what was loaded.

        Args:
            checkpoint: What it is.
            engine: What runs its network.
            decoders: Where batches are prepared; None for the thread that asks.

        Raises:
            CheckpointError: The side file is of another model.
        """
        side = checkpoint.side or SideFile(
            sha256=checkpoint.sha256,
            labels=tuple(str(index) for index in range(engine.classes)),
            input_shape=engine.input_shape,
            preprocessing=RESIZE,
        )
        if len(side.labels) != engine.classes:
            raise CheckpointError(
                f"{checkpoint.path} tells {engine.classes} classes apart, but its side file names "
                f"{len(side.labels)} labels"
            )
        if side.input_shape != engine.input_shape:
            raise CheckpointError(
                f"{checkpoint.path} takes images of {engine.input_shape}, but its side file says "
                f"{side.input_shape}"
            )
        self._engine = engine
        self.input_shape = side.input_shape
        self.labels = side.labels
        self.preprocessing = side.preprocessing
        self.preparation = preparation_of(side)
        self._temperature = side.temperature or 1.0
        self._decoders = decoders
        self.engine = engine.name
        self.version = checkpoint.version + ("+int8" if engine.name == "int8" else "")

    def warm_up(self) -> None:
        """Run the network on nothing, so that the first image does not pay for its set-up."""
        for size in WARM_UP_BATCHES:
            self._engine.run(np.zeros((size, *self.input_shape), np.float32))

    def prepare(self, data: bytes) -> Pixels:
        """Make the bytes of one image into the model's input.

        Args:
            data: A `.npy` file, or a PNG, JPEG, GIF, WebP, TIFF, BMP, AVIF, JPEG 2000 or HEIC;
                the bytes decide.

        Returns:
            (H, W, C) float32 in [0, 1].

        Raises:
            ImageError: They are no image that can be classified; the text says why.
        """
        return self.preparation.of(data).pixels

    def prepare_batch(
        self, datas: Sequence[bytes], whites: Sequence[float | None] | None = None
    ) -> tuple[Batch, list[ImageError | None]]:
        """Make the bytes of many images into one batch; a bad image costs only itself.

        Args:
            datas: The bytes of each; see `prepare`.
            whites: What is white in each, None where that is not known.

        Returns:
            The inputs of the good images, in their order, (number of good images, H, W, C) float32
            in [0, 1], in memory as the engine takes it; and for each of `datas` its error, or None
            if it is good. So row k of the batch belongs to the k-th entry whose error is None.
        """
        return prepare_batch(
            datas, self.preparation, whites, self._decoders,
            self._engine.channels_first, self._engine.in_pieces,
        )  # fmt: skip

    def stay_as_sent(self, datas: Sequence[bytes], whites: Sequence[float | None]) -> bool:
        """Tell whether a batch of these takes no memory beside them; see `prepare_batch`."""
        return self._engine.in_pieces and stay_as_sent(datas, whites, self.preparation)

    def probabilities(self, images: Batch) -> npt.NDArray[np.float32]:
        """Predict the probabilities of all classes.

        Args:
            images: (N, H, W, C) float32 in [0, 1], N >= 0.

        Returns:
            (N, classes) float32; rows sum to 1.

        Raises:
            ValueError: The array has another shape or type.
            UnpredictableError: The model answers NaN or infinity for one of them.
        """
        if images.shape[1:] != self.input_shape or images.dtype != np.float32:
            raise ValueError(
                f"images are {images.dtype} {images.shape}; the model takes float32 "
                f"(N, {', '.join(map(str, self.input_shape))})"
            )
        probabilities = self._engine.run(images)
        if not np.isfinite(probabilities).all():
            wrong = int((~np.isfinite(probabilities)).any(1).sum())
            raise UnpredictableError(
                f"the model answers NaN or infinity for {wrong} of {len(images)} images"
            )
        if self._temperature != 1.0:
            # The largest becomes 1: of none that is 0 in float32 could the rest be told apart.
            scaled = probabilities / probabilities.max(1, keepdims=True)
            probabilities = scaled ** np.float32(1 / self._temperature)
            probabilities /= probabilities.sum(1, keepdims=True)
        return probabilities

    def predict(self, images: Batch, top: int = 0) -> Predictions:
        """Predict the most probable class of each image; see `probabilities`.

        Args:
            images: See `probabilities`.
            top: How many of the most probable classes are named for each; all if there are fewer.
        """
        probabilities = self.probabilities(images)
        indices = probabilities.argmax(1) if len(images) else np.empty(0, np.int64)
        confidences = probabilities[np.arange(len(images)), indices]
        return Predictions(
            [self.labels[index] for index in indices],
            indices,
            confidences,
            [self._best(row, top) for row in probabilities] if top else [],
        )

    def _best(self, probabilities: npt.NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        order = np.argsort(-probabilities, kind="stable")[:count]  # as argmax: the first of equals
        return [(self.labels[index], float(probabilities[index])) for index in order]


def load_classifier(
    checkpoint: Path | str | Checkpoint = DEFAULT_CHECKPOINT,
    *,
    threads: int | None = None,
    engine: str | None = None,
    allow_code: bool = False,
    decoders: Decoders | None = None,
    input_range: InputRange | None = None,
    max_bytes: int = DEFAULT_MAX_MODEL_BYTES,
) -> Classifier:
    """Load a checkpoint and warm it up.

    Args:
        checkpoint: See `open_checkpoint`; or what that has found. Its side file (same name,
            `.json`) is used if there is one; without it the labels are the class indices.
        threads: CPU threads for the network, 1 to 1,024; all cores if None.
        engine: `int8`, `float32` or `tensorflow`; the fastest that there is if None.
        allow_code: Also load models whose layers carry code. Only for files you made yourself.
        decoders: Where batches of images are prepared, a `DecodingPool` for bytes from strangers;
            None for the thread that asks.
        input_range: Of the pixels that the model wants; what its side file says, else what it
            shows, if None.
        max_bytes: That the model may take, by what its files declare.

    Raises:
        CheckpointError: Missing, damaged, unsafe, too large, no image classifier, changed while it
            was read, or not matching its side file for 5 s. The text is one line.
        ValueError: So many threads cannot be had.
    """
    if isinstance(checkpoint, Checkpoint):
        found = checkpoint
    else:
        found = open_checkpoint(checkpoint, max_bytes=max_bytes)
    try:
        opened = open_engine(
            found,
            engine=engine,
            threads=threads,
            allow_code=allow_code,
            input_range=input_range,
            max_bytes=max_bytes,
        )
        classifier = Classifier(found, opened, decoders)
        _warm_up(classifier, found.path)
    except OSError as error:  # it was taken away, or its disk fails
        raise CheckpointError(
            f"{found.path}: cannot be read: {error.strerror or shortened(error)}"
        ) from None
    except MemoryError:
        raise CheckpointError(
            f"{found.path}: it takes more memory than there is, or is damaged"
        ) from None
    found.require_unchanged()
    return classifier


def _warm_up(classifier: Classifier, path: Path) -> None:
    try:
        classifier.warm_up()
    except (ValueError, RuntimeError) as error:  # as the runtimes say that they cannot
        raise CheckpointError(f"{path}: it cannot be run: {shortened(error)}") from None
