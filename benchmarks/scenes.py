"""Digits as people photograph them, drawn: shadows, tables, printed boxes, fingers.

A scene is a function of a digit and a random generator; the same seed gives the same bytes. Lengths
are in pixels of a picture whose longer side has 640.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

FORMATS = ((640, 640), (640, 480), (480, 640))

# Of 255, in the brightness of what is to be told apart: below it a person would look twice.
LEAST_CONTRAST = 70

# Brightness of red, green and blue: ITU-R BT.601.
GREY = np.array([0.299, 0.587, 0.114], np.float32)

SKINS = ((224, 172, 140), (198, 134, 100), (141, 85, 60), (92, 58, 42))
CHALKBOARDS = ((35, 60, 45), (40, 40, 42), (25, 50, 60))

Picture = np.ndarray
Colour = np.ndarray


@dataclass(frozen=True)
class Sheet:
    """A digit on paper, before anything is laid over it.

    Attributes:
        picture: (H, W, 3) float32, 0 to 255.
        paper: Its colour.
        ink: Its colour.
        box: Left, top, right and bottom of the digit's strokes.
    """

    picture: Picture
    paper: Colour
    ink: Colour
    box: tuple[int, int, int, int]


def any_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Paper and ink of any colour that a person can tell apart."""
    while True:
        paper, ink = rng.uniform(10, 250, (2, 3)).astype(np.float32)
        if abs(float((paper - ink) @ GREY)) >= LEAST_CONTRAST:
            return paper, ink


def sheet_of(
    digit: np.ndarray,
    rng: np.random.Generator,
    *,
    colours: tuple[Colour, Colour] | None = None,
    room: tuple[int, int, int, int] = (0, 0, 0, 0),
    least: int = 180,
    strength: float = 1.0,
    turn: float = 0.0,
) -> Sheet:
    """Write a digit on paper that fills the picture.

    Args:
        digit: (28, 28) uint8, MNIST's own form.
        rng: What chooses size and place.
        colours: Of paper and ink.
        room: Pixels at the left, top, right and bottom that stay free of the digit.
        least: Height or width of the digit, in pixels, at least.
        strength: How much of the paper the ink covers.
        turn: Degrees.
    """
    width, height = FORMATS[rng.integers(len(FORMATS))]
    paper, ink = colours or any_colours(rng)
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    cut = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    free = min(width - room[0] - room[2], height - room[1] - room[3])
    longer = rng.uniform(min(least, 0.6 * free), 0.82 * free)
    scale = longer / max(cut.shape)
    size = max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale))
    drawn = Image.fromarray(cut).resize(size, Image.Resampling.BICUBIC)
    if turn:
        drawn = drawn.rotate(turn, Image.Resampling.BICUBIC, expand=True)
        while max(drawn.size) > 0.9 * free:
            drawn = drawn.resize((drawn.width * 9 // 10, drawn.height * 9 // 10))
    left = int(rng.integers(room[0] + 4, max(room[0] + 5, width - room[2] - drawn.width - 3)))
    top = int(rng.integers(room[1] + 4, max(room[1] + 5, height - room[3] - drawn.height - 3)))
    covered = np.zeros((height, width, 1), np.float32)
    covered[top : top + drawn.height, left : left + drawn.width, 0] = np.asarray(drawn) / 255
    picture = paper + (ink - paper) * covered * strength
    box = left, top, left + drawn.width, top + drawn.height
    return Sheet(picture.astype(np.float32), paper, ink, box)


def taken(picture: Picture, rng: np.random.Generator) -> bytes:
    """Take the photograph: noise and JPEG."""
    noisy = picture + rng.normal(0, rng.uniform(2, 12), picture.shape)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=int(rng.integers(60, 96))
    )
    return buffer.getvalue()


def blurred(mask: np.ndarray, radius: float) -> np.ndarray:
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)[..., None] / 255


def shadow(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """A shadow's edge, straight or bent, anywhere over the picture."""
    return taken(shaded(sheet_of(digit, rng).picture, rng), rng)


def shaded(picture: Picture, rng: np.random.Generator) -> Picture:
    """Lay a shadow over a part of a picture."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    across, along = np.cos(angle), np.sin(angle)
    edge = (x - width * rng.uniform(0.2, 0.8)) * across + (
        y - height * rng.uniform(0.2, 0.8)
    ) * along
    if rng.random() < 0.3:  # somebody's head
        edge += (
            rng.uniform(-1, 1) * ((x - width / 2) * along - (y - height / 2) * across) ** 2 / 600
        )
    dark = blurred(edge > 0, rng.uniform(0, 30))
    shadowed: Picture = picture * (1 - dark * rng.uniform(0.2, 0.5))
    return shadowed


def sheet_on_table(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """A sheet that leaves some of the table on one to four sides."""
    return taken(_on_table(digit, rng), rng)


def shaded_sheet_on_table(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """The same with a shadow over it."""
    return taken(shaded(_on_table(digit, rng), rng), rng)


def _on_table(digit: np.ndarray, rng: np.random.Generator) -> Picture:
    sides = rng.permutation(4)[: rng.integers(1, 5)]
    room = [0, 0, 0, 0]
    for side in sides:
        room[side] = int(rng.integers(20, 151))
    sheet = sheet_of(digit, rng, room=(room[0], room[1], room[2], room[3]), least=100)
    height, width = sheet.picture.shape[:2]
    table, _ = any_colours(rng)
    while abs(float((table - sheet.paper) @ GREY)) < LEAST_CONTRAST:
        table, _ = any_colours(rng)
    inside = Image.new("L", (width * 2, height * 2), 0)
    far = 400
    corners = (
        room[0] or -far, room[1] or -far,
        width - room[2] if room[2] else width + far, height - room[3] if room[3] else height + far,
    )  # fmt: skip
    skew = rng.uniform(-0.03, 0.03)
    points = [
        (2 * (px - skew * (py - height / 2)), 2 * (py + skew * (px - width / 2)))
        for px, py in (
            (corners[0], corners[1]), (corners[2], corners[1]),
            (corners[2], corners[3]), (corners[0], corners[3]),
        )
    ]  # fmt: skip
    ImageDraw.Draw(inside).polygon(points, fill=255)
    shown = np.asarray(inside.resize((width, height)), np.float32)[..., None] / 255
    picture: Picture = sheet.picture * shown + table * (1 - shown)
    return picture


def printed_box(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """A box printed around the digit, in its colour or another one."""
    return taken(_boxed(digit, rng), rng)


def shaded_box(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """The same with a shadow over it."""
    return taken(shaded(_boxed(digit, rng), rng), rng)


def _boxed(digit: np.ndarray, rng: np.random.Generator) -> Picture:
    sheet = sheet_of(digit, rng, room=(30, 30, 30, 30))
    height, width = sheet.picture.shape[:2]
    left, top, right, bottom = sheet.box
    thick = int(rng.integers(2, 9))
    sides = (
        left - rng.uniform(6, max(7, left - thick - 2)),
        top - rng.uniform(6, max(7, top - thick - 2)),
        right + rng.uniform(6, max(7, width - right - thick - 2)),
        bottom + rng.uniform(6, max(7, height - bottom - thick - 2)),
    )  # fmt: skip
    colour = sheet.ink
    if rng.random() < 0.5:
        colour = any_colours(rng)[0]
        while abs(float((colour - sheet.paper) @ GREY)) < LEAST_CONTRAST / 2:
            colour = any_colours(rng)[0]
    lines = Image.new("L", (width, height), 0)
    ImageDraw.Draw(lines).rectangle(sides, outline=255, width=thick)
    lines = lines.rotate(rng.uniform(-2, 2), Image.Resampling.BILINEAR)
    shown = np.asarray(lines, np.float32)[..., None] / 255
    picture: Picture = sheet.picture * (1 - shown) + colour * shown
    return picture


def finger(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """A finger that comes in at a corner and ends before the digit."""
    room = [20, 20, 20, 20]
    corner = int(rng.integers(4))
    room[0 if corner % 2 == 0 else 2] = int(rng.integers(60, 140))
    sheet = sheet_of(digit, rng, room=(room[0], room[1], room[2], room[3]))
    height, width = sheet.picture.shape[:2]
    skin = np.array(SKINS[rng.integers(len(SKINS))], np.float32)
    x0, y0 = (0 if corner % 2 == 0 else width), (0 if corner < 2 else height)
    left, top, right, bottom = sheet.box
    near = np.array([left if x0 == 0 else right, top if y0 == 0 else bottom], float)
    thick = rng.uniform(60, 130)
    direction = near - (x0, y0)
    far = np.linalg.norm(direction)
    # From far outside the picture to where it keeps clear of the digit's box.
    tip = np.array([x0, y0]) + direction / far * min(
        rng.uniform(40, 220), max(10, far - thick * 0.6)
    )
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = direction / far
    behind = (x - tip[0]) * unit[0] + (y - tip[1]) * unit[1]
    aside = (x - tip[0]) * -unit[1] + (y - tip[1]) * unit[0]
    shape = np.where(behind > 0, np.hypot(behind, aside), np.abs(aside)) < thick / 2
    shape &= ~_inside(sheet.box, height, width, 4)
    round_light = np.clip(1.1 - 0.5 * (2 * aside / thick) ** 2, 0.5, 1.1)[..., None]
    shown = blurred(shape, 1.5)
    return taken(sheet.picture * (1 - shown) + skin * round_light * shown, rng)


def _inside(box: tuple[int, int, int, int], height: int, width: int, margin: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    left, top, right, bottom = box
    mask[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin] = True
    return mask


def plain(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Nothing but the digit on paper."""
    return taken(sheet_of(digit, rng).picture, rng)


def pencil(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Grey on white, and faint."""
    white = np.array([235, 233, 228], np.float32)
    grey = np.array([90, 90, 95], np.float32)
    sheet = sheet_of(digit, rng, colours=(white, grey), strength=rng.uniform(0.4, 0.8))
    return taken(sheet.picture, rng)


def ruled(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Paper with faint lines."""
    white, ink = np.array([240, 240, 235], np.float32), np.array([30, 40, 110], np.float32)
    sheet = sheet_of(digit, rng, colours=(white, ink))
    step = int(rng.integers(40, 90))
    for row in range(int(rng.integers(step)), sheet.picture.shape[0], step):
        sheet.picture[row : row + 2] = np.minimum(sheet.picture[row : row + 2], (200, 212, 230))
    return taken(sheet.picture, rng)


def blackboard(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Chalk."""
    board = np.array(CHALKBOARDS[rng.integers(len(CHALKBOARDS))], np.float32)
    chalk = np.array([225, 225, 215], np.float32)
    return taken(sheet_of(digit, rng, colours=(board, chalk), strength=0.9).picture, rng)


def turned(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Not quite upright."""
    return taken(sheet_of(digit, rng, turn=rng.uniform(-12, 12)).picture, rng)


def out_of_focus(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Blurred."""
    sheet = sheet_of(digit, rng)
    image = Image.fromarray(sheet.picture.clip(0, 255).astype(np.uint8))
    return taken(
        np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 6))), np.float32), rng
    )


Scene = Callable[[np.ndarray, np.random.Generator], bytes]

# Something that is not the digit is on the picture.
HARD: dict[str, Scene] = {
    "shadow's edge": shadow,
    "sheet on a table": sheet_on_table,
    "printed box": printed_box,
    "finger in a corner": finger,
}
# Two of them at once.
BOTH: dict[str, Scene] = {
    "shaded sheet on a table": shaded_sheet_on_table,
    "shaded printed box": shaded_box,
}
EASY: dict[str, Scene] = {
    "plain": plain,
    "pencil": pencil,
    "ruled paper": ruled,
    "blackboard": blackboard,
    "turned": turned,
    "out of focus": out_of_focus,
}
