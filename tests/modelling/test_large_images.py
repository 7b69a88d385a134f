"""Large images: within a bounded memory, upright, and the same picture as if read whole."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from Modelling.data_preparation import ImageError, decode_image, encode_npy, prepare_bytes
from Modelling.images.decoding import MAX_PIXELS
from Modelling.images.reduction import factors_for, reduced_array
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, DIGITS, RESIZE

Encode = Callable[..., bytes]

ROOT = DEFAULT_CHECKPOINT.parent.parent.parent

MEASURE = """
import sys
from pathlib import Path
from PIL import Image
from Modelling.data_preparation import ImageError, encode_npy, prepare_bytes

def highest():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

data = Path(sys.argv[1]).read_bytes()
Image.init()
Path("/proc/self/clear_refs").write_text("5")  # forget what was highest up to here
before = highest()
shape = (28, 28, 1) if sys.argv[2] == "digits" else (32, 32, 3)
try:
    prepare_bytes(data, shape, sys.argv[2])
except ImageError as error:
    assert "blank" in str(error), error
print((highest() - before) / 1000)
"""


def megabytes_for(data: bytes, preprocessing: str, folder: Path) -> float:
    """Resident memory that preparing an image takes at its peak, in a process of its own."""
    file = folder / "image"
    file.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file), preprocessing],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return float(run.stdout)


def chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(colour_type: int, bits: int, width: int, height: int, extra: bytes = b"") -> bytes:
    """A grey PNG of any kind, without the memory that Pillow would take to write it."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row = b"\0" + b"\x55" * (width * channels * bits // 8)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )  # fmt: skip


def saved(mode: str, file_format: str, width: int, height: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, file_format, **options)
    return buffer.getvalue()


PALETTE = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes([128] * 256))
TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux measures it")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: png(4, 8, 8000, 8000), id="LA", marks=pytest.mark.soak),
        pytest.param(lambda: png(0, 16, 8000, 8000), id="16 bit"),
        pytest.param(lambda: png(3, 8, 8000, 8000, PALETTE), id="palette with transparency"),
        pytest.param(lambda: png(6, 8, 65_535, 976), id="a long RGBA", marks=pytest.mark.soak),
        pytest.param(lambda: saved("RGB", "TIFF", 7000, 7000, compression="tiff_lzw", exif=TURNED),
                     id="a turned TIFF"),
        pytest.param(lambda: saved("F", "TIFF", 8000, 8000, compression="tiff_lzw"), id="floats",
                     marks=pytest.mark.soak),
        pytest.param(lambda: saved("RGB", "JPEG", 8000, 8000, progressive=True, subsampling=0),
                     id="a progressive JPEG"),
        pytest.param(lambda: saved("RGBA", "WEBP", 4990, 4990, method=0), id="WebP"),
        pytest.param(lambda: encode_npy(np.zeros((8000, 8000), np.uint16)), id="an array"),
    ],
)  # fmt: skip
def test_the_largest_image_takes_less_than_400_megabytes(
    make: Callable[[], bytes], tmp_path: Path
) -> None:
    data = make()
    for preprocessing in (DIGITS, RESIZE):
        assert megabytes_for(data, preprocessing, tmp_path) < 400


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(lambda: saved("RGB", "WEBP", 6000, 6000, method=0), "WEBP", id="WebP"),
        pytest.param(lambda: saved("CMYK", "JPEG", 8000, 7000, progressive=True), "JPEG",
                     id="progressive CMYK"),
        pytest.param(lambda: saved("RGB", "TIFF", 8000, 8000, compression="tiff_lzw", exif=TURNED),
                     "TIFF", id="turned TIFF"),
    ],
)  # fmt: skip
def test_what_takes_more_is_refused_before_it_is_decoded(
    make: Callable[[], bytes], kind: str
) -> None:
    what = (
        f"this kind of {kind} it takes .* MB to decode: send it as a baseline JPEG, "
        r"or with at most \d+ million pixels"
    )
    with pytest.raises(ImageError, match=what):
        prepare_bytes(make(), (28, 28, 1), DIGITS)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_telephones_48_million_pixels_are_accepted_as_jpeg(progressive: bool) -> None:
    data = saved("RGB", "JPEG", 8064, 6048, progressive=progressive)
    assert prepare_bytes(data, (8, 8, 3), RESIZE).shape == (8, 8, 3)


def tiff(**tags: int) -> bytes:
    """A compressed TIFF of 8 x 8 grey pixels whose tags claim anything."""
    numbers = {
        "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
        "offsets": 273, "samples": 277, "rows": 278, "counts": 279, "tile_width": 322,
        "tile_height": 323, "tile_offsets": 324, "tile_counts": 325,
    }  # fmt: skip
    pixels = zlib.compress(bytes(64))
    values = {"width": 8, "height": 8, "bits": 8, "compression": 8, "photometric": 1, "samples": 1}
    values |= tags
    prefix = "tile_" if "tile_width" in values else ""
    values |= {f"{prefix}offsets": 8, f"{prefix}counts": len(pixels)}
    entries = sorted((numbers[name], value) for name, value in values.items())
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory + bytes(4)


def test_a_tiff_whose_tile_claims_gigabytes_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match=r"900 MB to decode"):
        decode_image(tiff(tile_width=30_000, tile_height=30_000))
    with pytest.raises(ImageError, match=r"MB to decode"):
        decode_image(tiff(width=60_000, height=1000, rows=1000, bits=32))
    assert decode_image(tiff(rows=2**32 - 1)).shape == (8, 8)


def picture(width: int, height: int) -> Image.Image:
    """A smooth picture of which no corner equals another."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1)
    return Image.fromarray(rgb.astype(np.uint8))


KINDS = [
    ("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "MPO"), ("RGBA", "PNG"),
    ("RGB", "PNG"), ("RGB", "TIFF"), ("RGBA", "WEBP"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "file_format", "orientation"),
    [
        # Each orientation of one kind, and each kind as it is and turned; the others in the soak.
        pytest.param(
            *kind, turned, marks=() if kind == KINDS[0] or turned in (1, 6) else pytest.mark.soak
        )
        for kind in KINDS
        for turned in range(1, 9)
    ],
)
def test_large_photographs_are_reduced_and_upright(
    mode: str, file_format: str, orientation: int, encode: Encode
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = picture(1300, 900).convert(mode)
    options: dict[str, Any] = {"exif": exif}
    if file_format == "MPO":
        options |= {"save_all": True, "append_images": [image.copy()]}
    data = encode(image, file_format, **options)
    reduced = decode_image(data, enough=100, proportional=True)
    with Image.open(io.BytesIO(data)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    assert max(reduced.shape[:2]) < 260
    assert (reduced.shape[0] > reduced.shape[1]) == (expected.height > expected.width)
    if reduced.ndim == 2:
        reduced = np.stack([reduced] * 3, -1)
    small = expected.resize((32, 24), Image.Resampling.BOX)
    seen = Image.fromarray(reduced[..., :3]).resize((32, 24), Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(seen)).max() < 12


def test_photographs_of_two_pictures_are_decoded_reduced(
    encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    image = picture(1300, 900)
    data = encode(image, "MPO", save_all=True, append_images=[image.copy()])
    monkeypatch.setattr(
        "Modelling.images.pillow.factors_for",
        lambda width, height, *_, **__: sizes.append((width, height)) or (1, 1),
    )
    decode_image(data, enough=100)
    assert sizes == [(163, 113)]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"]
)
def test_strip_by_strip_gives_the_same_picture_as_at_once(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from Modelling.images.pillow_arrays import as_array, in_strips

    image = picture(211, 303)
    if mode in ("I", "I;16", "F"):
        deep = np.asarray(image.convert("L")).astype(np.float32) * (1 / 255 if mode == "F" else 257)
        image = Image.fromarray(
            deep.astype({"I": np.int32, "I;16": np.uint16}.get(mode, np.float32))
        )
    elif mode == "PA":
        image = image.convert("LA").convert("PA")
    else:
        image = image.convert(mode)
    whole = reduced_array(as_array(image), (5, 4))
    monkeypatch.setattr("Modelling.images.reduction.STRIP_PIXELS", 5000)
    assert np.allclose(in_strips(image, (5, 4)), whole, atol=1 if whole.dtype == np.uint8 else 1e-6)


def test_an_array_is_scaled_by_the_white_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("Modelling.images.reduction.STRIP_PIXELS", 1000)
    image = np.zeros((100, 100), np.uint16)
    image[:50] = 200
    image[90:] = 65_535
    reduced = reduced_array(image, (10, 10))
    assert reduced.shape == (10, 10)
    assert reduced[0, 0] == pytest.approx(200 / 65_535)


def test_both_sides_are_reduced_alike_only_where_proportions_count() -> None:
    assert factors_for(65_535, 976, 512, proportional=True) == (127, 127)
    assert factors_for(65_535, 976, 512, proportional=False) == (127, 1)
    assert factors_for(60_000, 1, 512, proportional=True) == (117, 1)
    assert factors_for(400, 300, 512, proportional=True) == (1, 1)
    assert factors_for(4000, 3000, None, proportional=True) == (1, 1)
    assert MAX_PIXELS == 64_000_000
