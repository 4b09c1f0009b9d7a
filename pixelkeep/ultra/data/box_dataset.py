"""Images and labels for training and validation: read by our own readers, augmented and batched by Ultralytics.

Ultralytics' own dataset keeps a pickle of the labels beside them, repairs damaged images in place and may cache decoded
pixels beside the images. This one only reads the user's folders, and nothing that it reads can execute code.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.augment import Compose, LetterBox, Mosaic, RandomPerspective
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import colorstr

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.loading import load_split
from pixelkeep.ultra.data import ignoring
from pixelkeep.ultra.data.pictures import Pictures, fraction_of
from pixelkeep.ultra.data.small_objects import SmallObjects
from pixelkeep.ultra.running.recipe import Recipe


class Dataset(SmallObjects, Pictures, YOLODataset):
    """The records of one split in the form Ultralytics' loaders expect; the first two bases document the arguments."""

    def get_labels(self) -> list[dict]:
        """Return a label dictionary for each image, with normalised boxes and ignored objects under ``ignored``."""
        outlined = any(record.polygons for record in self.records)
        return [_label(record, outlined) for record in self.records]

    def set_rectangle(self) -> None:
        """Give each batch its own shape, and keep the image sizes in the labels, from which Ultralytics drops them."""
        shapes = {label["im_file"]: label["shape"] for label in self.labels}
        super().set_rectangle()
        for label in self.labels:
            label["shape"] = shapes[label["im_file"]]

    def update_labels(self, include_class: list[int] | None) -> None:
        """Keep only the objects of the chosen classes, and merge all classes into one if ``single_cls`` is set."""
        super().update_labels(include_class)
        for label in self.labels:
            label["ignored"] = ignoring.chosen(label["ignored"], include_class, self.single_cls)

    def update_labels_info(self, label: dict) -> dict:
        """Convert an image's objects, pasted copies and ignored objects into Ultralytics' instances."""
        return super().update_labels_info(ignoring.join(self.pasted(label)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample with its ignored objects separated by :func:`pixelkeep.ultra.data.ignoring.part`."""
        return ignoring.part(super().__getitem__(index))

    @staticmethod
    def collate_fn(batch: list[dict]) -> dict:
        """Collate samples into a batch; :func:`pixelkeep.ultra.data.ignoring.collate` joins the ignored objects."""
        collated = YOLODataset.collate_fn(batch)
        return collated | {"ignored": ignoring.collate(collated["ignored"])}

    def build_transforms(self, hyp: Any) -> Compose:
        """Return Ultralytics' augmentations, adapted to a rectangular input if ``imgsz`` asks for one."""
        if self.rectangle is not None:
            self.imgsz = max(self.rectangle)
        with ignoring.augmenting(self.recipe.shrunk):
            transforms = super().build_transforms(hyp)
        if self.rectangle is None:
            return transforms
        height, width = self.rectangle
        for transform in _flatten(transforms):
            if isinstance(transform, Mosaic):
                # RandomPerspective cuts the rectangle out of the middle of the square canvas, and the mosaic's centre
                # has to stay inside that part.
                transform.border = (-(self.imgsz - height // 2), -(self.imgsz - width // 2))
            elif isinstance(transform, RandomPerspective):
                transform.size = (width, height)
            elif isinstance(transform, LetterBox):
                transform.new_shape = self.rectangle
        return transforms


def build_dataset(
    args: Any,
    batch: int,
    data: dict,
    *,
    train: bool,
    stride: int,
    recipe: Recipe | None = None,
    kind: type[Dataset] = Dataset,
) -> Dataset:
    """Build the dataset of one split.

    Args:
        args: Ultralytics' settings; ``imgsz`` may be [height, width].
        batch: Batch size, which decides the images that share a batch shape in validation.
        data: The dataset dictionary, whose ``yaml_file`` :func:`pixelkeep.ultra.data.resolving.write_resolved` wrote.
        train: Whether to load the training split with augmentation; otherwise ``args.split`` is loaded without it.
        stride: Largest stride of the model in pixels.
        recipe: What to do to training images beyond Ultralytics' augmentation; None for nothing.
        kind: Dataset class that turns images into samples.
    """
    split = "train" if train else args.split
    spec = load_spec(Path(data["yaml_file"]))
    records = fraction_of(load_split(spec, split).records, args.fraction, split)
    rectangle = isinstance(args.imgsz, (list, tuple))
    return kind(
        records,
        spec,
        imgsz=tuple(args.imgsz) if rectangle else args.imgsz,
        batch_size=batch,
        augment=train,
        hyp=args,
        rect=not rectangle and (args.rect or not train),
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if train else 0.5,
        prefix=colorstr("train: " if train else "val: "),
        task=args.task,
        classes=args.classes,
        data=data,
        recipe=recipe,
    )


def _label(record: ImageRecord, outlined: bool) -> dict:
    """Return an image's label dictionary for Ultralytics: float32, boxes as fractions of the image size.

    Args:
        record: The image and its annotations.
        outlined: Whether the dataset has polygons. If so, Ultralytics needs one for every instance.
    """
    hard = record.difficult
    size = np.tile([record.width, record.height], 2)
    regions = np.clip(record.regions, 0, size)
    regions = regions[(regions[:, 2:] > regions[:, :2]).all(1)]
    codes = np.append(ignoring.encode(record.classes[hard]), np.full(len(regions), ignoring.REGION))
    outlines = (record.polygons or [_corners(box) for box in record.boxes]) if outlined else []
    lasting, marked = ([o for o, h in zip(outlines, hard, strict=False) if h == which] for which in (False, True))
    marked += [_corners(box) for box in regions] if outlined else []
    return {
        "im_file": str(record.path),
        "shape": (record.height, record.width),
        **_instances(record.classes[~hard], record.boxes[~hard], lasting, size),
        "ignored": _instances(codes, np.concatenate([record.boxes[hard], regions]), marked, size),
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }


def _instances(classes: np.ndarray, boxes: np.ndarray, outlines: list[np.ndarray], size: np.ndarray) -> dict:
    """Return classes (n, 1), boxes (n, 4) xywh and outlines; boxes and outlines are fractions of ``size``."""
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return {
        "cls": classes.astype(np.float32)[:, None],
        "bboxes": (np.hstack([middle, side]) / size).astype(np.float32),
        "segments": [(outline / size[:2]).astype(np.float32) for outline in outlines],
    }


def _corners(box: np.ndarray) -> np.ndarray:
    """Return the four corners (4, 2) of a box x1 y1 x2 y2 as an outline."""
    return box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)


def _flatten(transform: Any) -> Iterable[Any]:
    """Yield a transform and all transforms nested inside it."""
    yield transform
    for part in getattr(transform, "transforms", ()):
        yield from _flatten(part)
    if inner := getattr(transform, "pre_transform", None):
        yield from _flatten(inner)
