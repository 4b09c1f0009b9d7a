"""Fixtures for the tests of datasets: the demo dataset, generated once, and a writer of pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.files.disk import write_image


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole demo dataset at seed 0, in a path with a space."""
    return write_demo(tmp_path_factory.mktemp("data") / "the demo").parent


@pytest.fixture
def picture() -> Callable[..., Path]:
    """A function that writes a picture of 40 x 30 pixels, or of another size, and returns its path."""

    def write(path: Path, width: int = 40, height: int = 30) -> Path:
        write_image(path, np.full((height, width, 3), 90, np.uint8))
        return path

    return write
