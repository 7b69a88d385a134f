"""The networks that `train_cnn.py` trains: convolutions in a row, for cheap inference on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# Filters, kernel and stride of each convolution. Strides replace pooling, which costs a pass over
# memory. No layer has a branch: the last epochs train each through its rounding, one by one.
NETWORKS = {
    # It halves the image at once: most of the cost of a small CNN is in its full-size layers, and
    # a stroke is wider than two pixels anyway.
    "small": ((32, 5, 2), (32, 3, 1), (64, 3, 2), (64, 3, 1), (64, 3, 1), (128, 3, 2)),
    # Texture is finer than a stroke, so the first layer sees every pixel. It takes three to four
    # times the time.
    "wide": ((32, 3, 1), (64, 3, 2), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)),
}

# Of the moving averages. Keras' 0.99 needs 500 batches to settle; small data sets have fewer.
BATCH_NORM_MOMENTUM = 0.95

# Share of the pooled features that is dropped while training.
DROPOUT = 0.2


def build_cnn(
    input_shape: tuple[int, int, int], classes: int, network: str = "small", *, quick: bool = False
) -> keras.Model:
    """Build the untrained network.

    Each convolution is followed by batch normalisation and ReLU; both melt into the convolution
    when the model is compiled for serving. Global average pooling keeps the weights few (179,000
    of the small network for grey images, 428,000 of the wide one), independent of the image's size.

    Args:
        input_shape: Height, width and channels of an image; pixels are expected in [0, 1].
        classes: How many classes the softmax at the end tells apart.
        network: One of `NETWORKS`.
        quick: Whether it is only to be trained, with `quick_layers`: its weights are those of the
            other form, in the same order, but a file of it could not be opened elsewhere.
    """
    import keras
    from keras import layers

    convolution, normalisation = layers.Conv2D, layers.BatchNormalization
    if quick:
        from Modelling.training.quick_layers import QuickNormalisation, quick_convolution

        convolution, normalisation = quick_convolution, QuickNormalisation
    image = keras.Input(input_shape, name="image")
    x = image
    for filters, kernel, stride in NETWORKS[network]:
        x = convolution(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
        x = normalisation(momentum=BATCH_NORM_MOMENTUM)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(DROPOUT)(x)
    # float32 whatever the policy: probabilities are compared across engines to 1e-4.
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="classes")(x)
    return keras.Model(image, probabilities, name="cnn")
