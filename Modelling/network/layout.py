"""How pictures are laid out in a network's input, by its sizes and the side file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from Modelling.errors import CheckpointError
from Modelling.images.pixels import Pixels
from Modelling.network.side_file import SideFile
from Modelling.network.tensors import Tensor

# Channels that a picture may have: grey, RGB, RGBA.
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Layout:
    """How a picture is laid out in a network's input.

    Attributes:
        picture: Height, width and channels.
        shape: Sizes of one picture in the tensor.
        channels_first: Whether the channels come before the rows.
    """

    picture: tuple[int, int, int]
    shape: tuple[int, ...]
    channels_first: bool

    def apply(self, images: Pixels) -> Pixels:
        """Lay (N, H, W, C) out as the network takes it."""
        if self.channels_first:
            images = images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images).reshape(len(images), *self.shape)


def layout_of(image: Tensor, side: SideFile | None) -> Layout:
    """Tell how pictures are laid out, by the tensor's sizes and the side file.

    Raises:
        CheckpointError: They do not tell; the text says what to write.
    """
    sizes = image.shape[1:]
    if side is not None and len(sizes) in (1, 2):
        return _flat(image, side.input_shape)
    if len(sizes) == 2:
        height, width = _known(sizes, image)
        return Layout((height, width, 1), (height, width), channels_first=False)
    if len(sizes) != 3:
        raise CheckpointError(
            f"its input {image} holds no images: needed is (N, height, width, channels) or "
            '(N, channels, height, width), or rows of pixels and "input_shape" in the side file'
        )
    first = _channels_first(sizes, side, image)
    if side is not None:
        height, width, channels = side.input_shape
        told = (channels, height, width) if first else (height, width, channels)
        if any(size not in (None, want) for size, want in zip(sizes, told, strict=True)):
            raise CheckpointError(
                f"its input {image} is no {'NCHW' if first else 'NHWC'} of the side file's "
                f"input_shape {list(side.input_shape)}"
            )
        return Layout(side.input_shape, told, first)
    known = _known(sizes, image)
    picture = (known[1], known[2], known[0]) if first else (known[0], known[1], known[2])
    return Layout(picture, known, first)


def _flat(image: Tensor, picture: tuple[int, int, int]) -> Layout:
    sizes = image.shape[1:]
    if all(sizes) and math.prod(size or 1 for size in sizes) != math.prod(picture):
        raise CheckpointError(f"its input {image} does not hold pictures of {picture}")
    shape = tuple(size or 0 for size in sizes) if all(sizes) else (math.prod(picture),)
    return Layout(picture, shape, channels_first=False)


def _channels_first(sizes: tuple[int | None, ...], side: SideFile | None, image: Tensor) -> bool:
    if side is not None and side.layout is not None:
        return side.layout == "NCHW"
    first, last = sizes[0] in CHANNELS, sizes[2] in CHANNELS
    if first == last:
        raise CheckpointError(
            f'its input {image} may be NCHW or NHWC: write "layout" into the side file'
        )
    return first


def _known(sizes: tuple[int | None, ...], image: Tensor) -> tuple[int, ...]:
    if not all(sizes):
        raise CheckpointError(
            f'its input {image} has open sizes: write "input_shape": [height, width, channels] '
            "into the side file"
        )
    return tuple(size or 0 for size in sizes)
