"""Images and their classes for training and validation: read by our own reader, augmented by Ultralytics' transforms.

Ultralytics' own dataset keeps a pickle and decoded pixels beside the user's folders; this one only reads the folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from ultralytics.data.augment import classify_augmentations, classify_transforms

from pixelkeep.datasets.class_folders import ClassRecord, load_class_split, read_class_folders
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.ultra.data.pictures import share_of


class ClassImages(Dataset):
    """The records of one split in the form Ultralytics' loaders expect.

    Args:
        records: The images and their classes, ordered by class.
        stretch: Percentiles mapped to 0 and 255 in images deeper than eight bits; None if there are no such images.
        args: Ultralytics' settings.
        augment: Whether to augment the images.
    """

    def __init__(self, records: list[ClassRecord], stretch: tuple[float, float] | None, args: Any, *, augment: bool):
        self.records = records
        self.stretch = stretch
        self.transforms = _augmentations(args) if augment else classify_transforms(size=args.imgsz)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the image (3, imgsz, imgsz), its class number and the path of its file."""
        record = self.records[index]
        pixels = cv2.cvtColor(read_pixels(record.path, 3, self.stretch), cv2.COLOR_BGR2RGB)
        return {"img": self.transforms(Image.fromarray(pixels)), "cls": record.label, "im_file": str(record.path)}


def _augmentations(args: Any) -> Any:
    """Return Ultralytics' classification augmentations, built from the settings as its own dataset does."""
    return classify_augmentations(
        size=args.imgsz,
        scale=(1.0 - args.scale, 1.0),  # range of the share of the image area that a crop keeps
        hflip=args.fliplr,
        vflip=args.flipud,
        erasing=args.erasing,
        auto_augment=args.auto_augment,
        hsv_h=args.hsv_h,
        hsv_s=args.hsv_s,
        hsv_v=args.hsv_v,
    )


def build_class_dataset(args: Any, data: dict, *, train: bool) -> ClassImages:
    """Build the dataset of one split.

    Args:
        args: Ultralytics' settings.
        data: Dataset dictionary returned by :func:`pixelkeep.ultra.data.label_data.class_data`.
        train: Whether to load the training split with augmentation; otherwise ``args.split`` is loaded without it.
    """
    split = "train" if train else args.split
    spec = read_class_folders(Path(data["yaml_file"]), needs=(split,))
    records = load_class_split(spec, split).records
    count = share_of(len(records), args.fraction, split)
    chosen = np.linspace(0, len(records) - 1, count, dtype=int)  # spread over all classes, as Ultralytics does
    return ClassImages([records[i] for i in chosen], spec.stretch, args, augment=train)
