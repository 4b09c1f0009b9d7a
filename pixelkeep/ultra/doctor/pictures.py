"""The doctor's pictures: sizes.png, duplicates.jpg and smallest.jpg."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.doctor.duplicates import NEAR, SIDE, Pair
from pixelkeep.datasets.doctor.recommendations import show_size
from pixelkeep.datasets.doctor.sizes import Objects
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.report import pair_sheet, zoom
from pixelkeep.report.size_plot import size_plot
from pixelkeep.ultra.predictors.base import viewable
from pixelkeep.writing import write_bytes


def draw(
    folder: Path, spec: DatasetSpec, splits: Mapping[str, Objects], document: Mapping[str, Any], pairs: Sequence[Pair]
) -> None:
    """Write the pictures into a run folder.

    Args:
        folder: The run folder.
        spec: Definition of the dataset, by which the images are read.
        splits: Objects of each split.
        document: The doctor's document, as docs/doctor.md describes it.
        pairs: Pairs of near-duplicate images in different splits.
    """

    def read(path: Path) -> np.ndarray:
        return viewable(read_pixels(path, spec.channels, spec.stretch))

    objects = list(splits.values())
    shown, original = (np.concatenate([getattr(own, key) for own in objects]) for key in ("shown", "original"))
    strides, goal, size = document["strides"], document["sizes"]["goal"], show_size(tuple(document["imgsz"]))
    title = f"{len(shown):,} objects of {spec.file.name}, --imgsz {size}"
    write_bytes(folder / "sizes.png", size_plot(shown, original, strides, goal, title))
    note = f"The smallest objects in the network's input, --imgsz {size} (yellow); others (blue)."
    _save(folder / "smallest.jpg", zoom.zoom_sheet(_smallest(objects, spec), read, note))
    if pairs:
        note = f"Nearly the same in two splits, the nearest first: up to {NEAR} of {SIDE**2} bits of the hash differ."
        said = [(p.first, p.second, f"{p.splits[0]} and {p.splits[1]}: {p.distance} bits") for p in pairs]
        _save(folder / "duplicates.jpg", pair_sheet.pair_sheet(said, read, note))


def _smallest(splits: Sequence[Objects], spec: DatasetSpec) -> list[zoom.Tile]:
    """Return picture tiles of the objects that are smallest in the network's input."""
    order = sorted(
        (own.shown[row], number, row)
        for number, own in enumerate(splits)
        for row in np.argsort(own.shown, kind="stable")[: zoom.MOST]
    )
    tiles = []
    for shown, number, row in order[: zoom.MOST]:
        own = splits[number]
        record = own.records[own.image[row]]
        boxes = np.hstack([record.boxes[:, :2], record.boxes[:, 2:] - record.boxes[:, :2]])  # (k, 4) x y w h
        place = int(row - np.searchsorted(own.image, own.image[row]))
        box = tuple(boxes[~record.difficult][place].tolist())
        size = f"{spec.names[int(own.classes[row])]}  {box[2]:.3g}x{box[3]:.3g} px"
        lines = (record.path.name, size, f"{shown:.1f} px in the network")
        tiles.append(zoom.Tile(record.path, box, lines, tuple(map(tuple, boxes.tolist()))))
    return tiles


def _save(path: Path, picture: Image.Image) -> None:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=92)
    write_bytes(path, content.getvalue())
