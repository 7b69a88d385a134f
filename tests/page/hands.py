"""The ten digits as strokes of a pen, and hands that write them: each a distortion of its own."""

from __future__ import annotations

import math
import random

from tests.page.site import Stroke

HANDS = 20


def _arc(
    x: float, y: float, wide: float, high: float, start: float, end: float, steps: int = 24
) -> Stroke:
    """A part of an ellipse; degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + wide * math.cos(each), y + high * math.sin(each)) for each in angles]


# Each on a field of 1 by 1, as it is taught in school.
DIGITS: dict[str, list[Stroke]] = {
    "0": [_arc(0.5, 0.5, 0.28, 0.42, -100, 260)],
    "1": [[(0.43, 0.2), (0.54, 0.08), (0.54, 0.92)]],
    "2": [[*_arc(0.5, 0.3, 0.25, 0.22, -170, 35), (0.24, 0.9), (0.78, 0.9)]],
    "3": [[*_arc(0.46, 0.29, 0.25, 0.2, -150, 80), *_arc(0.46, 0.7, 0.3, 0.22, -80, 150)]],
    "4": [[(0.55, 0.08), (0.2, 0.62), (0.82, 0.62)], [(0.62, 0.38), (0.62, 0.94)]],
    "5": [
        [(0.3, 0.1), (0.27, 0.45), *_arc(0.47, 0.66, 0.28, 0.26, -125, 150)],
        [(0.3, 0.1), (0.74, 0.1)],
    ],
    "6": [[(0.64, 0.07), (0.4, 0.3), (0.27, 0.6), *_arc(0.5, 0.68, 0.24, 0.24, 180, -170)]],
    "7": [[(0.22, 0.12), (0.78, 0.12), (0.6, 0.5), (0.44, 0.93)]],
    "8": [
        [
            *_arc(0.5, 0.3, 0.21, 0.21, -60, -270),
            *_arc(0.5, 0.72, 0.25, 0.22, -90, 270),
            *_arc(0.5, 0.3, 0.21, 0.21, 90, -60),
        ]
    ],
    "9": [[*_arc(0.5, 0.32, 0.23, 0.23, -20, -380), (0.7, 0.6), (0.62, 0.94)]],
}  # fmt: skip


class Hand:
    """Writes large or small, upright or slanted, steadily or not; the same each time."""

    def __init__(self, number: int) -> None:
        chance = random.Random(number)
        self._chance = chance
        self._slant = chance.uniform(-0.22, 0.3)
        self._turn = math.radians(chance.uniform(-8, 8))
        self._size = chance.uniform(0.45, 0.85)
        self._wide = chance.uniform(0.75, 1.1)
        self._left = chance.uniform(-0.06, 0.06)
        self._up = chance.uniform(-0.06, 0.06)
        self._unsteady = chance.uniform(0.0, 0.012)

    def write(self, digit: str) -> list[Stroke]:
        """Write a digit on a pad of 1 by 1."""
        phase, period = self._chance.uniform(0, 6), self._chance.uniform(3, 6)
        return [
            [self._place(x, y, math.sin(phase + i / period)) for i, (x, y) in enumerate(stroke)]
            for stroke in DIGITS[digit]
        ]

    def _place(self, x: float, y: float, tremble: float) -> tuple[float, float]:
        x, y = (x - 0.5) * self._wide, y - 0.5
        x -= self._slant * y
        turn = self._turn
        x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        trembling = tremble * self._unsteady
        return (
            min(0.97, max(0.03, 0.5 + self._left + self._size * x + trembling)),
            min(0.97, max(0.03, 0.5 + self._up + self._size * y - trembling)),
        )
