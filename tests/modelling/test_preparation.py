"""Pixels of any kind become what the model was trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from Modelling import data_preparation
from Modelling.data_preparation import (
    ImageError,
    Preparation,
    decode_image,
    encode_npy,
    prepare_image,
)
from Modelling.images.batch_preparation import prepare_batch
from Modelling.images.decoding import Decoded, decode
from Modelling.images.digits import mnist_form_mask
from Modelling.network.checkpoint import DIGITS, RESIZE
from Modelling.predict_cnn import Classifier

Encode = Callable[..., bytes]
Mnist = tuple[np.ndarray, np.ndarray]

SHAPE = (28, 28, 1)
MNISTS = Preparation(SHAPE, DIGITS)


def enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC))


def coloured(image: np.ndarray) -> np.ndarray:
    """Blue ink on yellowish paper."""
    ink = image[..., None] / 255
    return (ink * (30, 60, 200) + (1 - ink) * (250, 240, 200)).astype(np.uint8)


def off_centre(image: np.ndarray) -> np.ndarray:
    sheet = np.full((90, 120), 255, np.uint8)
    sheet[5:33, 70:98] = 255 - image
    return sheet


def test_images_in_mnists_own_form_pass_bit_for_bit(mnist: Mnist) -> None:
    images = mnist[0]
    prepared, errors = prepare_batch([encode_npy(image) for image in images], MNISTS)
    assert not any(errors)
    assert np.array_equal(prepared, images[..., None].astype(np.float32) / np.float32(255))


def test_saved_as_png_they_pass_bit_for_bit_too(mnist: Mnist, encode: Encode) -> None:
    images = mnist[0][:500]
    prepared, _ = prepare_batch([encode(image, "PNG") for image in images], MNISTS)
    assert np.array_equal(prepared, images[..., None].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("kind", ["array", "PNG"])
def test_so_do_their_negatives(kind: str, mnist: Mnist, encode: Encode) -> None:
    images = mnist[0][:500]
    datas = [
        encode_npy(255 - image) if kind == "array" else encode(255 - image, kind)
        for image in images
    ]
    prepared, _ = prepare_batch(datas, MNISTS)
    assert np.array_equal(prepared, images[..., None].astype(np.float32) / np.float32(255))


def test_not_one_of_mnists_images_is_taken_for_anything_else(mnist: Mnist) -> None:
    assert mnist_form_mask(mnist[0]).all()
    assert not mnist_form_mask(255 - mnist[0]).any()


@pytest.mark.parametrize(
    ("paper", "ink"),
    [(110, 20), (127, 0), (40, 0), (60, 200), (60, 150), (200, 90), (9, 199), (255, 128)],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_small_image_on_grey_paper_is_read_whichever_is_darker(
    paper: int, ink: int, kind: type, mnist: Mnist, classifier: Classifier
) -> None:
    images, digits = mnist[0][:300], mnist[1][:300]
    toned = paper + np.rint(images / 255 * (ink - paper))
    scale = 1 if kind is np.uint8 else np.float32(255)
    prepared, errors = classifier.prepare_batch(
        [encode_npy((image / scale).astype(kind)) for image in toned]
    )
    assert not any(errors)
    assert (classifier.predict(prepared).class_indices == digits).mean() >= 0.98


# Of how many one is tried: the soak tries more.
EVERY = [25, pytest.param(10, marks=pytest.mark.soak)]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    ("change", "file_format"),
    [
        pytest.param(enlarged, "PNG", id="280x280"),
        pytest.param(lambda image: 255 - image, "PNG", id="dark on light"),
        pytest.param(lambda image: 255 - enlarged(image), "PNG", id="280x280 dark on light"),
        pytest.param(lambda image: coloured(enlarged(image)), "PNG", id="coloured"),
        pytest.param(off_centre, "PNG", id="off centre"),
        pytest.param(lambda image: image, "JPEG", id="JPEG"),
        pytest.param(lambda image: coloured(enlarged(image)), "JPEG", id="coloured JPEG"),
    ],
)
def test_changed_images_are_read_nearly_as_well(
    change: Callable[[np.ndarray], np.ndarray],
    file_format: str,
    every: int,
    mnist: Mnist,
    encode: Encode,
    classifier: Classifier,
) -> None:
    images, digits = mnist[0][::every], mnist[1][::every]
    datas = [encode(change(image), file_format) for image in images]
    prepared, errors = classifier.prepare_batch(datas)
    assert not any(errors)
    assert (classifier.predict(prepared).class_indices == digits).mean() >= 0.99


def light(kind: str) -> np.ndarray:
    """Paper of 400 x 400 as it is lit: brightness in [0, 1]."""
    y, x = np.mgrid[0:400, 0:400] / 399 - 0.5
    from_centre = 2 * (x * x + y * y)
    return {
        "from one side": 0.75 + 0.4 * x,
        "from a corner": 0.7 + 0.25 * (x + y),
        "vignette of 20 %": 0.9 * (1 - 0.2 * from_centre),
        "vignette of 40 %": 0.9 * (1 - 0.4 * from_centre),
        "blackboard from one side": 0.3 + 0.4 * x,
        "blackboard with a vignette": 0.35 * (1 - 0.4 * from_centre),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "strength"),
    [
        ("from one side", 0.75),
        ("from one side", 0.3),
        ("from a corner", 0.75),
        ("vignette of 20 %", 0.75),
        ("vignette of 20 %", 0.3),
        ("vignette of 40 %", 0.75),
        ("blackboard from one side", 1),
        ("blackboard with a vignette", 1),
    ],
)
@pytest.mark.parametrize("count", [75, pytest.param(150, marks=pytest.mark.soak)])
def test_uneven_light_and_grain_do_not_hide_a_digit(
    kind: str, strength: float, count: int, mnist: Mnist, classifier: Classifier
) -> None:
    rng = np.random.default_rng(0)
    datas = []
    for image in mnist[0][:count]:
        sheet = light(kind)
        ink = enlarged(image) / 255
        inner = sheet[60:340, 60:340]
        inner *= 1 - strength * ink
        if "blackboard" in kind:
            inner += 0.9 * ink
        sheet += rng.normal(0, 0.02 if strength > 0.5 else 0.01, sheet.shape)
        datas.append(encode_npy((sheet.clip(0, 1) * 255).astype(np.uint8)))
    prepared, errors = classifier.prepare_batch(datas)
    assert not any(errors)
    assert (classifier.predict(prepared).class_indices == mnist[1][:count]).mean() >= 0.97


@pytest.mark.parametrize("margin", [0, 4, 12])
def test_a_digit_that_was_cut_out_tightly_is_no_uneven_light(
    margin: int, mnist: Mnist, classifier: Classifier
) -> None:
    datas = []
    for image in mnist[0][:200]:
        sheet = 255 - enlarged(image)
        rows, columns = np.flatnonzero((sheet < 150).any(1)), np.flatnonzero((sheet < 150).any(0))
        cut = sheet[
            max(0, rows[0] - margin) : rows[-1] + 1 + margin,
            max(0, columns[0] - margin) : columns[-1] + 1 + margin,
        ]
        datas.append(encode_npy(np.ascontiguousarray(cut)))
    prepared, _ = classifier.prepare_batch(datas)
    assert (classifier.predict(prepared).class_indices == mnist[1][:200]).mean() >= 0.97


@pytest.mark.parametrize("beside", ["a table's edge", "a frame"])
def test_what_runs_along_the_border_is_no_part_of_the_digit(
    beside: str, mnist: Mnist, classifier: Classifier
) -> None:
    datas = []
    for image in mnist[0][:200]:
        sheet = np.full((300, 300), 240, np.uint8)
        if beside == "a frame":
            sheet[8:-8, 8:-8] = 60
            sheet[12:-12, 12:-12] = 240
        else:
            sheet[:, :35] = 120
        digit = Image.fromarray(image).resize((200, 200), Image.Resampling.BICUBIC)
        inner = sheet[50:250, 60:260]
        inner[:] = inner * (1 - 0.8 * np.asarray(digit) / 255)
        datas.append(encode_npy(sheet))
    prepared, _ = classifier.prepare_batch(datas)
    assert (classifier.predict(prepared).class_indices == mnist[1][:200]).mean() >= 0.9


def test_a_hairline_does_not_fade_away(classifier: Classifier) -> None:
    sheet = np.full((400, 400), 255, np.uint8)
    sheet[100:300, 200] = 0
    prepared = prepare_image(sheet, SHAPE, DIGITS)
    assert prepared.max() == 1
    assert classifier.predict(prepared[None]).labels == ["1"]


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((28, 28), np.uint8), id="black 28x28"),
        pytest.param(np.full((28, 28), 255, np.uint8), id="white 28x28"),
        pytest.param(np.full((300, 200, 3), 200, np.uint8), id="grey sheet"),
        pytest.param(np.zeros((50, 50, 4), np.uint8), id="transparent"),
        pytest.param(np.zeros((1, 1), np.uint8), id="one pixel"),
        pytest.param(np.zeros((28, 28), np.float32), id="float zeros"),
    ],
)
def test_a_blank_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"blank image: (no ink|all of it is transparent)"):
        prepare_image(image, SHAPE, DIGITS)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (-np.inf, "NaN or infinite"),
        (-1.0, "negative"),
        (-0.2, "negative"),
        (1e9, "up to 1e"),
    ],
)
@pytest.mark.parametrize("preprocessing", [DIGITS, RESIZE])
def test_pixels_that_are_no_brightness_are_refused(
    value: float, reason: str, preprocessing: str
) -> None:
    image = np.zeros((28, 28), np.float32)
    image[14, 14] = value
    with pytest.raises(ImageError, match=reason):
        prepare_image(image, SHAPE, preprocessing)


@pytest.mark.parametrize("edge", [1.001, 1.02, 1.1, -1e-7, -0.02, -0.09])
def test_floats_that_miss_the_unit_range_by_a_little_are_cut_off(edge: float) -> None:
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image[3, 3] = edge
    expected = image.clip(0, 1)
    assert np.array_equal(prepare_image(image, (8, 8, 1), RESIZE)[..., 0], expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_white_of_a_camera_of_few_bits_in_sixteen_is_white(bits: int) -> None:
    image = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    prepared = prepare_image(image, (8, 8, 1), RESIZE)
    assert prepared.max() == 1
    assert prepared.mean() == pytest.approx(0.5, abs=0.01)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([(), (3,), (4,)]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([DIGITS, RESIZE]),
    st.sampled_from([(28, 28, 1), (32, 32, 3), (5, 9, 4)]),
)
@settings(max_examples=150)
def test_any_size_gives_the_models_shape_in_the_unit_range(
    height: int,
    width: int,
    channels: tuple[int, ...],
    seed: int,
    preprocessing: str,
    input_shape: tuple[int, int, int],
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    if preprocessing == DIGITS:
        input_shape = SHAPE
    try:
        prepared = prepare_image(image, input_shape, preprocessing)
    except ImageError:
        assert preprocessing == DIGITS  # noise without ink
        return
    assert prepared.shape == input_shape
    assert prepared.dtype == np.float32
    assert prepared.min() >= 0
    assert prepared.max() <= 1


@st.composite
def published(draw: st.DrawFn) -> bytes:
    """Messages that the fast path takes, that it must not take, and that are no images."""
    kind = draw(st.sampled_from(["plain", "dark on light", "blank", "channel", "big", "bad"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 4:24] = rng.integers(0, 256, (20, 20))
    return {
        "plain": encode_npy(digit),
        "dark on light": encode_npy(255 - digit),
        "blank": encode_npy(digit * 0),
        "channel": encode_npy(digit[..., None]),
        "big": encode_npy(np.kron(digit, np.ones((3, 3), np.uint8))),
        "bad": encode_npy(digit)[:-1],
    }[kind]


@given(st.lists(published(), max_size=12), st.sampled_from([DIGITS, RESIZE]))
def test_the_fast_way_through_a_batch_equals_the_slow_way(
    datas: list[bytes], preprocessing: str
) -> None:
    prepared, errors = prepare_batch(datas, Preparation(SHAPE, preprocessing))
    slow, reasons = [], []
    for data in datas:
        try:
            slow.append(prepare_image(decode_image(data), SHAPE, preprocessing))
            reasons.append(None)
        except ImageError as error:
            reasons.append(str(error))
    assert [error and str(error) for error in errors] == reasons
    assert np.array_equal(prepared, np.array(slow, np.float32).reshape(-1, *SHAPE))


def test_a_bad_image_costs_only_itself(mnist: Mnist, classifier: Classifier) -> None:
    datas = [encode_npy(image) for image in mnist[0][:5]]
    datas[2] = b"not an image"
    prepared, errors = classifier.prepare_batch(datas)
    assert [error is None for error in errors] == [True, True, False, True, True]
    assert classifier.predict(prepared).labels == ["7", "2", "0", "4"]


@pytest.mark.parametrize("trouble", [MemoryError(), RuntimeError("odd"), ZeroDivisionError()])
def test_an_image_that_hits_a_defect_costs_only_itself_too(
    trouble: Exception, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(data: bytes, **options: object) -> Decoded:
        if data == b"odd one":
            raise trouble
        return decode(data)

    monkeypatch.setattr(data_preparation, "decode", explode)
    datas = [encode_npy(mnist[0][0]), b"odd one", encode_npy(255 - mnist[0][1])]
    prepared, errors = prepare_batch(datas, MNISTS)
    assert len(prepared) == 2
    assert [type(error) for error in errors] == [type(None), ImageError, type(None)]
    assert type(trouble).__name__ in str(errors[1])


def test_for_other_models_transparency_shows_white() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    assert (prepare_image(image, (4, 4, 3), RESIZE) == 1).all()


def test_for_other_models_an_image_of_their_size_passes_bit_for_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    prepared = prepare_image(image, (32, 32, 3), RESIZE)
    assert np.array_equal(prepared, image.astype(np.float32) / np.float32(255))
