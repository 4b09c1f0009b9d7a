"""YOLO labels: one text file per image, ``class x y w h`` by row, the box's middle and size as fractions of the image.

Images lie in ``images/<split>/``, labels in ``labels/<split>/``, and what YOLO labels cannot hold (areas other than
the box's, difficult objects, regions to ignore) in ``extras/<split>.json``; see `extras`. Rows with more than five
columns are polygons, as in Ultralytics; their bounding box is the object's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from pixelkeep.datasets.extras import apply_extras, save_extras
from pixelkeep.datasets.files import check_stems, copy_image
from pixelkeep.datasets.inspection import Facts, inspect_all
from pixelkeep.datasets.labels import Labels, read_labels
from pixelkeep.datasets.mending import clip_boxes, drop_repeated
from pixelkeep.datasets.problems import Problems
from pixelkeep.datasets.record import ImageRecord
from pixelkeep.datasets.spec import IMAGE_ENDINGS, DatasetSpec, load_spec
from pixelkeep.errors import DataError
from pixelkeep.writing import write_text

DIGITS = 9  # significant digits: enough for float32
GRID = 4  # decimals of a pixel that survive them, at up to 100,000 pixels
NO_LABELS = ("classes.txt", "notes.json")  # what labelling tools leave among the labels


def save_yolo(root: Path, split: str, records: Sequence[ImageRecord], names: dict[int, str]) -> None:
    """Write images (copied unless they are there), labels and extras of ``split`` under ``root``.

    Raises:
        DataError: Two images share a stem, an image is missing, or a class has no name.
    """
    check_stems(record.path for record in records)
    labels = root / "labels" / split
    named = []
    for record in records:
        _check_classes(record, names)
        image = copy_image(record.path, root / "images" / split)
        named.append((image.relative_to(root).as_posix(), record))
        write_text(labels / f"{image.stem}.txt", _rows(record))
    save_extras(root / "extras" / f"{split}.json", named)


def save_yaml(path: Path, splits: Sequence[str], names: dict[int, str]) -> None:
    """Write the dataset YAML for what `save_yolo` wrote into the folder of ``path``, which may be moved later."""
    document = {
        **{split: f"images/{split}" for split in splits},
        "names": names,
        "extras": {split: f"extras/{split}.json" for split in splits},
    }
    write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def load_yolo(source: Path, split: str) -> list[ImageRecord]:
    """Return the records of ``split``, sorted by image path.

    Args:
        source: A dataset YAML, or a folder that `save_yolo` wrote.
        split: train, val or test.

    Raises:
        DataError: There is no such split, or an image, a label or the extras file is malformed.
    """
    spec = _spec_of_folder(source, split) if source.is_dir() else load_spec(source)
    return read_yolo(spec, split, Problems(split, strict=True))


def read_yolo(
    spec: DatasetSpec, split: str, problems: Problems, progress: Callable[[int, int], None] | None = None
) -> list[ImageRecord]:
    """Return the usable records of a split; the others are told to ``problems``.

    Args:
        spec: The dataset.
        split: train, val or test.
        problems: Where everything that is wrong is recorded.
        progress: See :func:`pixelkeep.datasets.inspection.inspect_all`.
    """
    images = list(spec.images(split))
    facts = inspect_all(images, spec.channels, spec.stretch, progress)
    problems.images = len(images)
    records = [record for image in images if (record := _record(image, facts[image], len(spec.names), problems))]
    if split in spec.extras:
        records = apply_extras(records, spec.root, spec.extras[split], left_out=problems.left_out)
    records = [drop_repeated(record, label_file(record.path), problems) for record in records]
    _note_lonely_labels(images, problems)
    return records


def label_path(image: Path) -> Path:
    """Return where the label file of ``image`` is: the last folder called images becomes labels."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def label_file(image: Path) -> Path:
    """Return the label file of ``image``; where that is not there, the one beside the file that a link stands for."""
    path = label_path(image)
    if not path.is_file() and (real := image.resolve()) != image:
        other = label_path(real)
        return other if other.is_file() else path
    return path


def _spec_of_folder(root: Path, split: str) -> DatasetSpec:
    """Describe a folder that has no YAML; its number of classes is not known."""
    folder = (root / "images" / split).resolve()
    if not folder.is_dir():
        raise DataError(f"{root}: no split '{split}'; its images should be in {folder}")
    extras = (root / "extras" / f"{split}.json").resolve()
    return DatasetSpec(root, root.resolve(), {split: [folder]}, {}, {split: extras} if extras.is_file() else {})


def _record(image: Path, facts: Facts, classes: int, problems: Problems) -> ImageRecord | None:
    """Return the record of one image; None if it is left out."""
    if facts.reason:
        problems.leave_out(image, "image unusable", image, facts.reason)
        return None
    if facts.frames:
        problems.mend("several frames or pages, the first is used", image, "")
    file = label_file(image)
    labels = read_labels(file, classes)
    for line, kind, detail in labels.wrong:
        problems.leave_out(image, kind, file, detail, line)
    return None if labels.wrong else _in_pixels(image, facts, labels, file, problems)


def _in_pixels(image: Path, facts: Facts, labels: Labels, file: Path, problems: Problems) -> ImageRecord:
    size = np.array([facts.width, facts.height])
    boxes = np.round(np.array(labels.boxes).reshape(-1, 4) * np.tile(size, 2), GRID)
    boxes = clip_boxes(boxes, facts.width, facts.height, file, problems)
    outlines = None
    if any(outline is not None for outline in labels.polygons):  # a box among polygons is the polygon of its corners
        pairs = zip(labels.polygons, labels.boxes, strict=True)
        outlines = [(_corners(box) if outline is None else outline) * size for outline, box in pairs]
    return ImageRecord(image, facts.width, facts.height, boxes, labels.classes, polygons=outlines)


def _corners(box: tuple[float, float, float, float]) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])  # (4, 2)


def _note_lonely_labels(images: list[Path], problems: Problems) -> None:
    """Note label files beside which no image stands, in the folders that the split uses."""
    folders = {label_path(image).parent: image.parent for image in images}
    for folder, pictures in sorted(folders.items()):
        if not folder.is_dir():
            continue
        stems = {os.path.splitext(entry.name)[0] for entry in os.scandir(pictures) if _is_image(entry.name)}
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            stem, ending = os.path.splitext(entry.name)
            if ending == ".txt" and stem not in stems and entry.name not in NO_LABELS:
                problems.note("label file without an image", folder / entry.name)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


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
