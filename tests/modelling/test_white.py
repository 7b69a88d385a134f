"""What white is: by the format where it has one, else by a rule that no single pixel decides."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from Modelling.data_preparation import ImageError, Preparation, decode_image, encode_npy
from Modelling.images.batch_preparation import prepare_batch
from Modelling.images.digits import DIGITS
from Modelling.images.pixels import unit_range
from Modelling.network.checkpoint import RESIZE
from Modelling.predict_cnn import Classifier

Encode = Callable[..., bytes]
Mnist = tuple[np.ndarray, np.ndarray]


def ramp(white: float, dtype: type) -> np.ndarray:
    return np.linspace(0, white, 1024).astype(dtype).reshape(32, 32)


@pytest.mark.parametrize("over", [1.0, 1.02, 1.1])
@pytest.mark.parametrize("white", [1, 16, 255, 65_535])
def test_floats_may_shoot_over_white_as_bicubic_resizing_leaves_them(
    over: float, white: float
) -> None:
    image = ramp(white, np.float32)
    image[10:12] = white * over  # more than a glint
    image[20:22] = -white * (over - 1)
    assert unit_range(image).mean() == pytest.approx(0.5, abs=0.05)
    assert (unit_range(image)[10] == 1).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("white", [1, 16])
def test_black_and_white_and_seventeen_greys_are_not_black(white: int, dtype: type) -> None:
    image = ramp(white, dtype)
    assert unit_range(image).max() == 1


@pytest.mark.parametrize("side", [28, 30])
def test_bytes_of_zero_and_one_are_a_mask(side: int) -> None:
    mask = np.arange(side * side, dtype=np.uint8).reshape(side, side) % 2
    preparation = Preparation((28, 28, 1), RESIZE)
    (pixels, whole), _ = prepare_batch([encode_npy(mask), encode_npy(mask * 255)], preparation)
    assert np.allclose(pixels, whole, atol=1 / 255)
    assert pixels.max() > 0.4
    (dark,), _ = prepare_batch([encode_npy(mask)], preparation, [255.0])
    assert dark.max() <= 1 / 255 + 1e-6


def test_scikit_learns_digits_are_read(mnist: Mnist, classifier: Classifier) -> None:
    images = [
        np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)) / 255 * 16
        for image in mnist[0][:200]
    ]
    for dtype in (np.float64, np.int64):
        datas = [encode_npy(np.rint(image).astype(dtype)) for image in images]
        prepared, errors = classifier.prepare_batch(datas)
        assert not any(errors)
        right = (classifier.predict(prepared).class_indices == mnist[1][:200]).mean()
        assert right >= 0.95


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int64])
def test_one_pixel_does_not_tip_what_white_is(dtype: type) -> None:
    image = ramp(1 if dtype is np.float32 else 1000, dtype)
    before = unit_range(image)
    image[5, 5] = 250 if dtype is np.float32 else 30_000
    after = unit_range(image)
    assert after[5, 5] == 1
    after[5, 5] = before[5, 5]
    assert np.array_equal(before, after)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bits_of_a_file_are_sixteen_bits_at_any_exposure(
    file_format: str, encode: Encode
) -> None:
    for exposure in (1.0, 0.25, 0.06):
        image = ramp(65_535 * exposure, np.uint16)
        decoded = decode_image(encode(image, file_format))
        assert decoded.max() == pytest.approx(exposure, abs=0.002)
        # And so do large ones, which are reduced strip by strip.
        large = np.tile(image, (40, 40))
        assert decode_image(encode(large, file_format), enough=100).max() <= exposure + 0.002


def test_a_tiff_may_say_what_its_white_is() -> None:
    image = Image.fromarray(ramp(4095, np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", tiffinfo={281: 4095})
    assert decode_image(buffer.getvalue()).max() == 1


def test_who_knows_what_white_is_says_so(encode: Encode) -> None:
    for dtype in (np.uint8, np.uint16, np.float32):
        image = ramp(50, dtype)
        assert decode_image(encode_npy(image), white=100).max() == pytest.approx(0.5)
    deep = encode(ramp(4000, np.uint16), "PNG")
    assert decode_image(deep, white=4000).max() == 1
    # Of a picture of eight bits nothing need be said.
    assert decode_image(encode(ramp(255, np.uint8), "PNG"), white=4000).max() == 255


def test_the_white_of_an_image_comes_before_that_of_the_side_file() -> None:
    image = encode_npy(np.full((8, 8), 50, np.uint8))
    prepared, errors = prepare_batch(
        [image, image, image], Preparation((8, 8, 1), white=200), [None, 100, 50]
    )
    assert not any(errors)
    assert prepared[:, 0, 0, 0] == pytest.approx([0.25, 0.5, 1.0])
    plain, _ = prepare_batch([image], Preparation((8, 8, 1)))
    assert plain[0, 0, 0, 0] == pytest.approx(50 / 255)


def test_a_dark_digit_of_known_white_is_still_a_digit(mnist: Mnist, classifier: Classifier) -> None:
    dark = [encode_npy((image // 4).astype(np.uint8)) for image in mnist[0][:100]]
    prepared, errors = prepare_batch(dark, Preparation((28, 28, 1), DIGITS), [63] * 100)
    assert not any(errors)
    assert (classifier.predict(prepared).class_indices == mnist[1][:100]).mean() >= 0.97


@pytest.mark.parametrize("value", [np.nan, np.inf, -60.0])
def test_known_white_makes_no_brightness_of_what_is_none(value: float) -> None:
    image = ramp(50, np.float32)
    image[3, 3] = value
    with pytest.raises(ImageError):
        decode_image(encode_npy(image), white=100)
