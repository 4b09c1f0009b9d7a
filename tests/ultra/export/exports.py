"""What the tests of exports have in common: a network whose outputs vary, a few images, speed measured briefly."""

from __future__ import annotations

from pathlib import Path

import pytest
from varied import varied, write

from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.export import parity

NAMES = {i: name for i, name in enumerate(("person", "car", "truck", "boat", "building"))}


def tiny(folder: Path) -> str:
    """Return generated images, with labels."""
    return str(write_demo(folder / "tiny", splits={"train": 4, "val": 6, "test": 1}))


def checkpoint(folder: Path, names: dict[int, str] = NAMES, name: str = "yolov5-spd-n") -> Path:
    """Return a checkpoint of a detector."""
    model = varied(name, names)
    model.task = "detect"
    return write(model, folder / "best.pt")


def briefly(patch: pytest.MonkeyPatch) -> None:
    """Measure the speed in as few rounds as there may be."""
    patch.setattr(parity, "SECONDS", 0.0)
