"""Images in every form, and the shipped checkpoint, loaded once."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Modelling.data_preparation import bundled_test_images
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.predict_cnn import Classifier, load_classifier


@pytest.fixture(scope="session")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    return bundled_test_images()


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return load_classifier()


@pytest.fixture(scope="session")
def seven(mnist: tuple[np.ndarray, np.ndarray]) -> Image.Image:
    """A handwritten seven as people scan it: 140x140, dark ink on white."""
    return Image.fromarray(255 - mnist[0][0]).resize((140, 140), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    def encode_with_pillow(
        image: Image.Image | np.ndarray, file_format: str, **options: Any
    ) -> bytes:
        buffer = io.BytesIO()
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encode_with_pillow


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped checkpoint with all that belongs to it, to be damaged."""
    folder = tmp_path / "model_checkpoints"
    shutil.copytree(DEFAULT_CHECKPOINT.parent, folder)
    return folder / DEFAULT_CHECKPOINT.name
