"""Masks of pixels, held against Pillow's filter and against what is set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from Modelling.images.clutter import fills
from Modelling.images.components import Mask
from Modelling.images.masks import extent_of, grown

SHARES = (0.0, 0.001, 0.01, 0.1, 0.5)


def masks(count: int) -> list[Mask]:
    random = np.random.default_rng(1)
    shapes = random.integers(1, 60, (count, 2))
    return [random.random(shape) < random.choice(SHARES) for shape in shapes]


@pytest.mark.parametrize("pixels", [1, 2, 6])
def test_a_mask_is_grown_as_by_a_maximum_filter(pixels: int) -> None:
    for mask in masks(200):
        image = Image.fromarray(mask.astype(np.uint8))
        wanted = np.asarray(image.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0
        assert np.array_equal(grown(mask, pixels), wanted)


def test_the_extent_holds_all_that_is_set_and_no_row_or_column_more() -> None:
    for mask in masks(200):
        extent = extent_of(mask)
        if extent is None:
            assert not mask.any()
            continue
        inside = mask[extent]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_nothing_fills_no_picture() -> None:
    assert not fills(np.zeros((100, 100), np.bool_))
