"""The pixels count: what is broken or large in a file and is not the picture costs nothing."""

from __future__ import annotations

import io
import logging
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Modelling.data_preparation import ImageError, Preparation, decode_image
from Modelling.images.batch_preparation import prepare_batch
from Modelling.images.metadata import exif_orientation
from tests.modelling.hostile import png_chunk, with_png_chunks

Encode = Callable[..., bytes]

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def exif(orientation: int, kind: int = 3) -> bytes:
    """EXIF of one entry, the orientation, in any type."""
    value = {1: "B3x", 2: "4s", 3: "H2x", 4: "I"}[kind]
    packed = struct.pack(f"<{value}", f"{orientation}".encode() if kind == 2 else orientation)
    return b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, 1) + packed + bytes(4)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_orientation_is_read_in_whatever_type_it_was_written(
    orientation: int, kind: int, encode: Encode
) -> None:
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    expected = np.rot90(PICTURE, turns)
    png = with_png_chunks(encode(PICTURE, "PNG"), png_chunk(b"eXIf", exif(orientation, kind)))
    webp = encode(PICTURE, "WEBP", lossless=True, exif=b"Exif\0\0" + exif(orientation, kind))
    for data in (png, webp):
        assert np.array_equal(decode_image(data), expected)


@pytest.mark.parametrize(
    "broken",
    [
        b"", b"nonsense", b"II*\0", b"II*\0\xff\xff\xff\xff", exif(9), exif(0), exif(6)[:-9],
        b"II*\0" + struct.pack("<IH", 8, 65_535), b"MM\0*" + bytes(40), exif(6, 2)[:18] + b"left",
    ],
)  # fmt: skip
def test_exif_that_cannot_be_parsed_means_upright(broken: bytes, encode: Encode) -> None:
    assert exif_orientation(broken) == 1
    datas = [
        with_png_chunks(encode(PICTURE, "PNG"), png_chunk(b"eXIf", broken)),
        encode(PICTURE, "WEBP", lossless=True, exif=broken or b"x"),
    ]
    for data in datas:
        assert np.array_equal(decode_image(data), PICTURE)
    jpeg = encode(PICTURE, "JPEG")
    with_exif = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(broken)) + b"Exif\0\0" + broken
    assert np.array_equal(decode_image(with_exif + jpeg[2:]), decode_image(jpeg))


def test_text_and_profiles_of_megabytes_are_not_read(encode: Encode) -> None:
    prompt = b"parameters\0" + b"a cat, masterpiece, " * 100_000
    packed = zlib.compress(prompt)
    png = encode(PICTURE, "PNG")
    for chunk in (
        png_chunk(b"tEXt", prompt),
        png_chunk(b"zTXt", b"Comment\0\0" + packed),
        png_chunk(b"iTXt", b"workflow\0\0\0\0\0" + prompt),
        png_chunk(b"iCCP", b"profile\0\0" + packed),
        png_chunk(b"zzZz", bytes(2_000_000)),
    ):
        assert np.array_equal(decode_image(with_png_chunks(png, chunk)), PICTURE)
        assert np.array_equal(decode_image(with_png_chunks(png, chunk, behind=True)), PICTURE)


def test_a_wrong_checksum_of_what_is_not_the_picture_costs_nothing(encode: Encode) -> None:
    png = encode(PICTURE, "PNG")
    broken = with_png_chunks(
        png, png_chunk(b"tEXt", b"Software\0x", crc=7), png_chunk(b"pHYs", bytes(9), crc=7)
    )
    assert np.array_equal(decode_image(broken), PICTURE)
    place = png.index(b"IDAT")
    with pytest.raises(ImageError, match="damaged"):
        decode_image(png[: place + 20] + b"\0\0\0\0" + png[place + 24 :])


def test_an_orientation_of_xmp_or_of_imagemagick_counts_where_exif_has_none(encode: Encode) -> None:
    png = encode(PICTURE, "PNG")
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="3"/>'
    profile = f"\nexif\n{len(exif(3))}\n{exif(3).hex()}\n".encode()
    raw = b"Raw profile type exif\0\0" + zlib.compress(profile)
    for chunk in (png_chunk(b"iTXt", xmp), png_chunk(b"zTXt", raw)):
        assert np.array_equal(decode_image(with_png_chunks(png, chunk)), PICTURE[::-1, ::-1])


def photograph() -> Image.Image:
    y, x = np.mgrid[0:480, 0:640]
    waves = 127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)
    return Image.fromarray(
        np.stack([waves, waves.T.repeat(2, 1)[:480, :640], x / 3], 2).astype(np.uint8)
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("enough", [None, 100])
def test_a_jpeg_that_lacks_its_last_bytes_is_shown_as_viewers_do(
    progressive: bool, enough: int | None, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    whole = encode(photograph(), "JPEG", quality=90, progressive=progressive)
    expected = decode_image(whole, enough=enough).astype(int)
    shown = decode_image(whole[:-200], enough=enough).astype(int)
    assert np.abs(shown - expected)[: int(0.9 * len(shown))].max() < 30
    with caplog.at_level(logging.WARNING):
        _, errors = prepare_batch([whole, whole[:-200], whole[:-2]], Preparation((64, 64, 3)))
    assert not any(errors)
    assert "JPEGs lack their last bytes" in caplog.text
    with pytest.raises(ImageError, match="rows are there"):
        decode_image(encode(photograph(), "JPEG", quality=90)[: len(whole) // 2])


@pytest.mark.parametrize(("file_format", "name"), [("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000")])
def test_newer_formats_are_read(file_format: str, name: str, encode: Encode) -> None:
    smooth = np.asarray(photograph())
    decoded = decode_image(encode(smooth, file_format, quality=90) if file_format == "AVIF"
                           else encode(smooth, file_format))  # fmt: skip
    assert np.abs(decoded.astype(int) - smooth).mean() < 8
    reduced = decode_image(encode(smooth, file_format), enough=100)
    assert min(reduced.shape[:2]) >= 100


def test_a_photograph_of_a_telephone_is_read() -> None:
    pytest.importorskip("pi_heif")
    decoded = decode_image((Path(__file__).parent / "pictures" / "corner.heic").read_bytes())
    assert decoded.shape == (64, 48, 3)
    assert np.abs(decoded[5, 5].astype(int) - (250, 20, 120)).max() < 20
    assert np.abs(decoded[40, 40].astype(int) - (0, 0, 120)).max() < 20


def test_without_its_decoder_a_heic_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match=r"pip install '.\[heic\]'"):
        decode_image((Path(__file__).parent / "pictures" / "corner.heic").read_bytes())


def test_of_a_file_of_several_pictures_the_first_counts(encode: Encode) -> None:
    buffer = io.BytesIO()
    photograph().save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (640, 480))])
    assert decode_image(buffer.getvalue()).mean() > 50
