"""Many published images into one batch, fast for the kind that comes by the thousand.

Most messages are `.npy` arrays of exactly the model's size; see `plain_arrays`. Everything else
takes the general way, image by image: in this thread, or shared out to processes where a picture
that crashes or hangs its decoder costs itself alone. All ways give the same pixels and the same
errors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from Modelling.data_preparation import Preparation, Prepared
from Modelling.errors import ImageError, shortened
from Modelling.images.plain_arrays import (
    AsSent,
    Batch,
    Whites,
    empty_rows,
    fill_with_plain_arrays,
    stay_as_sent,
)

logger = logging.getLogger(__name__)


class Decoders(Protocol):
    """Decodes and prepares images somewhere else; see `decoding_pool`."""

    def prepare(
        self, datas: Sequence[bytes], whites: Whites, preparation: Preparation
    ) -> Sequence[Prepared | ImageError]:
        """Prepare each image, in order."""
        ...


def prepare_batch(
    datas: Sequence[bytes],
    preparation: Preparation,
    whites: Whites | None = None,
    decoders: Decoders | None = None,
    channels_first: bool = False,
    in_pieces: bool = False,
) -> tuple[Batch, list[ImageError | None]]:
    """Prepare a batch; see `Classifier.prepare_batch`.

    Args:
        datas: The images' bytes.
        preparation: What the model wants.
        whites: What is white in each, if it is known.
        decoders: Where the general way is gone; None for this thread.
        channels_first: Lay each image out in memory channel by channel. The array is (N, H, W, C)
            all the same.
        in_pieces: Leave large plain arrays to the threads that take pieces of the batch.
    """
    whites = whites or [None] * len(datas)
    errors: list[ImageError | None] = [None] * len(datas)
    if in_pieces and datas and stay_as_sent(datas, whites, preparation):
        return AsSent(datas, preparation.input_shape, channels_first), errors
    images = empty_rows(len(datas), preparation.input_shape, channels_first)
    general = fill_with_plain_arrays(images, datas, whites, preparation)
    cut_off = 0
    for index, prepared in zip(
        general,
        _prepare_others(
            [datas[i] for i in general], [whites[i] for i in general], preparation, decoders
        ),
        strict=True,
    ):
        if isinstance(prepared, ImageError):
            errors[index] = prepared
        else:
            images[index] = prepared.pixels
            cut_off += prepared.cut_off
    if cut_off:
        logger.warning("%d JPEGs lack their last bytes: what is missing of them is grey", cut_off)
    if any(errors):
        images = images[[index for index, error in enumerate(errors) if error is None]]
    return images, errors


def _prepare_others(
    datas: Sequence[bytes], whites: Whites, preparation: Preparation, decoders: Decoders | None
) -> Sequence[Prepared | ImageError]:
    if decoders is not None and datas:
        return decoders.prepare(datas, whites, preparation)
    return [
        prepare_or_error(data, white, preparation)
        for data, white in zip(datas, whites, strict=True)
    ]


def prepare_or_error(
    data: bytes, white: float | None, preparation: Preparation
) -> Prepared | ImageError:
    """Prepare one image; whatever goes wrong is its error."""
    try:
        return preparation.of(data, white)
    except ImageError as error:
        return error
    except Exception as error:  # noqa: BLE001 - no image may cost the others, whatever it hits
        return ImageError(
            "image that cannot be prepared", f"{type(error).__name__}: {shortened(error)}"
        )
