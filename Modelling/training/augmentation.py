"""Random distortions of training images, a whole batch at a time, as a TensorFlow graph.

Rotation, zoom, shear, shift and elastic waves are one resampling of the image, not four: the
coordinates are distorted, and the image is read once, with bilinear interpolation. Where texture
tells classes apart an image is only moved by whole pixels, because resampling blurs. Elastic
distortion follows Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks"
(ICDAR 2003); random erasing follows Zhong et al. (2017), https://arxiv.org/abs/1708.04896.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are distorted."""

    # Largest turn either way, in degrees.
    rotation: float = 0.0
    # Largest change of size; 0.1 means from 0.9 to 1.1, each axis for itself.
    zoom: float = 0.0
    # Largest slant, as a tangent.
    shear: float = 0.0
    # Largest displacement, in pixels; whole ones if the image is not resampled anyway.
    shift: float = 0.0
    # Standard deviation of the elastic displacement at its control points, in pixels.
    waves: float = 0.0
    # Whether half of the images are mirrored left to right.
    mirror: bool = False
    # Share of the images that lose a random rectangle.
    erasing: float = 0.0

    @property
    def resamples(self) -> bool:
        """Whether a pixel may be read between others."""
        return any((self.rotation, self.zoom, self.shear, self.waves))


HANDWRITING = Augmentation(rotation=10, zoom=0.1, shear=0.12, shift=1.5, waves=0.6)
CLOTHES = Augmentation(shift=2, mirror=True, erasing=0.25)

# Along each axis. Fewer bend the whole image, more make its strokes tremble.
ELASTIC_CONTROL_POINTS = 6


def augment(images: tf.Tensor, seed: tf.Tensor, strength: Augmentation) -> tf.Tensor:
    """Distort each image of a batch in a way of its own.

    Args:
        images: (N, H, W, C) float32, background 0.
        seed: Two int64; the same seed gives the same distortions.
        strength: Limits of the distortions.

    Returns:
        (N, H, W, C) float32; what comes from outside an image is 0.
    """
    import tensorflow as tf

    seeds = tf.random.split(seed, 6)
    if strength.resamples:
        images = _bilinear(images, *_distorted_coordinates(images, seeds, strength))
    elif strength.shift:
        images = _shift(images, seeds[2], round(strength.shift))
    if strength.mirror:
        mirrored = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seeds[4]) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1], images)
    if strength.erasing:
        images = _erase(images, seeds[5], strength.erasing)
    return images


def _shift(images: tf.Tensor, seed: tf.Tensor, most: int) -> tf.Tensor:
    """Move each image by up to so many whole pixels either way."""
    import tensorflow as tf

    height, width, channels = (int(size) for size in images.shape[1:])
    framed = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    moved = tf.random.stateless_uniform(
        [2, tf.shape(images)[0], 1, 1], seed, -most, most + 1, tf.int32
    )
    rows = tf.clip_by_value(tf.range(height)[:, None] + moved[0], -1, height) + 1
    columns = tf.clip_by_value(tf.range(width)[None, :] + moved[1], -1, width) + 1
    flat = tf.reshape(framed, [-1, (height + 2) * (width + 2), channels])
    return tf.gather(flat, rows * (width + 2) + columns, batch_dims=1)


def _distorted_coordinates(
    images: tf.Tensor, seeds: tf.Tensor, strength: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each pixel of the new image is read in the old one: rows and columns, (N, H, W)."""
    import tensorflow as tf

    count = tf.shape(images)[0]
    height, width = int(images.shape[1]), int(images.shape[2])

    def uniform(index: int, amounts: int) -> list[tf.Tensor]:
        drawn = tf.random.stateless_uniform([amounts, count, 1, 1], seeds[index], -1.0, 1.0)
        values: list[tf.Tensor] = tf.unstack(drawn)
        return values

    turn, slant = uniform(0, 2)
    zoom_rows, zoom_columns = uniform(1, 2)
    shift_rows, shift_columns = uniform(2, 2)
    angle = turn * np.deg2rad(strength.rotation)
    y = tf.reshape(tf.range(height, dtype=tf.float32) - (height - 1) / 2, [1, height, 1])
    x = tf.reshape(tf.range(width, dtype=tf.float32) - (width - 1) / 2, [1, 1, width])
    x = x + y * slant * strength.shear
    rows = (tf.cos(angle) * y + tf.sin(angle) * x) / (1 + zoom_rows * strength.zoom)
    columns = (tf.cos(angle) * x - tf.sin(angle) * y) / (1 + zoom_columns * strength.zoom)
    rows += shift_rows * strength.shift + (height - 1) / 2
    columns += shift_columns * strength.shift + (width - 1) / 2

    points = ELASTIC_CONTROL_POINTS
    waves = tf.random.stateless_normal([2, count, points, points], seeds[3]) * strength.waves
    waves = tf.einsum(
        "hp,anpq,wq->anhw", _interpolation(height, points), waves, _interpolation(width, points)
    )
    return rows + waves[0], columns + waves[1]


def _interpolation(size: int, points: int) -> npt.NDArray[np.float32]:
    """Matrix (size, points) that spreads control points smoothly over `size` pixels."""
    position = np.linspace(0, points - 1, size)[:, None] - np.arange(points)[None, :]
    weight = np.exp(-(position**2))
    # Unit length, so that pixels move as far on average as the control points do.
    normalised: npt.NDArray[np.float32] = weight / np.sqrt((weight**2).sum(1, keepdims=True))
    return normalised.astype(np.float32)


def _bilinear(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Read the images at fractional coordinates; beyond the border they are 0."""
    import tensorflow as tf

    height, width, channels = (int(size) for size in images.shape[1:])
    # A frame of zeros: clamped coordinates then read background.
    framed = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    flat = tf.reshape(framed, [-1, (height + 2) * (width + 2), channels])
    rows = tf.clip_by_value(rows + 1, 0.0, height + 0.999)
    columns = tf.clip_by_value(columns + 1, 0.0, width + 0.999)
    top, left = tf.floor(rows), tf.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    index = tf.cast(top, tf.int32) * (width + 2) + tf.cast(left, tf.int32)

    def pixel(offset: int) -> tf.Tensor:
        return tf.gather(flat, index + offset, batch_dims=1)

    upper = pixel(0) * (1 - right) + pixel(1) * right
    lower = pixel(width + 2) * (1 - right) + pixel(width + 3) * right
    return upper * (1 - down) + lower * down


def _erase(images: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Replace a random rectangle, up to half as high and wide as the image, with noise."""
    import tensorflow as tf

    count = tf.shape(images)[0]
    height, width = int(images.shape[1]), int(images.shape[2])
    box_seed, noise_seed = tf.unstack(tf.random.split(seed, 2))
    drawn = tf.random.stateless_uniform([5, count, 1, 1], box_seed)
    box_height, box_width = 2 + drawn[0] * (height / 2 - 2), 2 + drawn[1] * (width / 2 - 2)
    top, left = drawn[2] * (height - box_height), drawn[3] * (width - box_width)
    y = tf.reshape(tf.range(height, dtype=tf.float32), [1, height, 1])
    x = tf.reshape(tf.range(width, dtype=tf.float32), [1, 1, width])
    inside = (y >= top) & (y < top + box_height) & (x >= left) & (x < left + box_width)
    inside &= drawn[4] < share
    noise = tf.random.stateless_uniform(tf.shape(images), noise_seed)
    return tf.where(inside[..., None], noise, images)
