"""Images and labels for training and validation: read by our own readers, augmented and batched by Ultralytics.

Ultralytics keeps a pickle of the labels beside them, mends damaged pictures in place and may keep pixels beside the
pictures; here the user's folders are only read, and nothing that is read can execute anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data import augment
from ultralytics.data.augment import Compose, LetterBox, Mosaic, RandomPerspective
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER, colorstr

from pixelkeep import assets
from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.pixels import read_pixels
from pixelkeep.datasets.record import ImageRecord
from pixelkeep.datasets.spec import DatasetSpec, load_spec
from pixelkeep.ultra import ignoring
from pixelkeep.ultra.whole import replaced


class Dataset(YOLODataset):
    """The records of one split as Ultralytics' loaders want them.

    Args:
        records: The images and their objects.
        spec: The dataset they are from, which says how pixels are read.
        keywords: As of Ultralytics' dataset. ``imgsz`` may be (height, width): then images are fitted into that
            rectangle, in training as in validation.

    Attributes:
        records: The images in the order of the labels.
    """

    def __init__(self, records: list[ImageRecord], spec: DatasetSpec, **keywords: Any):
        self.records = records
        self.spec = spec
        size = keywords["imgsz"]
        self.rectangle = None if isinstance(size, int) else (int(size[0]), int(size[1]))
        super().__init__(img_path=str(spec.root), **keywords)

    def get_img_files(self, img_path: str) -> list[str]:
        """Return the image files."""
        return [str(record.path) for record in self.records]

    def get_labels(self) -> list[dict]:
        """Return a dictionary for each image, boxes normalised; what is ignored stands apart."""
        outlined = any(record.polygons for record in self.records)
        return [_label(record, outlined) for record in self.records]

    def update_labels(self, include_class: list[int] | None) -> None:
        """Leave out all but the chosen classes, or make all classes one."""
        super().update_labels(include_class)
        for label in self.labels:
            label["ignored"] = ignoring.chosen(label["ignored"], include_class, self.single_cls)

    def update_labels_info(self, label: dict) -> dict:
        """Make instances of an image's objects and of what is ignored in it."""
        return super().update_labels_info(ignoring.join(label))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample; see :func:`pixelkeep.ultra.ignoring.part`."""
        return ignoring.part(super().__getitem__(index))

    @staticmethod
    def collate_fn(batch: list[dict]) -> dict:
        """Make a batch of samples; see :func:`pixelkeep.ultra.ignoring.collate`."""
        collated = YOLODataset.collate_fn(batch)
        return collated | {"ignored": ignoring.collate(collated["ignored"])}

    def set_rectangle(self) -> None:
        """Sort images by their aspect ratio, the records with them."""
        order = {id(label): record for label, record in zip(self.labels, self.records, strict=True)}
        super().set_rectangle()
        self.records = [order[id(label)] for label in self.labels]

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Return an image resized to fit ``imgsz``, its original and its new height and width."""
        if self.ims[i] is not None:
            return self.ims[i], self.im_hw0[i], self.im_hw[i]
        image = self._pixels(i)
        original = image.shape[:2]
        image = _fit(image, self.rectangle or (self.imgsz, self.imgsz))
        if self.augment and self.cache != "ram":
            self._remember(i, image, original)
        return image, original, image.shape[:2]

    def build_transforms(self, hyp: Any) -> Compose:
        """Return Ultralytics' augmentations, for a rectangle where one is asked for."""
        if self.rectangle is not None:
            self.imgsz = max(self.rectangle)
        perspective = replaced(augment, "RandomPerspective", ignoring.Perspective)
        with perspective, replaced(augment, "CutMix", ignoring.CutMix):
            transforms = super().build_transforms(hyp)
        if self.rectangle is None:
            return transforms
        height, width = self.rectangle
        for transform in _flatten(transforms):
            if isinstance(transform, Mosaic):
                # The mosaic's centre stays inside the part that is cut out of the square canvas's middle.
                transform.border = (-(self.imgsz - height // 2), -(self.imgsz - width // 2))
            elif isinstance(transform, RandomPerspective):
                transform.size = (width, height)
            elif isinstance(transform, LetterBox):
                transform.new_shape = self.rectangle
        return transforms

    def check_cache_disk(self, safety_margin: float = 0.1) -> bool:
        """Keep decoded images in the cache folder rather than beside the user's."""
        folder = assets.home() / "cache" / "pixels"
        folder.mkdir(parents=True, exist_ok=True)
        self.npy_files = [folder / f"{self._fingerprint(file)}.npy" for file in self.im_files]
        return True

    def cache_images_to_disk(self, i: int) -> None:
        """Write one decoded image unless it is there, whole or not at all."""
        file = self.npy_files[i]
        if file.exists():
            return
        partial = file.with_name(f".{file.stem}.{os.getpid()}.partial.npy")
        try:
            np.save(partial, self._decode(i), allow_pickle=False)
            os.replace(partial, file)
        except OSError as error:  # training reads the image itself then
            LOGGER.warning(f"cache: {error.strerror}: {file}")
        finally:
            partial.unlink(missing_ok=True)

    def _pixels(self, i: int) -> np.ndarray:
        if self.cache == "disk":
            with suppress(OSError, ValueError, EOFError):
                return np.load(self.npy_files[i], allow_pickle=False)
        return self._decode(i)

    def _decode(self, i: int) -> np.ndarray:
        return read_pixels(Path(self.im_files[i]), self.spec.channels, self.spec.stretch)

    def _fingerprint(self, file: str) -> str:
        state = os.stat(file)
        key = f"{file} {state.st_size} {state.st_mtime_ns} {self.spec.channels} {self.spec.stretch}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def _remember(self, i: int, image: np.ndarray, original: tuple[int, int]) -> None:
        """Keep an image for the mosaics that follow, and forget the oldest one."""
        self.ims[i], self.im_hw0[i], self.im_hw[i] = image, original, image.shape[:2]
        self.buffer.append(i)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            oldest = self.buffer.pop(0)
            self.ims[oldest], self.im_hw0[oldest], self.im_hw[oldest] = None, None, None


def build_dataset(args: Any, batch: int, data: dict, *, train: bool, stride: int) -> Dataset:
    """Build the dataset of one split.

    Args:
        args: Ultralytics' settings; ``imgsz`` may be [height, width].
        batch: Batch size, for batches of the images' own shape in validation.
        data: The dataset dictionary, whose ``yaml_file`` :func:`pixelkeep.ultra.data.write_resolved` wrote.
        train: Whether to augment.
        stride: Largest stride of the model in pixels.
    """
    split = "train" if train else args.split
    spec = load_spec(Path(data["yaml_file"]))
    records = _fraction(load_split(spec, split).records, args.fraction, split)
    rectangle = isinstance(args.imgsz, (list, tuple))
    return Dataset(
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
    )


def _label(record: ImageRecord, outlined: bool) -> dict:
    """Return what Ultralytics knows of an image: float32, boxes as fractions of the image.

    Args:
        record: The image.
        outlined: Whether the dataset has polygons: Ultralytics needs one for every instance then.
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
    """Return classes (n, 1), boxes (n, 4) xywh and outlines, the latter two as fractions of ``size``."""
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return {
        "cls": classes.astype(np.float32)[:, None],
        "bboxes": (np.hstack([middle, side]) / size).astype(np.float32),
        "segments": [(outline / size[:2]).astype(np.float32) for outline in outlines],
    }


def _corners(box: np.ndarray) -> np.ndarray:
    """Return the outline (4, 2) of a box x1 y1 x2 y2."""
    return box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)


def _fit(image: np.ndarray, rectangle: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, C) to the largest size of its shape that fits into (height, width)."""
    height, width = image.shape[:2]
    ratio = min(rectangle[0] / height, rectangle[1] / width)
    if ratio == 1:
        return image
    size = np.clip(np.ceil(np.array([width, height]) * ratio), 1, rectangle[::-1]).astype(int).tolist()
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image[..., None] if image.ndim == 2 else image


def _flatten(transform: Any) -> Iterable[Any]:
    """Yield a transform and all those inside it."""
    yield transform
    for part in getattr(transform, "transforms", ()):
        yield from _flatten(part)
    if inner := getattr(transform, "pre_transform", None):
        yield from _flatten(inner)


def _fraction(records: list[ImageRecord], fraction: float | list, split: str) -> list[ImageRecord]:
    """Return the first part of the records: ``fraction`` is a ratio, a count, or one of either for each split."""
    if isinstance(fraction, (list, tuple)):
        position = ("train", "val", "test").index(split)
        fraction = fraction[position] if position < len(fraction) else 1.0
    elif split != "train":
        return records
    count = round(len(records) * fraction) if fraction <= 1 else int(fraction)
    return records[: max(1, count)]
