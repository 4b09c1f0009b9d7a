"""Samples with more small objects: windows of images at full resolution, and pasted copies of small objects."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER

from pixelkeep.datasets.sampling import pasting
from pixelkeep.datasets.sampling.windows import LEAST, Window, shown, window_about
from pixelkeep.ultra.data import ignoring
from pixelkeep.ultra.running.recipe import Recipe


class SmallObjects:
    """Mixin for Ultralytics' datasets that applies a recipe to images and labels before any other augmentation.

    Args:
        arguments: Positional arguments of the dataset.
        recipe: Recipe whose ``zoom``, ``paste`` and ``shrunk`` are used here; None for their defaults.

    Attributes:
        recipe: The recipe as given, or the default one.
        zoom: Share of samples that are windows; 0 without augmentation and once mosaics are closed.
        paste: Largest number of copies in an image; 0 without augmentation and once mosaics are closed.
    """

    def __init__(self, *arguments: Any, recipe: Recipe | None = None, **keywords: Any):
        self.recipe = recipe or Recipe()
        augment = keywords.get("augment", True)
        self.zoom, self.paste = (self.recipe.zoom, self.recipe.paste) if augment else (0.0, 0)
        super().__init__(*arguments, **keywords)
        self._outlined = any(part["segments"] for label in self.labels for part in (label, label["ignored"]))
        if self.zoom and not any(len(self._small_in_larger(index)) for index in range(self.ni)):
            why = "no image that is larger than imgsz has a small object"
            LOGGER.warning(f"{self.prefix}zoom: {self.zoom} has no effect: {why}")
        if self.paste and not any(self._has_one_to_copy(index) for index in range(self.ni)):
            why = f"no small object of {pasting.LEAST} pixels or more lies alone"
            LOGGER.warning(f"{self.prefix}paste: {self.paste} has no effect: {why}")

    def close_mosaic(self, hyp: Any) -> None:
        """Switch off all that makes images unlike those the model is for: mosaics, and with them windows and copies."""
        self.zoom, self.paste = 0.0, 0
        super().close_mosaic(hyp)

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return an image with its label: the whole image, or a window around a small object."""
        if self.zoom and random.random() < self.zoom and (window := self._window(index)):
            return self._windowed(index, window)
        return super().get_image_and_label(index)

    def _ratio(self, index: int) -> float:
        """Return the factor by which an image is resized to fit the network's input."""
        (height, width), size = self.labels[index]["shape"], self._size
        return min(size[0] / height, size[1] / width)

    @property
    def _size(self) -> tuple[int, int]:
        return self.rectangle or (self.imgsz, self.imgsz)

    def _small(self, index: int) -> np.ndarray:
        """Return the boxes (n, 4) x1 y1 x2 y2, in image pixels, of the objects that are small for the network."""
        label = self.labels[index]
        boxes = corners_of(label["bboxes"], label["shape"])
        return boxes[(boxes[:, 2:] - boxes[:, :2]).prod(1) * self._ratio(index) ** 2 <= pasting.SMALL]

    def _has_one_to_copy(self, index: int) -> bool:
        """Return whether an image, at the size at which the network sees it, has an object that can be copied."""
        label, ratio = self.labels[index], self._ratio(index)
        shape = tuple(side * ratio for side in label["shape"])
        boxes, others = (corners_of(part["bboxes"], shape) for part in (label, label["ignored"]))
        return len(pasting.candidates(boxes, others, shape)) > 0

    def _small_in_larger(self, index: int) -> np.ndarray:
        """Return the boxes of :meth:`_small`, or none for an image that the network sees at full resolution anyway."""
        boxes = self._small(index)
        return boxes if self._ratio(index) < 1 else boxes[:0]

    def _window(self, index: int) -> Window | None:
        """Return a window as large as the network's input, or None if that shows all or there is no small object."""
        boxes = self._small_in_larger(index)
        if not len(boxes):
            return None
        return window_about(random.choice(boxes), self._size, self.labels[index]["shape"], random)

    def _windowed(self, index: int, window: Window) -> dict[str, Any]:
        label = deepcopy(self.labels[index])
        shape = label.pop("shape")
        image = self._pixels(index)
        if self.ims[index] is None:
            self._fitted(index, image)  # for mosaics, which take their parts from buffered images
        label |= {"img": np.ascontiguousarray(image[window.rows, window.columns]), "ratio_pad": (1.0, 1.0)}
        label["ori_shape"] = label["resized_shape"] = label["img"].shape[:2]
        if self.rect:
            label["rect_shape"] = self.batch_shapes[self.batch[index]]
        return self.update_labels_info(cut_label(label, window, shape, ignore=self.recipe.shrunk == "ignore"))

    def pasted(self, label: dict[str, Any]) -> dict[str, Any]:
        """Return an image's label with pasted copies of small objects, from this image and from images in memory."""
        count = random.randint(0, self.paste) if self.paste else 0
        if not count:
            return label
        image = label["img"].copy()  # the given pixels may be buffered for other samples
        shape = image.shape[:2]
        taken = np.concatenate([corners_of(part["bboxes"], shape) for part in (label, label["ignored"])])
        own = Source(image.copy(), label)
        boxes, classes = [], []
        for _ in range(count):
            source = own if random.random() < 0.5 else self._met_before() or own
            if not len(found := source.candidates()):
                continue
            number = random.choice(found)
            cutting = pasting.cut_out(source.image, source.boxes[number], random)
            if place := pasting.find_place(image, taken, cutting, random):
                boxes.append(pasting.paste(image, cutting, *place))
                classes.append(source.classes[number])
                corner = np.array(place)
                taken = np.vstack([taken, [*corner, *(corner + cutting.pixels.shape[1::-1])]])
        return _with(label | {"img": image}, np.array(boxes).reshape(-1, 4), np.array(classes), self._outlined)

    def _met_before(self) -> Source | None:
        """Return a random image that is in memory, or None if there is none."""
        kept = range(self.ni) if self.cache == "ram" else self.buffer
        index = random.choice(kept) if len(kept) else None
        return None if index is None or self.ims[index] is None else Source(self.ims[index], self.labels[index])


class Source:
    """An image to copy objects from: its pixels, and its boxes x1 y1 x2 y2 in these pixels."""

    def __init__(self, image: np.ndarray, label: dict[str, Any]):
        self.image = image
        self.classes = label["cls"][:, 0]
        self.boxes, self._others = (corners_of(part["bboxes"], image.shape[:2]) for part in (label, label["ignored"]))

    def candidates(self) -> np.ndarray:
        """Return the indices of the objects that can be copied."""
        return pasting.candidates(self.boxes, self._others, self.image.shape[:2])


def cut_label(
    label: dict[str, Any], window: Window, shape: tuple[int, int], *, ignore: bool, least: float = LEAST
) -> dict[str, Any]:
    """Return an image's label cropped to a window, where objects of which it shows too little become ignored ones.

    Args:
        label: The dataset's label of the whole image.
        window: Position of the window in the image.
        shape: Height and width of the image in pixels.
        ignore: Whether objects of which too little is shown become ignored ones; False to drop them as background.
        least: Smallest visible share of an object's area from which the object is kept as it is.
    """
    parts = label, label["ignored"]
    boxes = (corners_of(part["bboxes"], shape) for part in parts)
    seen, hidden = (shown(each, window, least=least, sliver=ignoring.VISIBLE) for each in boxes)
    size = np.array([window.width, window.height])

    def take(part: dict, boxes: np.ndarray, kept: np.ndarray) -> dict:
        moved = [(outline * shape[::-1] - (window.x, window.y)) / size for outline in part["segments"]]
        outlines = [np.clip(each, 0, 1).astype(np.float32) for each, keep in zip(moved, kept, strict=False) if keep]
        return {"cls": part["cls"][kept], "bboxes": _centred(boxes[kept], size), "segments": outlines}

    cut = take(label, seen.boxes, seen.visible & ~seen.whole & ignore)
    cut["cls"] = ignoring.encode(cut["cls"], shrunk=True)
    left = take(parts[1], hidden.boxes, hidden.visible)
    joined = {key: np.concatenate([left[key], cut[key]]) for key in ("cls", "bboxes")}
    joined["segments"] = left["segments"] + cut["segments"]
    return label | take(label, seen.boxes, seen.whole) | {"ignored": joined}


def _with(label: dict[str, Any], boxes: np.ndarray, classes: np.ndarray, outlined: bool) -> dict[str, Any]:
    """Return a label with more objects, and with their corners as outlines if all objects of the data have outlines."""
    if not len(boxes):
        return label
    size = np.array(label["img"].shape[1::-1])
    more = {"cls": classes.astype(np.float32)[:, None], "bboxes": _centred(boxes, size)}
    joined = {key: np.concatenate([label[key], more[key]]) for key in more}
    corners = [(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) / size).astype(np.float32) for box in boxes]
    return label | joined | {"segments": label["segments"] + corners if outlined else label["segments"]}


def corners_of(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Convert normalised boxes xywh (n, 4) to x1 y1 x2 y2 in pixels of an image of the given height and width."""
    middle, half = boxes[:, :2].astype(float), boxes[:, 2:].astype(float) / 2
    return np.hstack([middle - half, middle + half]) * np.tile(shape[::-1], 2)


def _centred(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Convert boxes x1 y1 x2 y2 in pixels to xywh in fractions of ``size`` (width, height); float32 (n, 4)."""
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return (np.hstack([middle, side]) / np.tile(size, 2)).astype(np.float32)
