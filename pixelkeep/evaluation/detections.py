"""Detections in columns, which a training loop can score without a Python object per box."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pixelkeep.errors import DataError
from pixelkeep.evaluation.ground_truth import BOX
from pixelkeep.evaluation.reading import field, is_box, is_id, is_number, load

KEYS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected boxes of a whole data set, in any order; of detections with equal scores the earlier one goes first.

    Shapes: ``image_ids`` (n,) and ``category_ids`` (n,) integers as in the ground truth, ``boxes_xywh`` (n, 4) as x, y,
    width, height in pixels of the original image, ``scores`` (n,).
    Errors: DataError for columns of unequal length and for boxes or scores that are not finite.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes_xywh: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        one, four = (len(self.scores),), (len(self.scores), 4)
        columns = {"image_ids": (np.int64, one), "category_ids": (np.int64, one)}
        columns |= {"boxes_xywh": (np.float64, four), "scores": (np.float64, one)}
        for name, (kind, shape) in columns.items():
            object.__setattr__(self, name, _column(getattr(self, name), kind, shape, name))
        right = np.isfinite(self.boxes_xywh).all(axis=1) & np.isfinite(self.scores)
        right &= (self.boxes_xywh[:, 2:] >= 0).all(axis=1)
        if not right.all():
            index = int(right.argmin())
            box, score = self.boxes_xywh[index].tolist(), float(self.scores[index])
            raise DataError(f"detections[{index}] has bbox {box}, score {score}; expected {BOX}, and a finite score")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_json(cls, source: Sequence[Mapping[str, Any]] | str | os.PathLike) -> Detections:
        """Read COCO results: a list of ``{"image_id", "category_id", "bbox", "score"}`` or the path of a JSON file.

        Errors: DataError naming the index of the first wrong record.
        """
        records, where = load(source, "detections")
        if not isinstance(records, list | tuple):
            right = f"expected a list of objects with {', '.join(KEYS)}, as val's predictions.json is"
            raise DataError(f"{where} is not a list; {right}")
        for index, record in enumerate(records):
            _check(record, f"{where}[{index}]")
        return cls(*(np.array([record[key] for record in records]) for key in KEYS))

    def subset(self, kept: np.ndarray) -> Detections:
        """Return the detections that ``kept`` selects, either as positions or as a mask."""
        return Detections(self.image_ids[kept], self.category_ids[kept], self.boxes_xywh[kept], self.scores[kept])

    def records(self) -> list[dict[str, Any]]:
        """Return the detections in COCO results form, one dictionary each."""
        columns = (self.image_ids, self.category_ids, self.boxes_xywh, self.scores)
        return [dict(zip(KEYS, values, strict=True)) for values in zip(*(c.tolist() for c in columns), strict=True)]

    def to_json(self) -> str:
        """Return the detections as JSON text in COCO results form; `from_json` reads back the same numbers."""
        return json.dumps(self.records())


def _column(values: ArrayLike, kind: type, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return the values as an array of this shape and type; an empty column may come in any shape and type."""
    column = np.asarray(values)
    column = np.empty(shape, kind) if column.size == 0 == shape[0] else column
    if column.shape != shape:
        raise DataError(f"detections: {name} has shape {column.shape}; expected {shape}")
    if not np.can_cast(column.dtype, kind, casting="same_kind"):
        raise DataError(f"detections: {name} has type {column.dtype}; expected {np.dtype(kind)}")
    return column.astype(kind)


def _check(record: Any, where: str) -> None:
    field(record, "image_id", is_id, "an integer", where)
    field(record, "category_id", is_id, "an integer", where)
    field(record, "bbox", is_box, BOX, where)
    field(record, "score", is_number, "a finite number", where)
