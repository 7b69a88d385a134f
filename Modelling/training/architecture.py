"""The network that `train_cnn.py` trains: six convolutions, made for cheap inference on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# Filters, kernel and stride of the first layer. It halves the image at once: most of the cost of a
# small CNN is in its full-size layers, and a stroke is wider than two pixels anyway.
STEM = (32, 5, 2)

# The layers after the stem. Strides replace pooling, which costs a pass over memory.
BODY = ((32, 3, 1), (64, 3, 2), (64, 3, 1), (64, 3, 1), (128, 3, 2))

# Of the moving averages. Keras' 0.99 needs 500 batches to settle; small data sets have fewer.
BATCH_NORM_MOMENTUM = 0.95

# Share of the 128 pooled features that is dropped while training.
DROPOUT = 0.2


def build_cnn(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Build the untrained network.

    Each convolution is followed by batch normalisation and ReLU; both melt into the convolution
    when the model is compiled for serving. Global average pooling keeps the weights few (179,000
    for 28x28 grey images), independent of the image's size.

    Args:
        input_shape: Height, width and channels of an image; pixels are expected in [0, 1].
        classes: How many classes the softmax at the end tells apart.
    """
    import keras
    from keras import layers

    image = keras.Input(input_shape, name="image")
    x = image
    for filters, kernel, stride in (STEM, *BODY):
        x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(DROPOUT)(x)
    # float32 whatever the policy: probabilities are compared across engines to 1e-4.
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="classes")(x)
    return keras.Model(image, probabilities, name="cnn")
