"""YOLO labels: one text file per image with rows ``class x y w h``, box centre and size as fractions of the image.

Images lie in ``images/<split>/`` and labels in ``labels/<split>/``. What YOLO labels cannot hold (areas other than the
box's, difficult objects, regions to ignore) is kept in ``extras/<split>.json``, see `extras`. As in Ultralytics, rows
with more than five columns are polygons; the bounding box of a polygon is the object's box.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.assembling import Read, complete
from pixelkeep.datasets.annotations.extras import save_extras
from pixelkeep.datasets.annotations.mending import clip_boxes, snap
from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import IMAGE_ENDINGS, DatasetSpec, load_spec
from pixelkeep.datasets.files.disk import check_stems, copy_image
from pixelkeep.datasets.files.labels import Labels, read_labels
from pixelkeep.datasets.images.inspection import Facts, inspect_all
from pixelkeep.errors import DataError
from pixelkeep.writing import write_text

HOLDS = ("polygons",)  # extras keys that the label files express themselves
NO_LABELS = ("classes.txt", "notes.json")  # files that labelling tools leave among the labels


def save_yolo(
    root: Path, split: str, records: Sequence[ImageRecord], names: dict[int, str], link: bool = False
) -> None:
    """Write the images, labels and extras of ``split`` below ``root``.

    Images are copied, or linked with ``link``, unless they are in place already.

    Raises:
        DataError: Two images share a stem, an image is missing, or a class has no name.
    """
    check_stems(record.path for record in records)
    labels = root / "labels" / split
    named = []
    for record in records:
        _check_classes(record, names)
        image = copy_image(record.path, root / "images" / split, link)
        named.append((image.relative_to(root).as_posix(), record))
        write_text(labels / f"{image.stem}.txt", _rows(record))
    save_extras(root / "extras" / f"{split}.json", named, HOLDS)


def load_yolo(source: Path, split: str) -> list[ImageRecord]:
    """Return the records of ``split``: those of a folder by image path, those of a list in its order.

    Args:
        source: A dataset YAML, or a folder that `save_yolo` wrote.
        split: train, val or test.

    Raises:
        DataError: There is no such split, or an image, a label or the extras file is malformed.
    """
    spec = _spec_of_folder(source, split) if source.is_dir() else load_spec(source)
    problems = Problems(split, strict=True)
    return complete(read_yolo(spec, split, problems), spec, split, problems)


def read_yolo(
    spec: DatasetSpec, split: str, problems: Problems, progress: Callable[[int, int], None] | None = None
) -> list[Read]:
    """Return the usable records of a split, with label numbers as classes; record the rest in ``problems``.

    Args:
        spec: The dataset definition.
        split: train, val or test.
        problems: Collects everything that is wrong.
        progress: See :func:`pixelkeep.datasets.images.inspection.inspect_all`.
    """
    images = list(spec.images(split))
    facts = inspect_all(images, spec.channels, spec.stretch, progress)
    problems.images = len(images)
    reads = [read for image in images if (read := _read(image, facts[image], len(spec.labels or spec.names), problems))]
    _note_lonely_labels(images, problems)
    return reads


def label_path(image: Path) -> Path:
    """Return the path of the label file of ``image``: the last folder called images becomes labels."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def label_file(image: Path) -> Path:
    """Return the label file of ``image``; if it does not exist and the image is a link, that of the link's target."""
    path = label_path(image)
    if not path.is_file() and (real := image.resolve()) != image:
        other = label_path(real)
        return other if other.is_file() else path
    return path


def _spec_of_folder(root: Path, split: str) -> DatasetSpec:
    """Return the definition of a folder without a YAML, with no names because the number of classes is unknown."""
    folder = (root / "images" / split).resolve()
    if not folder.is_dir():
        raise DataError(f"{root}: no split '{split}'; its images should be in {folder}")
    extras = (root / "extras" / f"{split}.json").resolve()
    return DatasetSpec(root, root.resolve(), {split: [folder]}, {}, {split: extras} if extras.is_file() else {})


def _read(image: Path, facts: Facts, classes: int, problems: Problems) -> Read | None:
    """Return the record of one image together with its label file; None if the image is left out."""
    if facts.reason:
        problems.leave_out(image, "image unusable", image, facts.reason)
        return None
    if facts.frames:
        problems.mend("several frames or pages, the first is used", image, "")
    file = label_file(image)
    labels = read_labels(file, classes)
    for line, kind, detail in labels.wrong:
        problems.leave_out(image, kind, file, detail, line)
    return None if labels.wrong else (_in_pixels(image, facts, labels, file, problems), file)


def _in_pixels(image: Path, facts: Facts, labels: Labels, file: Path, problems: Problems) -> ImageRecord:
    size = np.array([facts.width, facts.height])
    boxes = snap(np.array(labels.boxes).reshape(-1, 4) * np.tile(size, 2))
    boxes = clip_boxes(boxes, facts.width, facts.height, file, problems)
    outlines = None
    if any(outline is not None for outline in labels.polygons):  # a box among polygons becomes a polygon of its corners
        pairs = zip(labels.polygons, labels.boxes, strict=True)
        outlines = [(_corners(box) if outline is None else outline) * size for outline, box in pairs]
    return ImageRecord(image, facts.width, facts.height, boxes, labels.classes, polygons=outlines)


def _corners(box: tuple[float, float, float, float]) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])  # (4, 2)


def _note_lonely_labels(images: list[Path], problems: Problems) -> None:
    """Note the label files that have no image, in the folders that the split uses."""
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
    """Return the label file's text for a record: polygons if it has them, else boxes, with all digits of float64."""
    scale = np.array([record.width, record.height])
    if record.polygons:
        rows = [(outline / scale).ravel().tolist() for outline in record.polygons]
    else:
        middle = (record.boxes[:, :2] + record.boxes[:, 2:]) / 2 / scale
        rows = np.hstack([middle, (record.boxes[:, 2:] - record.boxes[:, :2]) / scale]).tolist()
    pairs = zip(record.classes.tolist(), rows, strict=True)
    return "".join(" ".join([str(label), *map(_shortest, values)]) + "\n" for label, values in pairs)


def _shortest(value: float) -> str:
    """Return the shortest text that parses to the same number."""
    return repr(value).removesuffix(".0")


def _check_classes(record: ImageRecord, names: dict[int, str]) -> None:
    for label in record.classes:
        if int(label) not in names:
            raise DataError(f"{record.path}: class {label} has no name; names are for 0 to {len(names) - 1}")
