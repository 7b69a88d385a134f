"""Pictures that show no digit, drawn: what a network should be unsure of. None is trained on.

As in `scenes`, the same seed gives the same bytes.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.scenes import FORMATS, any_colours, taken

# Those that a person who expects a digit takes for one: 8, 0, 1, 5, 2, 6 or 9.
LIKE_DIGITS = "BDIOQSZbgiloqsz"
LETTERS = "".join(
    letter
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    if letter not in LIKE_DIGITS
)


def noise(rng: np.random.Generator, size: tuple[int, int, int]) -> np.ndarray:
    """Every pixel by itself, all values equally likely; (H, W, C) uint8."""
    return rng.integers(0, 256, size, dtype=np.uint8)


def dirty_paper(rng: np.random.Generator) -> bytes:
    """A sheet on which nobody wrote: uneven light, specks, smudges, hairs, a fold, a cup's ring."""
    width, height = FORMATS[rng.integers(len(FORMATS))]
    paper, dirt = any_colours(rng)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    light = 1 + rng.uniform(0, 0.2) * (
        math.cos(angle) * (x / width - 0.5) + math.sin(angle) * (y / height - 0.5)
    )
    covered = Image.new("L", (width, height))
    pen = ImageDraw.Draw(covered)
    for _ in range(rng.integers(0, 60)):
        left, top, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1, 6)
        pen.ellipse((left, top, left + size, top + size), fill=int(rng.integers(40, 256)))
    for _ in range(rng.integers(0, 5)):
        _hair(pen, width, height, rng)
    if rng.random() < 0.3:
        where = rng.uniform(0, width, 2)
        pen.line((where[0], 0, where[1], height), fill=int(rng.integers(20, 80)), width=3)
    if rng.random() < 0.3:
        left, top, size = rng.uniform(-100, 400), rng.uniform(-100, 400), rng.uniform(150, 300)
        box = (left, top, left + size, top + size)
        start = rng.uniform(0, 360)
        pen.arc(box, start, start + rng.uniform(90, 360), int(rng.integers(30, 120)), 6)
    smudges = Image.new("L", (width, height))
    smear = ImageDraw.Draw(smudges)
    for _ in range(rng.integers(0, 6)):
        left, top, wide, tall = (
            rng.uniform(0, width),
            rng.uniform(0, height),
            *rng.uniform(20, 150, 2),
        )
        smear.ellipse((left, top, left + wide, top + tall), fill=int(rng.integers(10, 110)))
    smudges = smudges.filter(ImageFilter.GaussianBlur(rng.uniform(8, 40)))
    covered = covered.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
    share = np.maximum(np.asarray(covered), np.asarray(smudges)).astype(np.float32)[..., None] / 255
    return taken((paper + (dirt - paper) * share) * light[..., None], rng)


def _hair(pen: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    place = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    heading, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-0.1, 0.1)
    points = []
    for _ in range(rng.integers(5, 30)):
        points.append(tuple(place))
        heading += bend + rng.normal(0, 0.1)
        place = place + 6 * np.array([math.cos(heading), math.sin(heading)])
    pen.line(points, fill=int(rng.integers(60, 256)), width=int(rng.integers(1, 3)))


def letter(shown: str, rng: np.random.Generator) -> bytes:
    """A printed letter, in one of several faces, not quite upright, on paper of any colour."""
    fonts = _fonts()
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(200, 360)))
    left, top, right, bottom = font.getbbox(shown)
    mask = Image.new("L", (int(right - left) + 40, int(bottom - top) + 40))
    ImageDraw.Draw(mask).text((20 - left, 20 - top), shown, fill=255, font=font)
    mask = mask.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC, expand=True)
    width, height = FORMATS[rng.integers(len(FORMATS))]
    covered = Image.new("L", (width, height))
    room = max(1, width - mask.width), max(1, height - mask.height)
    covered.paste(mask, (int(rng.integers(room[0])), int(rng.integers(room[1]))))
    paper, ink = any_colours(rng)
    share = np.asarray(covered, np.float32)[..., None] / 255
    return taken(paper + (ink - paper) * share, rng)


def _fonts() -> list[Path]:
    """Those that Matplotlib brings: with serifs and without, bold, slanted, of one width."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(folder.glob("DejaVu*[!y].ttf")) + sorted(folder.glob("STIXGeneral*.ttf"))
