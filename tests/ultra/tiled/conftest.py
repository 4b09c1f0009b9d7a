"""What the tests of tiles look at."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

SIDE = 128  # pixels of a tile


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """A picture of two tiles side by side, blurred noise: (128, 256, 3)."""
    picture = np.random.default_rng(0).integers(0, 255, (SIDE, 2 * SIDE, 3), np.uint8)
    return cv2.GaussianBlur(picture, None, 3)
