"""Image classifiers behind the seam `Predictor`: bytes of pictures to labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import orjson

from Modelling.errors import CheckpointError, ImageError
from Modelling.images.plain_arrays import Batch
from Modelling.predict_cnn import Classifier
from Modelling.predictor import Answer, Item

# Of an answer's `top` as JSON: half of what a line of the queue may have.
MAX_TOP_BYTES = 512 << 10

# Beside its label, what a class takes there.
BYTES_A_CLASS = 40

# How far the probabilities of a class may be from adding up to 1.
SUM_TOLERANCE = 1e-2


class ImagePredictor:
    """A loaded classifier as a predictor.

    Attributes:
        version: See `Classifier`.
        labels: Names of the classes, by index.
        item_bytes: What a prepared picture takes.
        preparation_ends: Each picture has a budget of its own.
    """

    preparation_ends = True

    def __init__(self, classifier: Classifier, top: int = 0) -> None:
        """Take over a classifier.

        Args:
            classifier: As `load_classifier` makes it.
            top: How many of the most probable classes each answer names; 0 for none.

        Raises:
            CheckpointError: No result could hold so many.
        """
        longest = sorted((len(orjson.dumps(each)) for each in classifier.labels), reverse=True)
        size = sum(each + BYTES_A_CLASS for each in longest[:top])
        if size > MAX_TOP_BYTES:
            raise CheckpointError(
                f"--top {top} of {len(longest)} classes may take {size:,} bytes in each result, "
                f"and {MAX_TOP_BYTES:,} are the most: name fewer"
            )
        self._classifier = classifier
        self._top = top
        self.version = classifier.version
        self.labels = classifier.labels
        self.item_bytes = 4 * math.prod(classifier.input_shape)

    def warm_up(self) -> None:
        """Classify noise: a model that diverged in training shall not answer.

        Raises:
            CheckpointError: The answers are no probabilities.
        """
        noise = np.random.default_rng(0).random((8, *self._classifier.input_shape), np.float32)
        sums = self._classifier.probabilities(noise).sum(axis=1)
        if not np.isfinite(sums).all() or np.abs(sums - 1.0).max() > SUM_TOLERANCE:
            raise CheckpointError("the model does not answer with probabilities")

    def prepare_batch(self, items: Sequence[Item]) -> tuple[Batch, list[ImageError | None]]:
        """Decode pictures; `white` among an item's attributes says what white is in an array."""
        whites: list[float | None] = []
        wrong: dict[int, ImageError] = {}
        for number, item in enumerate(items):
            try:
                whites.append(_white_of(item))
            except ImageError as error:
                wrong[number] = error
        if not wrong:
            return self._classifier.prepare_batch([item.data for item in items], whites)
        right = [item.data for number, item in enumerate(items) if number not in wrong]
        images, found = self._classifier.prepare_batch(right, whites)
        others = iter(found)
        return images, [
            wrong[number] if number in wrong else next(others) for number in range(len(items))
        ]

    def sizes_of(self, items: Sequence[Item]) -> list[int]:
        """See `predictor.sizes_of`; what stays as it came is no work before the network has it."""
        datas = [item.data for item in items]
        if not any("white" in item.attributes for item in items) and self._classifier.stay_as_sent(
            datas, [None] * len(datas)
        ):
            return [0] * len(items)
        return [max(len(data), self.item_bytes) for data in datas]

    def predict(self, batch: Batch) -> list[Answer]:
        """Name the most probable class of each picture."""
        predictions = self._classifier.predict(batch, self._top)
        answers: list[Answer] = [
            {"label": label, "class_index": index, "confidence": round(confidence, 5)}
            for label, index, confidence in zip(
                predictions.labels,
                predictions.class_indices.tolist(),
                predictions.confidences.tolist(),
                strict=True,
            )
        ]
        for answer, best in zip(answers, predictions.top, strict=False):
            answer["top"] = [
                {"label": label, "probability": round(share, 5)} for label, share in best
            ]
        return answers

    def close(self) -> None:
        """Hold nothing that is not given back by itself."""


def _white_of(item: Item) -> float | None:
    text = item.attributes.get("white")
    if text is None:
        return None
    try:
        white = float(text)
    except ValueError:
        white = math.nan
    if not 0 < white < math.inf:
        raise ImageError(f"the event's white is {text[:40]!r}: no number above 0")
    return white
