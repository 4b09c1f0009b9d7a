"""The demo dataset, generated once for all tests of the datasets."""

from pathlib import Path

import pytest

from pixelkeep.datasets.demo import write_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole demo dataset at seed 0, in a path with a space."""
    return write_demo(tmp_path_factory.mktemp("data") / "the demo").parent
