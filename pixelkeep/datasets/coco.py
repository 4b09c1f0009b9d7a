"""COCO detection JSON: one document with images, annotations and categories.

A difficult object carries ``"ignore": 1``. A region to ignore is an annotation with ``"iscrowd": 1``. COCO requires a
category for it, so it is written with the first one; on reading, every crowd annotation is a region for all classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.assembling import REGION, Read, Rows, Source, assemble
from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.files.coco_file import CocoFile, read_coco_file
from pixelkeep.datasets.files.disk import write_json
from pixelkeep.datasets.images.inspection import inspect_all
from pixelkeep.errors import DataError, choices, nearest


def save_coco(
    path: Path, records: Sequence[ImageRecord], names: dict[int, str], category_ids: Sequence[int] = ()
) -> None:
    """Write ``records`` as one COCO JSON file, in which images go by their file name without a folder.

    Image and annotation ids are taken from the records if all of them have one and all are different. Otherwise they
    count from 1. They also count from 1 if an id is 0, because pycocotools never matches an annotation whose id is 0.
    Categories get the ids in ``category_ids``, else they count from 1.

    Raises:
        DataError: Two images have the same file name.
    """
    image_ids = _ids([record.image_id for record in records])
    annotation_ids = iter(_ids([number for record in records for number in _own_ids(record)]))
    categories = dict(zip(sorted(names), category_ids or range(1, len(names) + 1), strict=True))  # class to id
    images, annotations = [], []
    for image_id, record in zip(image_ids, records, strict=True):
        images.append({"id": image_id, "file_name": record.path.name, "width": record.width, "height": record.height})
        for annotation in _annotations(record, categories):
            annotations.append({"id": next(annotation_ids), "image_id": image_id, **annotation})
    taken = [image["file_name"] for image in images]
    if len(set(taken)) < len(taken):
        twice = next(name for name in taken if taken.count(name) > 1)
        raise DataError(f"{path}: two images are called '{twice}'; COCO tells them apart by that name")
    named = [{"id": number, "name": names[index]} for index, number in categories.items()]
    write_json(path, {"images": images, "annotations": annotations, "categories": named})


def read_coco(
    spec: DatasetSpec, split: str, problems: Problems, progress: Callable[[int, int], None] | None = None
) -> list[Read]:
    """Return the usable records of a split, with label numbers as classes; record the rest in ``problems``.

    Raises:
        DataError: A file is not a COCO JSON, an annotation has a category that is neither among the names nor under
            ``ignore:``, or two files of the split list the same image.
    """
    files = [read_coco_file(path) for path in spec.sources(split)]
    sources = [_sources(file, spec.folders[split]) for file in files]
    images = [source.image for group in sources for source in group]
    _refuse_shared(files, sources)
    problems.images = len(images)
    facts = inspect_all(images, spec.channels, spec.stretch, progress)
    reads = []
    for file, group in zip(files, sources, strict=True):
        rows = _rows(file, group, spec, problems)
        reads += assemble(group, rows, spec, facts, problems)
    return reads


def _sources(file: CocoFile, folder: Path) -> list[Source]:
    return [
        Source(
            Path(os.path.join(folder, image.file_name)),
            file.path,
            (image.width, image.height),
            image.id if isinstance(image.id, int) else None,
        )
        for image in file.images
    ]


def _refuse_shared(files: list[CocoFile], sources: list[list[Source]]) -> None:
    """Refuse a split in which two files list the same image, because neither file holds all of its objects."""
    seen: dict[Path, Path] = {}
    for file, group in zip(files, sources, strict=True):
        for source in group:
            if seen.setdefault(source.image, file.path) != file.path:
                raise DataError(f"{file.path}: '{source.image}' is in {seen[source.image]} as well; join the two files")


def _rows(file: CocoFile, sources: list[Source], spec: DatasetSpec, problems: Problems) -> Rows:
    """Return the annotations of one file, and record what is wrong with the file and with single annotations."""
    for kind, detail in file.notes:
        problems.note(kind, file.path, detail)
    first = int(np.searchsorted(file.owner, 0))  # annotations before this row belong to no listed image
    if first:
        problems.note("annotations of images that are not listed", file.path, f"{first}, the first: {file.where(0)}")
    labels = _labels(file, spec)[file.category]
    labels[file.crowd] = REGION
    for (row, key), value in sorted(file.values.items()):
        if row >= first:
            source = sources[file.owner[row]]
            source.wrong.append(_wrong(key, f"{file.where(row)} of {source.image.name}: {key} {value}"))
    for row in np.flatnonzero(file.odd_areas).tolist():
        problems.mend("area not a number of at least 0, the box's used", file.path, file.where(row))
    readable = np.arange(len(file.owner)) >= first
    readable[[row for row, _ in file.values]] = False
    used = np.flatnonzero(readable)
    xywh = file.boxes[used]
    return Rows(
        owner=file.owner[used],
        boxes=np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]),
        labels=labels[used],
        where=lambda row: (None, file.where(int(used[row]))),
        areas=file.areas[used],
        difficult=file.difficult[used],
        ids=None if file.ids is None else file.ids[used],
    )


def _wrong(key: str, detail: str) -> tuple[None, str, str]:
    if key == "bbox":
        return None, "label not numbers", f"{detail}; it must be [x, y, width, height] in pixels, four finite numbers"
    return None, "class number unknown", f"{detail} is not in 'categories'"


def _labels(file: CocoFile, spec: DatasetSpec) -> np.ndarray:
    """Return the label number of each category of a file, with a last entry for unknown categories.

    Raises:
        DataError: An annotation has a category that is not one of the labels.
    """
    numbers = {name: number for number, name in enumerate(spec.labels)}
    used = np.bincount(file.category[~file.crowd] + 1, minlength=len(file.categories) + 1)[1:]
    for place, (number, name) in enumerate(file.categories.items()):
        if name not in numbers and used[place]:
            raise DataError(
                f"{file.path}: category '{name}' (id {number}) is neither in names nor under ignore of {spec.file}"
                f"{nearest(name, numbers, f'they have {choices(numbers)}')}"
            )
    # The last entry serves annotations of unknown categories, whose position in the file's categories is -1.
    return np.array([*(numbers.get(name, REGION) for name in file.categories.values()), REGION], np.int64)


def _ids(numbers: list[int | None]) -> list[int]:
    """Return unique ids: the given ones if all are there, different and not 0, else 1, 2, 3 ..."""
    given = set(numbers)
    if given & {None, 0} or len(given) < len(numbers):
        return list(range(1, len(numbers) + 1))
    return numbers


def _own_ids(record: ImageRecord) -> list[int | None]:
    """Return the ids of a record's objects and then of its regions, with None for each that has no id."""
    pairs = ((record.ids, record.boxes), (record.region_ids, record.regions))
    return [number for ids, boxes in pairs for number in ([None] * len(boxes) if ids is None else ids.tolist())]


def _annotations(record: ImageRecord, categories: dict[int, int]) -> list[dict]:
    annotations = []
    for box, label, area, hard in zip(record.boxes, record.classes, record.areas, record.difficult, strict=True):
        annotation = {"category_id": categories[int(label)], "bbox": _xywh(box), "area": float(area), "iscrowd": 0}
        annotations.append({**annotation, "ignore": 1} if hard else annotation)
    for region in record.regions:
        x, y, w, h = _xywh(region)
        first = next(iter(categories.values()))
        annotations.append({"category_id": first, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 1})
    return annotations


def _xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]
