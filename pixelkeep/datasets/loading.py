"""One split of a dataset, whatever its form: the images that can be used, and what is wrong with the others."""

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
        records: Those that can be used, in the order of their paths.
        problems: What is wrong with the others, and what was mended.
    """

    records: list[ImageRecord]
    problems: Problems

    def contents(self) -> str:
        """Return one line that says what can be used."""
        objects = sum(len(record.boxes) for record in self.records)
        empty = sum(not len(record.boxes) for record in self.records)
        without = f", {empty:,} images without one (background)" if empty else ""
        return f"{self.problems.split}: {len(self.records):,} images, {objects:,} objects{without}"


def load_split(spec: DatasetSpec, split: str, progress: Callable[[int, int], None] | None = None) -> Split:
    """Read the annotations of a split and inspect its images.

    Args:
        spec: The dataset.
        split: train, val or test.
        progress: Called with how many images have been inspected, and how many have to be.

    Raises:
        DataError: There is no such split, most of it cannot be used, or not one image has an object.
    """
    problems = Problems(split)
    reads = READERS[spec.form](spec, split, problems, progress)
    problems.refuse_if_systematic(spec.file)
    records = sorted(complete(reads, spec, split, problems), key=lambda record: str(record.path))
    if split != "train":  # listing an image twice is a way to weigh it in training; a figure must count it once
        records = _once(records, problems)
    if not any(len(record.boxes) for record in records):
        raise DataError(f"{spec.file}: no image of split '{split}' has a label; {_looked(spec, split, records)}")
    return Split(records, problems)


def _looked(spec: DatasetSpec, split: str, records: list[ImageRecord]) -> str:
    """Say where labels were looked for."""
    if spec.form != YOLO or not records:
        return f"looked in {choices(spec.sources(split))}"
    folder = label_path(records[0].path).parent
    other = folder.parent / "annotations"
    hint = f"; for VisDrone's {other}, declare 'format: visdrone'" if other.is_dir() else ""
    return f"looked for .txt files in {folder} and the like{hint}"


def _once(records: list[ImageRecord], problems: Problems) -> list[ImageRecord]:
    """Return the records without those of an image that was listed before."""
    kept = {}
    for record in records:
        if record.path in kept:
            problems.mend("image listed twice, counted once", record.path, "")
        kept.setdefault(record.path, record)
    return list(kept.values())
