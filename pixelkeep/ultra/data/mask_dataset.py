"""Images and masks for training and validation: read by our own readers, augmented and batched by Ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import SemanticDataset
from ultralytics.utils import colorstr

from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.mask_files import MaskRecord, class_table, load_mask_split, read_mask
from pixelkeep.ultra.data.pictures import Pictures, fraction_of


class MaskDataset(Pictures, SemanticDataset):
    """The records of one split in the form Ultralytics' loaders expect; see :class:`Pictures` for the arguments."""

    def __init__(self, records: list[MaskRecord], spec: DatasetSpec, **keywords: Any):
        self.table = class_table(spec)
        super().__init__(records, spec, **keywords)

    def get_labels(self) -> list[dict]:
        """Return a label dictionary for each image, without boxes."""
        return [_label(record) for record in self.records]

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False):
        """Return an image as :class:`Pictures` does; in training, as in Ultralytics, it covers ``imgsz``."""
        return super().load_image(i, rect_mode, resize_short=self.augment)

    def load_mask(self, index: int, image_shape: tuple[int, int] | None = None) -> np.ndarray:
        """Return the class mask of an image at its original size, uint8 (H, W)."""
        return read_mask(self.records[index].mask, self.table)


def _label(record: MaskRecord) -> dict:
    return {
        "im_file": str(record.path),
        "shape": (record.height, record.width),
        "cls": np.zeros((0, 1), np.float32),
        "bboxes": np.zeros((0, 4), np.float32),
        "segments": [],
        "normalized": True,
        "bbox_format": "xywh",
    }


def build_mask_dataset(args: Any, batch: int, data: dict, *, train: bool, stride: int) -> MaskDataset:
    """Build the dataset of one split; see :func:`pixelkeep.ultra.data.box_dataset.build_dataset` for the arguments."""
    split = "train" if train else args.split
    spec = load_spec(Path(data["yaml_file"]), needs=(split,))
    return MaskDataset(
        fraction_of(load_mask_split(spec, split).records, args.fraction, split),
        spec,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=train,
        hyp=args,
        rect=args.rect or not train,
        cache=args.cache or None,
        single_cls=False,
        stride=stride,
        pad=0.0,
        prefix=colorstr("train: " if train else "val: "),
        task=args.task,
        data=data,
    )
