"""Extras: what label files cannot hold, kept in one JSON file per split.

``{"schema": 1, "images": {"<image path>": {"difficult": [row, ...], "areas": {"<row>": area, ...},
"regions": [[x1, y1, x2, y2], ...], "polygons": [[x, y, x, y, ...], ...], "image_id": id, "ids": [id, ...],
"region_ids": [id, ...]}}}``. Paths are relative to the dataset's folder, with forward slashes. Rows count the image's
objects from 0 in the order of its annotations. Areas are listed where they differ from the area of the box; polygons
and ids are listed for all objects. Empty keys and images without extras are left out. Areas and regions are in pixels.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.record import ImageRecord, box_areas
from pixelkeep.datasets.files.disk import read_json, write_json
from pixelkeep.errors import DataError, choices

SCHEMA = 1
KEYS = ("difficult", "areas", "regions", "polygons", "image_id", "ids", "region_ids")


def save_extras(path: Path, images: Iterable[tuple[str, ImageRecord]], holds: Collection[str] = ()) -> None:
    """Write the extras of ``images`` (pairs of relative path and record) without the keys in ``holds``.

    The keys in ``holds`` are those that the annotation files themselves can express.
    """
    entries = {name: entry for name, record in images if (entry := _entry(record, holds))}
    write_json(path, {"schema": SCHEMA, "images": entries})


def load_extras(path: Path) -> dict[str, dict]:
    """Return the extras of each image by its relative path: a dictionary with some of `KEYS`.

    Rows are ints, areas map row to area, and polygons are arrays (k, 2).

    Raises:
        DataError: The file is not an extras JSON, or it has another schema.
    """
    document = read_json(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise DataError(f"{path}: schema {found!r}; this version reads extras of schema {SCHEMA}")
    images = document.get("images")
    if not isinstance(images, dict):
        raise DataError(f"{path}: no 'images' mapping from image path to extras")
    return {name: _checked(f"{path}: images['{name}']", entry) for name, entry in images.items()}


def apply_extras(
    records: Sequence[ImageRecord], root: Path, path: Path, left_out: Collection[Path] = ()
) -> list[ImageRecord]:
    """Return ``records`` with the areas, flags, regions, polygons and ids that the extras file holds for them.

    Args:
        records: The images that are used, all below ``root``.
        root: The dataset's folder.
        path: The extras file.
        left_out: Images that are not used but that the file may name all the same.

    Raises:
        DataError: The extras name an image or a row that is not among the records.
    """
    extras = load_extras(path)
    complete = []
    for record in records:
        name = _relative(record.path, root)
        complete.append(_merge(record, extras.get(name, {}), f"{path}: images['{name}']"))
    known = {_relative(image, root) for image in (*(record.path for record in records), *left_out)}
    if unknown := next((name for name in extras if name not in known), None):
        raise DataError(f"{path}: '{unknown}' is not one of the {len(known)} images of its split")
    return complete


def _relative(image: Path, root: Path) -> str:
    return os.path.relpath(image, root).replace(os.sep, "/")


def _merge(record: ImageRecord, entry: dict, where: str) -> ImageRecord:
    n = len(record.boxes)
    areas, difficult = record.areas.copy(), record.difficult.copy()
    for row in (*entry.get("difficult", ()), *entry.get("areas", ())):
        if not 0 <= row < n:
            raise DataError(f"{where}: row {row}, but the image has {n} annotations, counted from 0")
    difficult[entry.get("difficult", [])] = True
    for row, area in entry.get("areas", {}).items():
        areas[row] = area
    for key in ("polygons", "ids"):
        if key in entry and len(entry[key]) != n:
            raise DataError(f"{where}: {len(entry[key])} {key}, but the image has {n} annotations")
    others = {key: entry[key] for key in KEYS[2:] if key in entry}
    return replace(record, areas=areas, difficult=difficult, **others)


def _entry(record: ImageRecord, holds: Collection[str]) -> dict:
    odd = np.flatnonzero(record.areas != box_areas(record.boxes))
    entry = {
        "difficult": np.flatnonzero(record.difficult).tolist(),
        "areas": {str(row): float(record.areas[row]) for row in odd},
        "regions": record.regions.tolist(),
        "polygons": [outline.ravel().tolist() for outline in record.polygons or []],
        "image_id": record.image_id,
        "ids": [] if record.ids is None else record.ids.tolist(),
        "region_ids": [] if record.region_ids is None else record.region_ids.tolist(),
    }
    return {key: value for key, value in entry.items() if key not in holds and value not in (None, [], {})}


def _checked(where: str, entry: object) -> dict:
    if not isinstance(entry, dict) or not set(entry) <= set(KEYS):
        found = choices(entry) if isinstance(entry, dict) else repr(entry)
        raise DataError(f"{where}: has {found}; allowed are {choices(KEYS)}")
    try:
        read = {
            "difficult": [int(row) for row in entry.get("difficult", [])],
            "areas": {int(row): float(area) for row, area in entry.get("areas", {}).items()},
            "regions": np.array(entry.get("regions", []), float).reshape(-1, 4),
            "polygons": [np.array(outline, float).reshape(-1, 2) for outline in entry.get("polygons", [])],
            "image_id": int(entry.get("image_id", 0)),
            "ids": np.array(entry.get("ids", []), np.int64),
            "region_ids": np.array(entry.get("region_ids", []), np.int64),
        }
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{where}: needs rows, row: area and [x1, y1, x2, y2] ({error})") from error
    return {key: read[key] for key in entry}
