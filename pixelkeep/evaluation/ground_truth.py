"""Ground truth in the evaluator's form: COCO JSON without the traps of pycocotools.

Annotation ids count from 1 (pycocotools never matches id 0), and ``area`` comes from the source. ``iscrowd``
distinguishes two kinds of ignored annotations. A *region* (iscrowd 1) neutralises any number of detections by
intersection over the detection's area, and is listed for every class. An *object* (iscrowd 0, ignore 1) is matched by
IoU, in its own class, once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pixelkeep.errors import DataError
from pixelkeep.evaluation.reading import field, is_box, is_id, is_number, load

GroundTruth = Mapping[str, Any] | str | os.PathLike
BOX = "[x, y, width, height] in pixels, finite and with no negative side"


class GroundTruthBuilder:
    """Collect labelled images into one ground truth.

    Args:
        names: Names of the classes.
        category_ids: Category ids of the classes, rising; None for 1, 2, 3 ...

    Errors: DataError for values that cannot be evaluated, naming the image file and the record.
    """

    def __init__(self, names: Sequence[str], category_ids: Sequence[int] | None = None) -> None:
        if not names:
            raise DataError("the ground truth has no class names; expected at least one")
        self.names = list(names)
        self.category_ids = list(category_ids or range(1, len(names) + 1))
        self._images: dict[int, dict[str, Any]] = {}
        self._annotations: list[dict[str, Any]] = []

    def add_image(
        self,
        file: str | os.PathLike,
        width: int,
        height: int,
        boxes: ArrayLike,
        classes: ArrayLike,
        *,
        areas: ArrayLike | None = None,
        ignore: ArrayLike | None = None,
        regions: ArrayLike | None = None,
        image_id: int | None = None,
    ) -> None:
        """Add one image with its boxes.

        Args:
            file: Name of the image file.
            width, height: Size of the original image in pixels.
            boxes: (n, 4) as x1, y1, x2, y2 in pixels of the original image.
            classes: (n,) class indices, 0 to len(names) - 1.
            areas: (n,) areas in square pixels as the source gives them; None takes width times height. A side computed
                by subtraction can be off by rounding, so pass the source's own areas if it has them.
            ignore: (n,) true for objects that count neither as found nor as missed (VOC difficult, cut boxes).
            regions: (r, 4) boxes to ignore for every class, as x1, y1, x2, y2.
            image_id: Image id from the source; None counts from 1.
        """
        image_id = len(self._images) + 1 if image_id is None else image_id
        if not is_id(image_id):
            raise DataError(f"{file}: image id {image_id!r}; expected an integer")
        if image_id in self._images:
            raise DataError(f"{file}: image id {image_id} is taken by {self._images[image_id]['file_name']}")
        xywh = _sides(boxes, f"{file}: boxes")
        objects = zip(
            _column(classes, len(xywh), f"{file}: classes"),
            xywh.tolist(),
            _column(xywh[:, 2] * xywh[:, 3] if areas is None else areas, len(xywh), f"{file}: areas"),
            _column(np.zeros(len(xywh)) if ignore is None else ignore, len(xywh), f"{file}: ignore"),
            strict=True,
        )
        records = [self._object(file, image_id, *values) for values in objects]
        for box in _sides([] if regions is None else regions, f"{file}: regions").tolist():
            records += [_annotation(image_id, category, box, None, 1, 1) for category in self.category_ids]
        size = {"width": int(width), "height": int(height)}
        self._images[image_id] = {"id": int(image_id), "file_name": str(file), **size}
        self._annotations += records

    def build(self) -> dict[str, Any]:
        """Return the ground truth as a COCO document in the form that `normalise` describes."""
        pairs = zip(self.category_ids, self.names, strict=True)
        categories = [{"id": number, "name": name} for number, name in pairs]
        images = list(self._images.values())
        return normalise({"images": images, "categories": categories, "annotations": self._annotations})

    def _object(
        self, file: str | os.PathLike, image_id: int, index: float, box: list[float], area: float, ignore: float
    ) -> dict[str, Any]:
        """Return one labelled object as an annotation."""
        if index not in range(len(self.names)):
            raise DataError(f"{file}: class index {index:g}; expected 0 to {len(self.names) - 1}")
        return _annotation(image_id, self.category_ids[int(index)], box, area, 0, int(bool(ignore)))


def normalise(ground_truth: GroundTruth) -> dict[str, Any]:
    """Return a COCO ground truth (document or path) in the evaluator's form; applying it twice changes nothing more.

    Image and category ids stay as they are, and annotation ids count from 1. ``bbox`` and ``area`` are floats; a
    missing area is width times height. ``iscrowd`` stays as it is. ``ignore`` is 1 for crowds and for annotations that
    the source marks as ignored.

    Errors: DataError for missing keys, ids that are duplicate or unknown, and values that are not finite.
    """
    document, where = load(ground_truth, "ground truth")
    sections = ("images", "categories", "annotations")
    images, categories, annotations = (field(document, key, _is_list, "a list", where) for key in sections)
    for key, records in (("images", images), ("categories", categories)):
        _unique_ids(records, key, where)
    image_ids = {image["id"] for image in images}
    category_ids = {category["id"] for category in categories}
    kept = [
        _checked(annotation, image_ids, category_ids, f"{where}: annotations[{index}]")
        for index, annotation in enumerate(annotations)
    ]
    return {
        "images": [
            {key: image[key] for key in ("id", "file_name", "width", "height") if key in image} for image in images
        ],
        "categories": [_category(category, where) for category in categories],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(kept, start=1)],
    }


def sha256(ground_truth: GroundTruth) -> str:
    """Return the hexadecimal SHA-256 of the evaluator's form of the ground truth: JSON, sorted keys, floats by repr."""
    text = json.dumps(normalise(ground_truth), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def density(ground_truth: GroundTruth) -> int:
    """Return the number of boxes, without ignored ones, in the image that has the most of them."""
    annotations = normalise(ground_truth)["annotations"]
    boxes = Counter(annotation["image_id"] for annotation in annotations if not annotation["ignore"])
    return max(boxes.values(), default=0)


def detection_limit(ground_truth: GroundTruth) -> int:
    """Return how many detections to keep per image, or per class and image: three times `density`, at least 300."""
    return max(300, 3 * density(ground_truth))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _unique_ids(records: list[Any], key: str, where: str) -> None:
    """Raise DataError unless there is at least one record and each has a unique integer id."""
    if not records:
        raise DataError(f"{where}: '{key}' is empty; expected at least one")
    seen: set[int] = set()
    for index, record in enumerate(records):
        name = field(record, "id", is_id, "an integer", f"{where}: {key}[{index}]")
        if name in seen:
            raise DataError(f"{where}: {key}[{index}] repeats id {name}; expected an id of its own")
        seen.add(name)


def _category(category: Mapping[str, Any], where: str) -> dict[str, Any]:
    place = f"{where}: category {category['id']}"
    return {"id": category["id"], "name": field(category, "name", lambda name: isinstance(name, str), "text", place)}


def _checked(annotation: Any, image_ids: set[int], category_ids: set[int], where: str) -> dict[str, Any]:
    """Check one annotation and return the fields that the evaluator uses, without its id."""
    image_id = field(annotation, "image_id", is_id, "an integer", where)
    if image_id not in image_ids:
        raise DataError(f"{where} names image_id {image_id}; expected an id from 'images'")
    category_id = field(annotation, "category_id", is_id, "an integer", where)
    if category_id not in category_ids:
        raise DataError(f"{where} names category_id {category_id}; expected an id from 'categories'")
    box = [float(value) for value in field(annotation, "bbox", is_box, BOX, where)]
    area = annotation.get("area")
    if area is not None and not (is_number(area) and area >= 0):
        raise DataError(f"{where} has area {area!r}; expected square pixels, 0 or more")
    crowd = int(bool(annotation.get("iscrowd")))
    return _annotation(image_id, category_id, box, area, crowd, int(bool(crowd or annotation.get("ignore"))))


def _annotation(
    image_id: int, category_id: int, box: list[float], area: float | None, crowd: int, ignore: int
) -> dict[str, Any]:
    return {
        "image_id": int(image_id),
        "category_id": int(category_id),
        "bbox": box,
        "area": box[2] * box[3] if area is None else float(area),
        "iscrowd": crowd,
        "ignore": ignore,
    }


def _sides(boxes: ArrayLike, where: str) -> np.ndarray:
    """Return boxes (n, 4) given by their corners x1, y1, x2, y2 as x, y, width, height."""
    corners = _floats(boxes, where)
    corners = corners.reshape(0, 4) if corners.size == 0 else corners
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DataError(f"{where} have shape {corners.shape}; expected (n, 4)")
    wrong = ~np.isfinite(corners).all(axis=1) | (corners[:, 2:] < corners[:, :2]).any(axis=1)
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(f"{where}[{index}] is {corners[index].tolist()}; expected finite x1 <= x2 and y1 <= y2")
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _column(values: ArrayLike, length: int, where: str) -> list[float]:
    """Return the values as a list of floats, one per box."""
    column = _floats(values, where)
    if column.shape != (length,):
        raise DataError(f"{where} have shape {column.shape}; expected ({length},), one per box")
    return column.tolist()


def _floats(values: ArrayLike, where: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} are not numbers: {error}") from error
