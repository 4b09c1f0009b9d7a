"""The evaluator's ground truth for a split, built from the same records that the data loader uses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.evaluation import GroundTruthBuilder


def build_truth(
    records: Iterable[ImageRecord],
    spec: DatasetSpec,
    *,
    classes: list[int] | None = None,
    single_cls: bool = False,
) -> tuple[dict, dict[str, int]]:
    """Build the ground truth, with a COCO file's own ids where there are any, so that results match that file.

    Args:
        records: The images of the validation split.
        spec: The dataset the images are from.
        classes: Numbers of the classes whose objects count; None for all.
        single_cls: Whether all objects count as the first class.

    Returns:
        The ground truth in COCO form, and the image id for the path of each image file.
    """
    builder = GroundTruthBuilder([spec.names[i] for i in range(len(spec.names))], spec.category_ids)
    image_ids = {}
    # Sorted by name because the loader's order depends on the batch shapes, and the ids must not.
    ordered = sorted(records, key=lambda record: str(record.path))
    for image_id, record in zip(_ids(ordered), ordered, strict=True):
        kept = np.ones(len(record.boxes), bool) if classes is None else np.isin(record.classes, classes)
        builder.add_image(
            relative(record.path, spec.root),
            record.width,
            record.height,
            record.boxes[kept],
            record.classes[kept] * (not single_cls),
            areas=record.areas[kept],
            ignore=record.difficult[kept],
            regions=record.regions,
            image_id=image_id,
        )
        image_ids[str(record.path)] = image_id
    return builder.build(), image_ids


def _ids(records: list[ImageRecord]) -> list[int]:
    """Return unique image ids: those of the COCO file if every image has its own, else 1, 2, 3 ..."""
    own = [record.image_id for record in records]
    return own if None not in own and len(set(own)) == len(own) else list(range(1, len(own) + 1))


def relative(path: Path, root: Path) -> str:
    """Return an image file's name in the ground truth: its path relative to the dataset's folder, if it lies there."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
