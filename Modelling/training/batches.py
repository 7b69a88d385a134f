"""What the network sees while it is trained: distorted images, and things that are none of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.network.tensorflow import import_tensorflow
from Modelling.training.augmentation import CLOTHES, HANDWRITING, Augmentation, augment
from Modelling.training.datasets import Dataset
from Modelling.training.outliers import draw_outliers

# Of a training image: how many outliers are drawn. They are distorted anew in every epoch, too.
OUTLIERS_DRAWN = 1 / 3

Indices = npt.NDArray[np.int64]


def augmentation_for(dataset: Dataset) -> Augmentation:
    """Choose distortions that keep an image's meaning: a mirrored 3 means nothing."""
    return CLOTHES if dataset.name == "fashion_mnist" else HANDWRITING


def training_batches(
    dataset: Dataset, chosen: Indices, batch_size: int, seed: int, outliers: float
) -> Any:
    """Yield batches of distorted images and of what is wanted of each, in a new order every epoch.

    What is wanted are probabilities: 1 for an image's class; of an outlier all the same. The images
    stay in memory as bytes; shuffling moves their indices, not their pixels. The order, the
    distortions and the outliers follow from the seed, however many threads do the work.

    Args:
        dataset: What to train on.
        chosen: The indices of its training images that are seen.
        batch_size: How many of them a batch holds.
        seed: The same seed gives the same batches.
        outliers: How many images without a class come on top, as a share of the batch.
    """
    tf = import_tensorflow()
    strength = augmentation_for(dataset)
    images, classes = dataset.train_images, len(dataset.labels)
    targets = np.eye(classes, dtype=np.float32)[dataset.train_classes]
    order = _shuffled(chosen, batch_size, seed)
    if round(batch_size * outliers):
        drawn = draw_outliers(images[chosen], max(1, round(len(chosen) * OUTLIERS_DRAWN)), seed)
        numbers = np.arange(len(images), len(images) + len(drawn))
        images = np.concatenate([images, drawn])
        no_class = np.full((len(drawn), classes), 1 / classes, np.float32)
        targets = np.concatenate([targets, no_class])
        others = _shuffled(numbers, round(batch_size * outliers), seed).repeat()
        order = tf.data.Dataset.zip(order, others).map(lambda *parts: tf.concat(parts, 0))
    pixels, wanted = tf.constant(images), tf.constant(targets)
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)

    def batch(indices: Any, distortion_seed: Any) -> tuple[Any, Any]:
        seen = tf.cast(tf.gather(pixels, indices), tf.float32) / 255.0
        return augment(seen, distortion_seed, strength), tf.gather(wanted, indices)

    batches = tf.data.Dataset.zip(order, seeds)
    return batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _shuffled(indices: Indices, batch_size: int, seed: int) -> Any:
    tf = import_tensorflow()
    order = tf.data.Dataset.from_tensor_slices(indices).shuffle(len(indices), seed=seed)
    return order.batch(min(batch_size, len(indices)), drop_remainder=True)


def accuracy(wanted: Any, given: Any) -> Any:
    """Tell of each image that has a class whether it was found; a metric of Keras' that averages.

    Args:
        wanted: (N, classes) probabilities, of an image without a class all the same.
        given: (N, classes) probabilities.

    Returns:
        (M,) float32, M the number of those with a class: 1 where it was found, 0 where not.
    """
    tf = import_tensorflow()
    found = tf.equal(tf.argmax(wanted, -1), tf.argmax(given, -1))
    classes = wanted.shape[-1]
    # Half way between no class and one.
    has_class = tf.reduce_max(wanted, -1) > (1 + 1 / classes) / 2
    return tf.boolean_mask(tf.cast(found, tf.float32), has_class)


def validation_batches(dataset: Dataset, chosen: Indices) -> Any:
    """Yield images as they are, with their classes."""
    tf = import_tensorflow()
    pixels = dataset.train_images[chosen].astype(np.float32) / np.float32(255)
    classes = np.eye(len(dataset.labels), dtype=np.float32)[dataset.train_classes[chosen]]
    return tf.data.Dataset.from_tensor_slices((pixels, classes)).batch(500)
