"""Helpers shared by the tests of exports: a network whose outputs vary, a few images, a brief speed measurement."""

from __future__ import annotations

from pathlib import Path

import pytest
from varied import varied, write

from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.export import parity

NAMES = {i: name for i, name in enumerate(("person", "car", "truck", "boat", "building"))}


def tiny(folder: Path) -> str:
    """Generate a small labelled dataset and return the path of its YAML."""
    return str(write_demo(folder / "tiny", splits={"train": 4, "val": 6, "test": 1}))


def checkpoint(folder: Path, names: dict[int, str] = NAMES, name: str = "yolov5-spd-n") -> Path:
    """Write the checkpoint of a detector and return its path."""
    model = varied(name, names)
    model.task = "detect"
    return write(model, folder / "best.pt")


def briefly(patch: pytest.MonkeyPatch) -> None:
    """Make the measurement of speed as short as possible."""
    patch.setattr(parity, "SECONDS", 0.0)
