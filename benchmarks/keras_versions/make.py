"""Saves small checkpoints with whatever Keras is installed, and what each answers.

    python make.py FOLDER       in an environment of that Keras; Python 3.6 and later

Each architecture is written as FOLDER/<version>/<name>.h5 (and .keras where that Keras knows it),
with its answers to fixed images as <name>.npy. It stands alone: old environments have nothing else.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

LEGACY = os.environ.get("LEGACY_KERAS") == "1"

if LEGACY:
    import tf_keras as keras
else:
    try:
        from tensorflow import keras

        keras.layers  # noqa: B018 - loaded late
    except (ImportError, AttributeError):
        import keras

    if os.environ.get("STANDALONE_KERAS") == "1":
        import keras

layers = keras.layers
SIZE = 32


def version():
    found = getattr(keras, "__version__", None)
    if found is None:  # `tensorflow.keras` of 2.13 to 2.15 does not say
        found = __import__("keras").__version__
    return found.replace("-tf", "")


def rescaling(*arguments, **options):
    kind = getattr(layers, "Rescaling", None)
    if kind is None:
        kind = layers.experimental.preprocessing.Rescaling
    return kind(*arguments, **options)


def plain():
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", input_shape=(SIZE, SIZE, 3)),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )


def depthwise():
    return keras.Sequential(
        [
            layers.DepthwiseConv2D(3, input_shape=(SIZE, SIZE, 3)),
            layers.SeparableConv2D(4, 3),
            layers.BatchNormalization(axis=-1),
            layers.LeakyReLU(0.2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def nested():
    inner = keras.Sequential(
        [
            layers.Conv2D(4, 3, input_shape=(SIZE, SIZE, 3)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    image = keras.Input((SIZE, SIZE, 3))
    return keras.Model(image, layers.Dense(3, activation="softmax")(inner(image)))


def teachable():
    """As Teachable Machine exports it: a Sequential of Sequentials around a MobileNet."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="Conv1")(image)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.999, name="bn_Conv1")(x)
    x = layers.ReLU(6.0, name="Conv1_relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="expanded_depthwise")(x)
    y = layers.BatchNormalization(name="expanded_bn")(y)
    x = layers.Add(name="block_add")([x, y])
    base = keras.Model(image, x, name="model1")
    features = keras.Sequential([base, layers.GlobalAveragePooling2D(name="gap")], name="seq1")
    head = keras.Sequential(
        [
            layers.Dense(5, activation="relu", input_shape=(4,)),
            layers.Dense(3, activation="softmax", use_bias=False),
        ],
        name="seq3",
    )
    return keras.Sequential([features, head], name="seq4")


def mixed_precision():
    policies = keras.mixed_precision
    set_policy = getattr(policies, "set_global_policy", None)
    if set_policy is None:
        set_policy = policies.experimental.set_policy
    set_policy("mixed_float16")
    try:
        return keras.Sequential(
            [
                layers.Conv2D(4, 3, activation="relu", input_shape=(SIZE, SIZE, 3)),
                layers.BatchNormalization(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3),
                layers.Activation("softmax", dtype="float32"),
            ]
        )
    finally:
        set_policy("float32")


def augmentation():
    module = layers if hasattr(layers, "RandomFlip") else layers.experimental.preprocessing
    return keras.Sequential(
        [
            module.RandomFlip("horizontal", input_shape=(SIZE, SIZE, 3)),
            module.RandomRotation(0.1),
            rescaling(1.0 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def operations():
    image = keras.Input((SIZE, SIZE, 3))
    x = image / 127.5 - 1.0
    x = layers.Conv2D(4, 3)(x)
    x = layers.GlobalAveragePooling2D()(x * 2.0)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


def compiled():
    def loss(truth, answer):
        return keras.backend.mean(answer - truth)

    model = plain()
    model.compile("adam", loss=loss if version() < "3" else "categorical_crossentropy")
    return model


def application(name):
    def build():
        kind = getattr(keras.applications, name)
        return kind(weights=None, input_shape=(SIZE, SIZE, 3), classes=3)

    return build


ARCHITECTURES = {
    "plain": plain,
    "depthwise": depthwise,
    "nested": nested,
    "teachable": teachable,
    "mixed": mixed_precision,
    "augmentation": augmentation,
    "operations": operations,
    "compiled": compiled,
    "VGG16": application("VGG16"),
    "MobileNet": application("MobileNet"),
    "MobileNetV2": application("MobileNetV2"),
    "MobileNetV3Small": application("MobileNetV3Small"),
    "EfficientNetB0": application("EfficientNetB0"),
    "EfficientNetV2B0": application("EfficientNetV2B0"),
    "ResNet50": application("ResNet50"),
    "DenseNet121": application("DenseNet121"),
    "ConvNeXtTiny": application("ConvNeXtTiny"),
}


def pictures():
    """Make pictures that differ: brighter and brighter, with stripes of other widths."""
    random = np.random.RandomState(0)
    images = random.uniform(0, 1, (4, SIZE, SIZE, 3))
    for number in range(4):
        images[number, :, :: number + 2] *= 0.2
        images[number] *= number + 1
    return images.astype("float32")


def change_weights(model, images):
    """Give a model weights that are not those of a new one: what is lost or swapped shows.

    And answers that are not all the same, nor sure of anything: what differs shows.
    """
    random = np.random.RandomState(2)
    changed = []
    for weight in model.get_weights():
        noise = random.standard_normal(weight.shape)
        if weight.size and np.ptp(weight) == 0:  # a bias, or what a normalisation remembers
            changed.append(weight + 0.1 * np.abs(noise))
        else:
            changed.append(weight * (1 + 0.1 * noise))
    model.set_weights(changed)
    for _ in range(40):
        answers = answers_of(model, images)
        if np.isfinite(answers).all() and answers.max() < 0.9:
            break
        # Smaller everywhere where the numbers overflow, else in the last layer.
        last = max(i for i, each in enumerate(changed) if each.ndim == 2)
        where = [last] if np.isfinite(answers).all() else range(len(changed))
        for place in where:
            if changed[place].ndim > 1:
                changed[place] = changed[place] * 0.7
        model.set_weights(changed)


def answers_of(model, images):
    return np.asarray(model.predict(images, verbose=0))


def main(folder, names):
    target = Path(folder) / version()
    target.mkdir(parents=True, exist_ok=True)
    images = pictures()
    for name in names or ARCHITECTURES:
        path = str(target / name)
        if Path(path + ".npy").exists():
            continue
        try:
            np.random.seed(1)
            model = ARCHITECTURES[name]()
            change_weights(model, images)
            model.save(path + ".h5")
            if tuple(int(part) for part in version().split(".")[:2]) >= (2, 12):
                model.save(path + ".keras")
            np.save(path + ".npy", answers_of(model, images))
        except Exception as error:  # noqa: BLE001 - this Keras does not have it
            print(version(), name, type(error).__name__, str(error)[:100])
    np.save(str(Path(folder) / "images.npy"), images)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
