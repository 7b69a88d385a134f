"""Which model answers an image: all replicas agree, and the same image always gets the same.

An image belongs to the canary if the first 8 bytes of SHA-256 of its id, over 2⁶⁴, are below the
canary's share.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from DurableText.program.closing import ClosedAtExit
from Modelling.errors import CheckpointError
from Modelling.predictor import Predictor, labels_of
from Pipeline.serving.live_model import LiveModel

logger = logging.getLogger(__name__)


class Canary(NamedTuple):
    """A model that answers some of the images.

    Attributes:
        file: its checkpoint.
        share: of the images, from 0 to 1.
    """

    file: Path
    share: float


def canary(text: str) -> Canary:
    """Parse `FILE:SHARE`, an option of argparse's."""
    file, _, number = text.rpartition(":")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not file or not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not FILE:SHARE with a share from 0 to 1")
    return Canary(Path(file), share)


def is_of_canary(image_id: str, share: float) -> bool:
    """Tell whether an image is one of the canary's.

    Args:
        image_id: see `image_origin`.
        share: from 0 to 1.
    """
    return int.from_bytes(sha256(image_id.encode()).digest()[:8], "big") < share * 2**64


def tell_if_same(role: str, version: str, served: str) -> None:
    """Say so where a model beside the served one has its version.

    It is the very same file, or Python of one's own whose version does not name the weights.
    """
    if version == served:
        logger.warning(
            "the %s has the version of the served model, %s: results and `python -m DB compare` do "
            "not tell which of the two answered",
            role,
            version,
        )


class BatchShare(NamedTuple):
    """Images of a batch that one model answers, by their numbers in it."""

    predictor: Predictor
    numbers: Sequence[int]


class Served(ClosedAtExit):
    """The model that answers, and the one that answers a share in its place, if there is one."""

    def __init__(self, models: LiveModel, canary: LiveModel | None = None, share: float = 0.0):
        """Share the images out.

        Args:
            models: answers all others.
            canary: answers its share.
            share: from 0 to 1.

        Raises:
            CheckpointError: the two have other labels.
        """
        self._models = models
        self._canary = canary
        self._share = share
        self._rests = False
        if canary is not None and labels_of(models.current()) != labels_of(canary.current()):
            raise CheckpointError(
                f"the canary {canary.version} has other labels than {models.version}: one "
                "stream of results would have two meanings; see their side files"
            )
        if canary is not None:
            tell_if_same("canary", canary.version, models.version)

    @property
    def version(self) -> str:
        """The version of the model that answers."""
        return self._models.version

    @property
    def reloads(self) -> Mapping[str, int]:
        """Checkpoints looked at, by outcome, the canary's as well."""
        canary = self._canary.reloads if self._canary else {}
        return {name: n + canary.get(name, 0) for name, n in self._models.reloads.items()}

    def parts(self, size: int, id_of: Callable[[int], str]) -> Iterator[BatchShare]:
        """Share a batch out; a reload takes over here, between two batches.

        Args:
            size: of the batch.
            id_of: tells the id of an image by its number; asked only where there is a choice.
        """
        if self._canary is None:
            yield BatchShare(self._models.current(), range(size))
            return
        served, canary = self._models.current(), self._canary.current()
        if not self._agree(served, canary):
            yield BatchShare(served, range(size))
            return
        chosen = [is_of_canary(id_of(number), self._share) for number in range(size)]
        for predictor, its in ((served, False), (canary, True)):
            numbers = [number for number, yes in enumerate(chosen) if yes is its]
            if numbers:
                yield BatchShare(predictor, numbers)

    def _agree(self, served: Predictor, canary: Predictor) -> bool:
        """Tell whether both have the same labels; a reload may have changed them."""
        agree = labels_of(served) == labels_of(canary)
        if agree is self._rests:
            self._rests = not agree
            if self._rests:
                logger.error(
                    "the canary %s has other labels than %s: it answers nothing until they are "
                    "the same",
                    canary.version,
                    served.version,
                )
            else:
                logger.info("the canary %s answers its share again", canary.version)
        return agree

    def close(self) -> None:
        """Hold nothing: the models are closed by whoever made them."""
