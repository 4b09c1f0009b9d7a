"""The evaluator's ground truth of a split, made from the labels that the data loader uses and their extras."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelkeep.datasets.extras import load_extras
from pixelkeep.evaluation import GroundTruthBuilder
from pixelkeep.ultra.dataset import Dataset

_DECIMALS = 3  # of a pixel: undoes the rounding of normalised float32 labels, so that 32 px are 32 px


def build_truth(dataset: Dataset, data: dict, split: str) -> tuple[dict, dict[str, int]]:
    """Build the ground truth.

    Args:
        dataset: The split's dataset, whose labels are the ones that training and validation see.
        data: The dataset dictionary; ``extras`` names what YOLO labels cannot hold.
        split: The split's name.

    Returns:
        The ground truth in COCO form, and the image id of each image file.
    """
    root = Path(data["path"])
    extras = load_extras(Path(data["extras"][split])) if split in (data.get("extras") or {}) else {}
    builder = GroundTruthBuilder([data["names"][i] for i in range(len(data["names"]))])
    image_ids = {}
    # Sorted by name: the loader's order depends on the batch shapes, ids must not.
    for image_id, label in enumerate(sorted(dataset.labels, key=lambda label: label["im_file"]), start=1):
        name = _relative(label["im_file"], root)
        extra = extras.get(name, {})
        height, width = dataset.shapes[label["im_file"]]
        boxes = _pixel_boxes(label["bboxes"], width, height)
        ignore = np.zeros(len(boxes), bool)
        ignore[extra.get("difficult", [])] = True
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        for row, area in extra.get("areas", {}).items():
            areas[int(row)] = area
        builder.add_image(
            name,
            width,
            height,
            boxes,
            label["cls"].reshape(-1).astype(int),
            areas=areas,
            ignore=ignore,
            regions=extra.get("regions"),
            image_id=image_id,
        )
        image_ids[label["im_file"]] = image_id
    return builder.build(), image_ids


def _relative(file: str, root: Path) -> str:
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _pixel_boxes(xywh: np.ndarray, width: int, height: int) -> np.ndarray:
    """Turn normalised centre boxes (n, 4) into xyxy pixels."""
    centre, size = xywh[:, :2].astype(float), xywh[:, 2:].astype(float)
    corners = np.concatenate([centre - size / 2, centre + size / 2], 1)
    return np.round(corners * [width, height, width, height], _DECIMALS)
