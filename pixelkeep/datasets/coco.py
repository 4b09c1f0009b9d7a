"""COCO detection JSON: one document with images, annotations and categories.

Ids count from 1, as pycocotools never matches an annotation whose id is 0. A difficult object carries
``"ignore": 1``. A region to ignore is an annotation with ``"iscrowd": 1``; COCO wants a category for it, so it gets
the first one, and on loading every crowd annotation becomes a region for all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelkeep.datasets.files import read_json, write_json
from pixelkeep.datasets.record import ImageRecord, box_areas
from pixelkeep.errors import DataError


def save_coco(path: Path, records: Sequence[ImageRecord], names: dict[int, str]) -> None:
    """Write ``records`` as one COCO JSON file; images are named by their file name alone.

    Raises:
        DataError: Two images have the same file name.
    """
    images, annotations = [], []
    for image_id, record in enumerate(records, 1):
        images.append({"id": image_id, "file_name": record.path.name, "width": record.width, "height": record.height})
        for annotation in _annotations(record):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    taken = [image["file_name"] for image in images]
    if len(set(taken)) < len(taken):
        twice = next(name for name in taken if taken.count(name) > 1)
        raise DataError(f"{path}: two images are called '{twice}'; COCO tells them apart by that name")
    categories = [{"id": index + 1, "name": name} for index, name in sorted(names.items())]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def load_coco(path: Path, images_dir: Path) -> tuple[list[ImageRecord], dict[int, str]]:
    """Return the records and class names of a COCO JSON file.

    Classes are the categories in the order of their ids, renumbered from 0; images keep the file's order.

    Args:
        path: The JSON file.
        images_dir: The folder that its file names are relative to; the images themselves are not read.

    Raises:
        DataError: The file is no COCO JSON, or an annotation names an unknown image or category or has no bbox.
    """
    document = read_json(path)
    categories = sorted(_section(path, document, "categories"), key=lambda c: _order(path, c))
    index = {category["id"]: number for number, category in enumerate(categories)}
    names = {n: str(_value(path, "categories", c, "name")) for n, c in enumerate(categories)}
    found: dict[Any, list[dict]] = {_id(path, "images", i, "id"): [] for i in _section(path, document, "images")}
    if len(found) < len(document["images"]):
        raise DataError(f"{path}: {len(document['images'])} images have only {len(found)} different ids")
    for annotation in _section(path, document, "annotations"):
        for key, known in (("image_id", found), ("category_id", index)):
            if _id(path, "annotations", annotation, key) not in known:
                raise DataError(f"{path}: annotation {annotation.get('id')} has unknown {key} {annotation[key]!r}")
        found[annotation["image_id"]].append(annotation)
    return [_record(path, images_dir, image, found[image["id"]], index) for image in document["images"]], names


def _annotations(record: ImageRecord) -> list[dict]:
    annotations = []
    for box, label, area, hard in zip(record.boxes, record.classes, record.areas, record.difficult, strict=True):
        annotation = {"category_id": int(label) + 1, "bbox": _xywh(box), "area": float(area), "iscrowd": 0}
        annotations.append({**annotation, "ignore": 1} if hard else annotation)
    for region in record.regions:
        x, y, w, h = _xywh(region)
        annotations.append({"category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 1})
    return annotations


def _xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def _section(path: Path, document: Any, key: str) -> list[dict]:
    section = document.get(key) if isinstance(document, dict) else None
    if not isinstance(section, list) or not all(isinstance(entry, dict) for entry in section):
        raise DataError(f"{path}: no list '{key}'; a COCO file has images, annotations and categories")
    return section


def _value(path: Path, section: str, entry: dict, key: str) -> Any:
    if key not in entry:
        raise DataError(f"{path}: an entry of '{section}' (id {entry.get('id')}) has no '{key}'")
    return entry[key]


def _id(path: Path, section: str, entry: dict, key: str) -> int | str:
    value = _value(path, section, entry, key)
    if not isinstance(value, int | str):
        raise DataError(f"{path}: an entry of '{section}' has {key} {value!r}; it must be a number or a text")
    return value


def _order(path: Path, category: dict) -> tuple[bool, int | str]:
    """Sort categories by their ids, numbers before texts."""
    value = _id(path, "categories", category, "id")
    return isinstance(value, str), value


def _number(path: Path, section: str, entry: dict, key: str) -> float:
    value = _value(path, section, entry, key)
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(f"{path}: '{section}' id {entry.get('id')} has {key} {value!r}; it must be a number")
    return value


def _record(path: Path, images_dir: Path, image: dict, annotations: list[dict], index: dict[Any, int]) -> ImageRecord:
    width, height = (int(_number(path, "images", image, key)) for key in ("width", "height"))
    boxes = np.array([_corners(path, annotation) for annotation in annotations]).reshape(-1, 4)
    crowd = np.array([bool(annotation.get("iscrowd")) for annotation in annotations], bool)
    objects = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    areas = box_areas(boxes[~crowd])
    for row, annotation in enumerate(objects):
        if "area" in annotation:
            areas[row] = _number(path, "annotations", annotation, "area")
    return ImageRecord(
        images_dir / str(_value(path, "images", image, "file_name")),
        width,
        height,
        boxes[~crowd],
        [index[annotation["category_id"]] for annotation in objects],
        areas,
        [bool(annotation.get("ignore")) for annotation in objects],
        boxes[crowd],
    )


def _corners(path: Path, annotation: dict) -> tuple[float, float, float, float]:
    bbox = annotation.get("bbox")
    try:
        x, y, w, h = map(float, bbox)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} has bbox {bbox!r}; it must be [x, y, w, h]"
        ) from error
    return x, y, x + w, y + h
