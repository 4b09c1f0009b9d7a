"""Image loading for Ultralytics' datasets: our own reader, with decoded pixels cached in memory or the cache folder.

Ultralytics' own loading repairs damaged images in place and may cache decoded pixels beside the images. This one only
reads the user's folders, and nothing that it reads can execute code.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from ultralytics.utils import LOGGER

from pixelkeep import assets
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.levels import VERSION
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.writing import DAY, PARTIAL, sweep


class Pictured(Protocol):
    """A record of an image, which has at least the path of its file."""

    path: Path


class Pictures:
    """Mixin for Ultralytics' datasets that takes the images from records.

    Args:
        records: The images and their annotations.
        spec: The dataset the records are from; it decides how pixels are read.
        keywords: Keyword arguments of Ultralytics' dataset. ``imgsz`` may be (height, width); images are then fitted
            into that rectangle.

    Attributes:
        records: The images in the order of the labels.
        rectangle: Height and width that images are fitted into; None for a square.
    """

    def __init__(self, records: list[Pictured], spec: DatasetSpec, **keywords: Any):
        self.records = records
        self.spec = spec
        size = keywords["imgsz"]
        self.rectangle = None if isinstance(size, int) else (int(size[0]), int(size[1]))
        super().__init__(img_path=str(spec.root), **keywords)

    def get_img_files(self, img_path: str) -> list[str]:
        """Return the paths of the image files."""
        return [str(record.path) for record in self.records]

    def set_rectangle(self) -> None:
        """Sort the images by aspect ratio, and the records with them."""
        order = {id(label): record for label, record in zip(self.labels, self.records, strict=True)}
        super().set_rectangle()
        self.records = [order[id(label)] for label in self.labels]

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Return an image resized to fit ``imgsz``, with its original and its new height and width.

        With ``resize_short`` the image covers ``imgsz`` instead: its shorter side becomes that long.
        """
        if self.ims[i] is not None:
            return self.ims[i], self.im_hw0[i], self.im_hw[i]
        return self._fitted(i, self._pixels(i), cover=resize_short)

    def _fitted(
        self, i: int, image: np.ndarray, cover: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        original = image.shape[:2]
        image = _fit(image, self.rectangle or (self.imgsz, self.imgsz), cover=cover)
        if self.augment and self.cache != "ram":
            self._remember(i, image, original)
        return image, original, image.shape[:2]

    def check_cache_disk(self, safety_margin: float = 0.1) -> bool:
        """Choose cache files for decoded images in the cache folder rather than beside the user's images."""
        folder = assets.home() / "cache" / "pixels"
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, older_than=DAY)
        self.npy_files = [folder / f"{self._fingerprint(file)}.npy" for file in self.im_files]
        return True

    def cache_images_to_disk(self, i: int) -> None:
        """Write one decoded image atomically, unless its cache file exists already."""
        file = self.npy_files[i]
        if file.exists():
            return
        partial = file.with_name(f".{file.name}.{os.getpid()}{PARTIAL}")
        try:
            with partial.open("wb") as stream:
                np.save(stream, self._decode(i), allow_pickle=False)
            os.replace(partial, file)
        except OSError as error:  # not fatal: training reads the image itself instead
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
        stretch = self.spec.stretch and (VERSION, *self.spec.stretch)
        key = f"{file} {state.st_size} {state.st_mtime_ns} {self.spec.channels} {stretch}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def _remember(self, i: int, image: np.ndarray, original: tuple[int, int]) -> None:
        """Keep an image in the buffer for later mosaics, and drop the oldest one once the buffer is full."""
        self.ims[i], self.im_hw0[i], self.im_hw[i] = image, original, image.shape[:2]
        self.buffer.append(i)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            oldest = self.buffer.pop(0)
            self.ims[oldest], self.im_hw0[oldest], self.im_hw[oldest] = None, None, None


def _fit(image: np.ndarray, rectangle: tuple[int, int], cover: bool = False) -> np.ndarray:
    """Resize an image (H, W, C), keeping its aspect ratio, to fit into (height, width), or to cover it."""
    height, width = image.shape[:2]
    sides = np.array([width, height])
    ratio = (max if cover else min)(rectangle[0] / height, rectangle[1] / width)
    if ratio == 1:
        return image
    exact = sides * ratio
    reached = np.isclose(exact, rectangle[::-1])  # the limiting side, despite rounding errors
    size = np.where(reached, rectangle[::-1], np.clip(np.ceil(exact), 1, None if cover else rectangle[::-1]))
    size = size.astype(int).tolist()
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image[..., None] if image.ndim == 2 else image


def fraction_of(records: list, fraction: float | list, split: str) -> list:
    """Return the leading part of the records that :func:`share_of` allows."""
    return records[: share_of(len(records), fraction, split)]


def share_of(count: int, fraction: float | list, split: str) -> int:
    """Return how many of ``count`` images are used.

    Args:
        count: Number of images in the split.
        fraction: A ratio up to 1, a number of images above 1, or a list of these for train, val and test. A single
            value applies to train alone.
        split: Name of the split: train, val or test.
    """
    if isinstance(fraction, (list, tuple)):
        position = ("train", "val", "test").index(split)
        fraction = fraction[position] if position < len(fraction) else 1.0
    elif split != "train":
        return count
    return min(count, max(1, round(count * fraction) if fraction <= 1 else int(fraction)))
