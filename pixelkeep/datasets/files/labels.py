"""One YOLO label file: its rows as boxes in fractions of the image, and the problems of each line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixelkeep.errors import DataError


@dataclass
class Labels:
    """The rows of a label file.

    Attributes:
        classes: The class number of each row.
        boxes: The box of each row, x1, y1, x2, y2 as fractions of the image.
        polygons: The outline of each row as fractions of the image, float64 (k, 2); None for a row that is a box.
        wrong: Rows that cannot be understood, each as line number (None for the whole file), kind and detail.
    """

    classes: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    polygons: list[np.ndarray | None] = field(default_factory=list)
    wrong: list[tuple[int | None, str, str]] = field(default_factory=list)


class _RowError(DataError):
    """A row that cannot be understood, with the kind of problem (a fixed wording that can be counted) and a detail."""

    def __init__(self, kind: str, detail: str):
        super().__init__(detail)
        self.kind = kind


def read_labels(path: Path, classes: int) -> Labels:
    """Read a label file; a missing file counts as one without rows.

    Args:
        path: The label file. A byte-order mark and any kind of line ending are accepted.
        classes: The number of classes, 0 if unknown.
    """
    labels = Labels()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return labels
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        labels.wrong.append((None, "label file unreadable", str(reason)))
        return labels
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, box, polygon = _parse(line, classes)
        except _RowError as error:
            labels.wrong.append((number, error.kind, str(error)))
            continue
        labels.classes.append(label)
        labels.boxes.append(box)
        labels.polygons.append(polygon)
    return labels


def _parse(line: str, classes: int) -> tuple[int, tuple, np.ndarray | None]:
    """Return class number, corners and polygon (None for a box) of a row."""
    try:
        label, *values = map(float, line.split())
    except ValueError:
        shown = line.strip()[:60]
        raise _RowError("label not numbers", f"'{shown}' is not numbers separated by spaces") from None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        expected = "a box has 5 (class x y w h), a polygon 7, 9, 11, ..."
        raise _RowError("label with a wrong number of columns", f"{len(values) + 1} columns; {expected}")
    if not label.is_integer() or label < 0 or (classes and label >= classes):
        allowed = f"a whole number from 0 to {classes - 1}" if classes else "a whole number, 0 or more"
        raise _RowError("class number unknown", f"class {label:g}; it must be {allowed}")
    if not np.isfinite(values).all():
        raise _RowError("label not finite", f"'{line.strip()[:60]}'; all values must be finite")
    if len(values) > 4:
        outline = np.array(values).reshape(-1, 2)  # (k, 2)
        return int(label), _checked((*outline.min(0), *outline.max(0))), outline
    x, y, w, h = values
    if w <= 0 or h <= 0:
        raise _RowError("label without a size", f"width {w:g} and height {h:g}; both must be above 0")
    return int(label), _checked((x - w / 2, y - h / 2, x + w / 2, y + h / 2)), None


def _checked(box: tuple) -> tuple[float, float, float, float]:
    """Return a box as floats; refuse a box of size 0 and one that lies entirely outside the image."""
    x1, y1, x2, y2 = map(float, box)
    if x1 == x2 or y1 == y2:
        raise _RowError("label without a size", "all points lie on one line")
    if x1 >= 1 or y1 >= 1 or x2 <= 0 or y2 <= 0:
        shown = ", ".join(f"{side:g}" for side in (x1, y1, x2, y2))
        hint = "; are these pixels? YOLO labels are fractions" if max(x2, y2) > 2 else ""
        raise _RowError("label outside the image", f"corners {shown} in fractions of it{hint}")
    return x1, y1, x2, y2
