"""Fixtures shared by the tests of tiles."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

SIDE = 128  # side of a tile in pixels


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Return a picture of blurred noise as large as two tiles side by side, (128, 256, 3)."""
    picture = np.random.default_rng(0).integers(0, 255, (SIDE, 2 * SIDE, 3), np.uint8)
    return cv2.GaussianBlur(picture, None, 3)
