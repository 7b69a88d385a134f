"""A photograph as a telephone takes it, on every broker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from Modelling.data_preparation import bundled_test_images
from tests.pipeline.runner import Pipeline

TWELVE_MEGAPIXELS = (4032, 3024)
GRAIN = 26.0
UPRIGHT_AFTER_A_QUARTER_TURN = 6
ORIENTATION_TAG = 0x0112


def photograph_of_a_seven(path: Path) -> None:
    """Dark ink on grainy paper, the camera held sideways: about 6 MB of JPEG."""
    digit = Image.fromarray(bundled_test_images()[0][0]).resize((1400, 1400))
    page = np.full(TWELVE_MEGAPIXELS, 225.0, np.float32)  # upright: higher than wide
    page[1200:2600, 900:2300] -= np.asarray(digit, np.float32) * 0.7
    page += np.random.default_rng(1).normal(0.0, GRAIN, page.shape).astype(np.float32)
    photograph = Image.fromarray(page.clip(0, 255).astype(np.uint8)).convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = UPRIGHT_AFTER_A_QUARTER_TURN
    photograph.transpose(Image.Transpose.ROTATE_90).save(path, quality=88, exif=exif)


def test_a_photograph_of_six_megabytes_goes_through(
    pipeline_on_each_broker: Pipeline, tmp_path: Path
) -> None:
    pipeline = pipeline_on_each_broker
    photograph = tmp_path / "seven.jpg"
    photograph_of_a_seven(photograph)
    assert 5_500_000 < photograph.stat().st_size < 7_000_000
    scripts = [pipeline.sub().ready(), pipeline.pub().ready(), pipeline.app_2().ready()]

    pipeline.app_1(photograph).end()

    pipeline.wait_for_rows(1)
    for script in scripts:
        script.terminate()
    (row,) = pipeline.rows()
    assert (row["source"], row["label"]) == ("seven.jpg", "7")
