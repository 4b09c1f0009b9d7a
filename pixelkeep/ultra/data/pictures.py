"""Pictures for a dataset of Ultralytics': read by our own reader, kept in memory or in the cache folder.

Ultralytics mends damaged pictures in place and may keep pixels beside the pictures; here the user's folders are only
read, and nothing that is read can execute anything.
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
    """A record of an image: at least where it is."""

    path: Path


class Pictures:
    """For a dataset of Ultralytics': its images are those of records.

    Args:
        records: The images with what is known of them.
        spec: The dataset they are from, which says how pixels are read.
        keywords: As of Ultralytics' dataset. ``imgsz`` may be (height, width): then images are fitted into that
            rectangle.

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
        """Return the image files."""
        return [str(record.path) for record in self.records]

    def set_rectangle(self) -> None:
        """Sort images by their aspect ratio, the records with them."""
        order = {id(label): record for label, record in zip(self.labels, self.records, strict=True)}
        super().set_rectangle()
        self.records = [order[id(label)] for label in self.labels]

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Return an image resized to fit ``imgsz``, its original and its new height and width.

        With ``resize_short`` it covers ``imgsz`` instead: its shorter side becomes that long.
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
        """Keep decoded images in the cache folder rather than beside the user's."""
        folder = assets.home() / "cache" / "pixels"
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, older_than=DAY)
        self.npy_files = [folder / f"{self._fingerprint(file)}.npy" for file in self.im_files]
        return True

    def cache_images_to_disk(self, i: int) -> None:
        """Write one decoded image unless it is there, whole or not at all."""
        file = self.npy_files[i]
        if file.exists():
            return
        partial = file.with_name(f".{file.name}.{os.getpid()}{PARTIAL}")
        try:
            with partial.open("wb") as stream:
                np.save(stream, self._decode(i), allow_pickle=False)
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
        stretch = self.spec.stretch and (VERSION, *self.spec.stretch)
        key = f"{file} {state.st_size} {state.st_mtime_ns} {self.spec.channels} {stretch}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def _remember(self, i: int, image: np.ndarray, original: tuple[int, int]) -> None:
        """Keep an image for the mosaics that follow, and forget the oldest one."""
        self.ims[i], self.im_hw0[i], self.im_hw[i] = image, original, image.shape[:2]
        self.buffer.append(i)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            oldest = self.buffer.pop(0)
            self.ims[oldest], self.im_hw0[oldest], self.im_hw[oldest] = None, None, None


def _fit(image: np.ndarray, rectangle: tuple[int, int], cover: bool = False) -> np.ndarray:
    """Resize (H, W, C) to the largest size of its shape that fits into (height, width), or the smallest to cover it."""
    height, width = image.shape[:2]
    sides = np.array([width, height])
    ratio = (max if cover else min)(rectangle[0] / height, rectangle[1] / width)
    if ratio == 1:
        return image
    exact = sides * ratio
    reached = np.isclose(exact, rectangle[::-1])  # the side that decided, whatever its rounding errors
    size = np.where(reached, rectangle[::-1], np.clip(np.ceil(exact), 1, None if cover else rectangle[::-1]))
    size = size.astype(int).tolist()
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image[..., None] if image.ndim == 2 else image


def fraction_of(records: list, fraction: float | list, split: str) -> list:
    """Return the first part of the records; see :func:`share_of`."""
    return records[: share_of(len(records), fraction, split)]


def share_of(count: int, fraction: float | list, split: str) -> int:
    """Return how many of ``count`` images are used: ``fraction`` is a ratio, a number, or one of either by split."""
    if isinstance(fraction, (list, tuple)):
        position = ("train", "val", "test").index(split)
        fraction = fraction[position] if position < len(fraction) else 1.0
    elif split != "train":
        return count
    return min(count, max(1, round(count * fraction) if fraction <= 1 else int(fraction)))
