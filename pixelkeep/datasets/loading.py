"""Load one split of a dataset of any form: its usable images, and the problems of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pixelkeep.datasets.annotations.assembling import complete
from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.coco import read_coco
from pixelkeep.datasets.definitions.forms import COCO, VISDRONE, VOC, YOLO
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.visdrone import read_visdrone
from pixelkeep.datasets.voc import read_voc
from pixelkeep.datasets.yolo import label_path, read_yolo
from pixelkeep.errors import DataError, choices

READERS = {YOLO: read_yolo, COCO: read_coco, VOC: read_voc, VISDRONE: read_visdrone}


@dataclass
class Split:
    """The images of a split.

    Attributes:
        records: Records of the usable images, in the order of their paths.
        problems: What is wrong with the other images, and what was mended.
    """

    records: list[ImageRecord]
    problems: Problems

    def contents(self) -> str:
        """Return one line with the numbers of usable images, of their objects and of images without an object."""
        objects = sum(len(record.boxes) for record in self.records)
        empty = sum(not len(record.boxes) for record in self.records)
        without = f", {empty:,} images without one (background)" if empty else ""
        return f"{self.problems.split}: {len(self.records):,} images, {objects:,} objects{without}"


def load_split(spec: DatasetSpec, split: str, progress: Callable[[int, int], None] | None = None) -> Split:
    """Read the annotations of a split and inspect its images.

    Args:
        spec: The dataset definition.
        split: train, val or test.
        progress: Called with the number of images inspected so far and the number to inspect.

    Raises:
        DataError: There is no such split, more than half of its images cannot be used, or no usable image has an
            object.
    """
    problems = Problems(split)
    reads = READERS[spec.form](spec, split, problems, progress)
    problems.refuse_if_systematic(spec.file)
    records = sorted(complete(reads, spec, split, problems), key=lambda record: str(record.path))
    if split != "train":  # a repeated image weighs more in training, which may be meant; an evaluation counts it once
        records = _once(records, problems)
    if not any(len(record.boxes) for record in records):
        raise DataError(f"{spec.file}: no image of split '{split}' has a label; {_looked(spec, split, records)}")
    return Split(records, problems)


def _looked(spec: DatasetSpec, split: str, records: list[ImageRecord]) -> str:
    """Return a phrase that says where labels were looked for."""
    if spec.form != YOLO or not records:
        return f"looked in {choices(spec.sources(split))}"
    folder = label_path(records[0].path).parent
    other = folder.parent / "annotations"
    hint = f"; for VisDrone's {other}, declare 'format: visdrone'" if other.is_dir() else ""
    return f"looked for .txt files in {folder} and the like{hint}"


def _once(records: list[ImageRecord], problems: Problems) -> list[ImageRecord]:
    """Return the records with the first one of each image only, and record the repetitions."""
    kept = {}
    for record in records:
        if record.path in kept:
            problems.mend("image listed twice, counted once", record.path, "")
        kept.setdefault(record.path, record)
    return list(kept.values())
