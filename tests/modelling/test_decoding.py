"""Bytes from strangers become pixels, or an `ImageError` that says why not."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import pickle
import struct
import time
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from Modelling.data_preparation import ImageError, decode_image, encode_npy
from Modelling.images.decoding import MAX_PIXELS
from Modelling.predict_cnn import Classifier

Encode = Callable[..., bytes]

MODES_AND_FORMATS = [
    ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"),
    ("L", "JPEG"), ("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("RGB", "JPEG"),
    ("1", "TIFF"), ("PA", "TIFF"), ("CMYK", "TIFF"), ("I", "TIFF"), ("F", "TIFF"),
    ("RGB", "WEBP"), ("RGBA", "WEBP"), ("P", "GIF"), ("L", "BMP"), ("1", "BMP"),
]  # fmt: skip


def label_of(classifier: Classifier, data: bytes) -> str:
    return classifier.predict(classifier.prepare(data)[None]).labels[0]


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npy_with_header(header: bytes, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that would unpack to width x height pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("mode", "file_format"), MODES_AND_FORMATS)
def test_every_pillow_mode_is_read(
    mode: str, file_format: str, seven: Image.Image, encode: Encode, classifier: Classifier
) -> None:
    image = seven.convert("LA").convert("PA") if mode == "PA" else seven.convert(mode)
    assert label_of(classifier, encode(image, file_format)) == "7"


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_read(
    file_format: str, seven: Image.Image, encode: Encode, classifier: Classifier
) -> None:
    deep = np.asarray(seven).astype(np.uint16) * 257
    assert label_of(classifier, encode(deep, file_format)) == "7"


def test_a_photo_taken_with_the_camera_on_its_side_is_turned_upright(encode: Encode) -> None:
    upright = np.zeros((30, 50), np.uint8)
    upright[:10, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise"
    on_its_side = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    for file_format in ("JPEG", "PNG", "TIFF", "WEBP"):
        decoded = decode_image(encode(on_its_side.convert("RGB"), file_format, exif=exif))
        assert np.abs(decoded[..., 0].astype(int) - upright).mean() < 8


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(
    file_format: str, seven: Image.Image, encode: Encode, classifier: Classifier
) -> None:
    blank = Image.new("RGB", seven.size, "white")
    data = encode(seven.convert("RGB"), file_format, save_all=True, append_images=[blank])
    assert label_of(classifier, data) == "7"


def tiff_of_many_frames(first: bytes, count: int) -> bytes:
    """Append empty frames to a little-endian TIFF of one: directories of one entry each."""
    data = bytearray(first)
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    link = directory + 2 + 12 * entries
    for _ in range(count):
        struct.pack_into("<I", data, link, len(data))
        link = len(data) + 14
        data += struct.pack("<HHHIII", 1, 256, 4, 1, 1, 0)
    return bytes(data)


def test_frames_that_nobody_asked_for_are_not_even_counted(
    seven: Image.Image, encode: Encode
) -> None:
    many = tiff_of_many_frames(encode(seven, "TIFF"), 24_000)
    started = time.process_time()
    assert np.array_equal(decode_image(many), np.asarray(seven))
    assert time.process_time() - started < 1


def test_a_damaged_later_frame_does_not_spoil_the_first(seven: Image.Image, encode: Encode) -> None:
    whole = tiff_of_many_frames(encode(seven, "TIFF"), 1)
    damaged = whole[:-6]  # the second directory ends in its only entry
    assert np.array_equal(decode_image(damaged), np.asarray(seven))


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_a_transparent_ground_is_read_whatever_its_colour(
    ink: int, mnist: tuple[np.ndarray, np.ndarray], encode: Encode, classifier: Classifier
) -> None:
    digit = mnist[0][0]
    rgba = np.full((28, 28, 4), ink, np.uint8)
    rgba[..., 3] = digit
    assert label_of(classifier, encode(rgba, "PNG")) == "7"


INKS = {"black on white": (255, 0), "grey on white": (255, 120), "white on black": (0, 255)}


def _cut_out(digit: np.ndarray, way: str, paper: int, ink: int) -> np.ndarray:
    """Draw a digit on paper and make the paper transparent, as programs do."""
    covered = np.pad(digit, 6) / 255
    shade = paper + (ink - paper) * covered
    alpha = np.zeros_like(covered)
    if way == "with a margin":
        alpha[3:-3, 3:-3] = 1
    elif way == "along the ink":
        alpha = covered > 0.03
    else:
        alpha[1:-1, 1:-1] = alpha[3:-3, :] = alpha[:, 3:-3] = 1
        alpha[:2, :2] = alpha[:2, -2:] = alpha[-2:, :2] = alpha[-2:, -2:] = 0
    return np.dstack([shade, shade, shade, 255 * alpha]).astype(np.uint8)


@pytest.mark.parametrize("inks", INKS)
@pytest.mark.parametrize("way", ["with a margin", "along the ink", "with round corners"])
def test_what_was_cut_out_of_a_sheet_lies_on_that_sheet(
    way: str,
    inks: str,
    mnist: tuple[np.ndarray, np.ndarray],
    encode: Encode,
    classifier: Classifier,
) -> None:
    digits, expected = mnist[0][:60], mnist[1][:60]
    images, errors = classifier.prepare_batch(
        [encode(_cut_out(digit, way, *INKS[inks]), "PNG") for digit in digits]
    )
    assert not any(errors)
    assert (classifier.predict(images).class_indices == expected).mean() >= 0.95


def test_a_transparent_palette_colour_is_paper(
    seven: Image.Image, encode: Encode, classifier: Classifier
) -> None:
    data = encode(seven.convert("P"), "PNG", transparency=255)
    assert label_of(classifier, data) == "7"


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(lambda a: a < 128, id="bool"),
        pytest.param(lambda a: a, id="uint8"),
        pytest.param(lambda a: a.astype(np.uint16) * 257, id="uint16"),
        pytest.param(lambda a: a.astype(">u2"), id="big-endian"),
        pytest.param(lambda a: a.astype(np.int64), id="int64"),
        pytest.param(lambda a: a.astype(np.float16) / 255, id="float16"),
        pytest.param(lambda a: a.astype(np.float32) / 255, id="float32"),
        pytest.param(lambda a: a.astype(np.float64), id="float64 up to 255"),
        pytest.param(lambda a: a[..., None], id="(H, W, 1)"),
        pytest.param(lambda a: np.stack([a] * 3, -1), id="(H, W, 3)"),
        pytest.param(lambda a: np.stack([a, a, a, np.full_like(a, 255)], -1), id="(H, W, 4)"),
        pytest.param(np.asfortranarray, id="fortran order"),
    ],
)
def test_arrays_of_all_kinds_are_read(
    array: Callable[[np.ndarray], np.ndarray], seven: Image.Image, classifier: Classifier
) -> None:
    assert label_of(classifier, npy(array(np.asarray(seven)))) == "7"


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.bool_]),
        st.one_of(
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda s: (*s, 3)),
        ),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_an_encoded_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    decoded = decode_image(encode_npy(array))
    assert decoded.dtype == array.dtype
    assert np.array_equal(decoded, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_npy_format_is_read(version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.lib.format.write_array(buffer, array, version=version)
    assert np.array_equal(decode_image(buffer.getvalue()), array)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"\w"):
        decode_image(data)


@given(st.integers(0, 127), st.binary(min_size=1, max_size=4))
def test_a_damaged_npy_is_decoded_or_refused_but_raises_nothing_else(
    position: int, replacement: bytes
) -> None:
    data = bytearray(encode_npy(np.zeros((4, 4), np.uint8)))
    data[position : position + len(replacement)] = replacement
    with contextlib.suppress(ImageError):
        decode_image(bytes(data))


@pytest.mark.parametrize(
    "header",
    [
        rb"{'descr': '\d', 'fortran_order': False, 'shape': (2, 2)}",
        b"{'descr': '|u1', 'fortran_order': 0or 0, 'shape': (1if 2else 3, 2)}",
    ],
)
def test_a_header_of_bad_python_is_refused_without_a_warning(header: bytes) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match="damaged header"):
            decode_image(npy_with_header(header))
    assert not warned


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"1," * 1500 + b")}",
        b"{'descr': '<U" + b"9" * 9 + b"', 'fortran_order': False, 'shape': (2, 2)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': ('" + b"x" * 3000 + b"',)}",
    ],
)
def test_a_reason_is_one_short_line_whatever_was_sent(header: bytes) -> None:
    with pytest.raises(ImageError) as refused:
        decode_image(npy_with_header(header))
    assert len(str(refused.value)) <= 200
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_refused(file_format: str, seven: Image.Image, encode: Encode) -> None:
    data = encode(seven.convert("RGB"), file_format)
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


class Exploding:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"seven", "not an image", id="text"),
        pytest.param(pickle.dumps([1, 2, 3]), "not an image", id="pickle"),
        pytest.param(npy(np.array([Exploding()], object), allow_pickle=True), "pickled objects",
                     id="pickle in npy clothes"),
        pytest.param(npy(np.zeros((28, 28), complex)), "complex", id="complex"),
        pytest.param(npy(np.zeros((28, 28), "U1")), "U1", id="strings"),
        pytest.param(npy(np.zeros((28, 28), "i4,f4")), "records", id="records"),
        pytest.param(npy(np.zeros((0, 28))), "empty", id="no pixels"),
        pytest.param(npy(np.zeros(28)), r"shape \(28,\)", id="one dimension"),
        pytest.param(npy(np.zeros((1, 28, 28, 1))), "shape", id="four dimensions"),
        pytest.param(npy(np.zeros((28, 28, 2))), "shape", id="two channels"),
        pytest.param(encode_npy(np.zeros((28, 28)))[:-1], "truncated", id="truncated array"),
        pytest.param(npy_with_header(b"{'descr': '|u1', 'fortran_order': False, "
                                     b"'shape': (9000000, 9000000)}"), "more than", id="npy bomb"),
        pytest.param(npy_with_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': "
                                     + b"(" * 900 + b")" * 900 + b"}"), "damaged", id="nested"),
        pytest.param(npy_with_header(b"{}", b"\x09\x00"), "version 9", id="unknown version"),
        pytest.param(png_that_claims(60_000, 60_000), "more than", id="decompression bomb"),
        pytest.param(png_that_claims(MAX_PIXELS // 100 + 1, 100), "more than",
                     id="a pixel too many"),
        pytest.param(png_that_claims(70_000, 1), "longer than", id="too long"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image",
                     id="EPS"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(data)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (lambda png: base64.b64encode(png), "base64: send the bytes themselves"),
        (lambda png: b"data:image/png;base64," + base64.b64encode(png), "a data URL: send the"),
        (lambda png: json.dumps({"image": png.hex()}).encode(), "JSON: send the picture itself"),
        (lambda png: png.replace(b"\r\n", b"\n"), "a PNG whose line ends were changed"),
        (lambda png: png.decode("utf-8", "replace").encode(), "what was a PNG: it was sent as"),
        (lambda png: png.decode("latin-1").encode(), "what was a PNG: it was sent as text"),
        (lambda png: gzip.compress(png), "compressed by gzip: unpack it"),
        (lambda _png: b"P6 1 1 255\n123", "a PNM: send it as PNG or JPEG"),
        (lambda _png: b"%PDF-1.7", "a PDF: send it as PNG or JPEG"),
        (lambda _png: b"<!doctype html>", "a page of the web"),
        (lambda _png: b"\0\0\0\x18ftypmp42", "begins as a video does"),
        (lambda _png: b"anything", "8 bytes$"),
    ],
)
def test_what_is_no_image_is_told_by_its_first_bytes(
    sent: Callable[[bytes], bytes], told: str, seven: Image.Image, encode: Encode
) -> None:
    """All have one reason, by which they are counted; what to do stands behind it."""
    data = sent(encode(seven, "PNG"))
    with pytest.raises(ImageError, match=told) as caught:
        decode_image(data)
    assert caught.value.reason.startswith("not an image: neither")
    assert f"{len(data):,} bytes" in str(caught.value)


def test_what_is_damaged_is_told_the_same_each_time() -> None:
    told = set()
    for _ in range(3):
        with pytest.raises(ImageError, match="truncated or damaged image: TIFF") as caught:
            decode_image(b"II*\0\x08\0\0\0\0\0")
        told.add(str(caught.value))
    assert told == {"truncated or damaged image: TIFF: its header"}
