"""YOLO labels: one text file per image, ``class x y w h`` by row, the box's middle and size as fractions of the image.

Images lie in ``images/<split>/``, labels in ``labels/<split>/``, and what YOLO labels cannot hold (areas other than
the box's, difficult objects, regions to ignore) in ``extras/<split>.json``; see `extras`. Rows with more than five
columns are polygons, as in Ultralytics, of which the bounding box is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from pixelkeep.datasets.extras import apply_extras, save_extras
from pixelkeep.datasets.files import check_stems, copy_image, read_image
from pixelkeep.datasets.record import ImageRecord
from pixelkeep.datasets.spec import DatasetSpec, load_spec
from pixelkeep.errors import DataError

DIGITS = 9  # significant digits: enough for float32
GRID = 4  # decimals of a pixel that survive them, at up to 100,000 pixels


def save_yolo(root: Path, split: str, records: Sequence[ImageRecord], names: dict[int, str]) -> None:
    """Write images (copied unless they are there), labels and extras of ``split`` under ``root``.

    Raises:
        DataError: Two images share a stem, an image is missing, or a class has no name.
    """
    check_stems(record.path for record in records)
    labels = root / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    named = []
    for record in records:
        _check_classes(record, names)
        image = copy_image(record.path, root / "images" / split)
        named.append((image.relative_to(root).as_posix(), record))
        (labels / f"{image.stem}.txt").write_text(_rows(record), encoding="utf-8")
    save_extras(root / "extras" / f"{split}.json", named)


def save_yaml(path: Path, splits: Sequence[str], names: dict[int, str]) -> None:
    """Write the dataset YAML for what `save_yolo` wrote into the folder of ``path``, which may be moved later."""
    document = {
        **{split: f"images/{split}" for split in splits},
        "names": names,
        "extras": {split: f"extras/{split}.json" for split in splits},
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


def load_yolo(source: Path, split: str) -> list[ImageRecord]:
    """Return the records of ``split``, sorted by image path.

    Args:
        source: A dataset YAML, or a folder that `save_yolo` wrote.
        split: train, val or test.

    Raises:
        DataError: There is no such split, or a label or extras file is malformed.
    """
    spec = _spec_of_folder(source, split) if source.is_dir() else load_spec(source)
    records = [_record(image, len(spec.names)) for image in spec.images(split)]
    return apply_extras(records, spec.root, spec.extras[split]) if split in spec.extras else records


def label_path(image: Path) -> Path:
    """Return where the label file of ``image`` is: the last folder called images becomes labels."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _spec_of_folder(root: Path, split: str) -> DatasetSpec:
    """Describe a folder that has no YAML; its number of classes is not known."""
    folder = (root / "images" / split).resolve()
    if not folder.is_dir():
        raise DataError(f"{root}: no split '{split}'; its images should be in {folder}")
    extras = (root / "extras" / f"{split}.json").resolve()
    return DatasetSpec(root, root.resolve(), {split: [folder]}, {}, {split: extras} if extras.is_file() else {})


def _record(image: Path, classes: int) -> ImageRecord:
    """Read one image's size and labels; ``classes`` is their number, 0 if not known."""
    height, width = read_image(image).shape[:2]
    rows = _read_rows(label_path(image), classes)
    scale = np.array([width, height, width, height])
    boxes = np.round(np.array([row[1:] for row in rows]).reshape(-1, 4) * scale, GRID)
    return ImageRecord(image, width, height, boxes, [row[0] for row in rows])


def _read_rows(path: Path, classes: int) -> list[tuple]:
    """Return (class, x1, y1, x2, y2) for each row, in fractions; no file means no objects."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            rows.append(_read_row(f"{path}, line {number}", line, classes))
    return rows


def _read_row(where: str, line: str, classes: int) -> tuple:
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError as error:
        raise DataError(f"{where}: '{line.strip()}' is not numbers separated by spaces") from error
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise DataError(f"{where}: {len(values) + 1} columns; a box has 5 (class x y w h), a polygon 7, 9, 11, ...")
    if label < 0 or not label.is_integer() or (classes and label >= classes):
        allowed = f"a whole number from 0 to {classes - 1}" if classes else "a whole number from 0"
        raise DataError(f"{where}: class {label:g}; it must be {allowed}")
    if len(values) == 4:
        x, y, w, h = values
        return int(label), x - w / 2, y - h / 2, x + w / 2, y + h / 2
    return int(label), min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _rows(record: ImageRecord) -> str:
    scale = np.array([record.width, record.height])
    middle = (record.boxes[:, :2] + record.boxes[:, 2:]) / 2 / scale
    size = (record.boxes[:, 2:] - record.boxes[:, :2]) / scale
    lines = []
    for label, values in zip(record.classes, np.hstack([middle, size]), strict=True):
        lines.append(" ".join([str(label), *(f"{value:.{DIGITS}g}" for value in values)]) + "\n")
    return "".join(lines)


def _check_classes(record: ImageRecord, names: dict[int, str]) -> None:
    for label in record.classes:
        if int(label) not in names:
            raise DataError(f"{record.path}: class {label} has no name; names are for 0 to {len(names) - 1}")
