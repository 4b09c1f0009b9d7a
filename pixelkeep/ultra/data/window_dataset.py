"""Samples that are windows of large images, cut during training: no tile is ever written to a file.

A sample is identified by its epoch and its number in that epoch, so loader processes, several GPUs and a resumed
training all show the same windows: see :mod:`pixelkeep.datasets.sampling.epoch_windows`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Sampler
from ultralytics.utils import LOGGER

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.sampling.epoch_windows import EpochWindows
from pixelkeep.ultra.data.box_dataset import Dataset
from pixelkeep.ultra.data.small_objects import Source, corners_of, cut_label
from pixelkeep.ultra.running import distributed
from pixelkeep.ultra.running.recipe import Recipe

Place = tuple[int, int]  # identifies a sample: its epoch, and its number in the epoch
ROUNDING = 1e-4  # tolerance for a share of an area, because labels are kept in single precision


class WindowDataset(Dataset):
    """The records of a training split, shown as windows of the recipe's tile size.

    ``imgsz`` is the side at which the network sees a tile. A side of an image that is shorter than a tile is shown
    whole, at the same scale as all windows. With ``cache="ram"`` whole decoded images are kept in memory; with
    ``"disk"`` they are kept in the cache folder, from which only the window's rows are read.

    Attributes:
        windows: The windows of every epoch.
    """

    def __init__(self, *arguments: Any, **keywords: Any):
        hyp = keywords["hyp"]
        super().__init__(*arguments, **keywords)
        shapes = [label["shape"] for label in self.labels]
        learnt, others = (
            [corners_of(part["bboxes"], shape) for part, shape in zip(parts, shapes, strict=True)]
            for parts in (self.labels, [label["ignored"] for label in self.labels])
        )
        tile, empty = self.recipe.tile, self.recipe.empty_tiles
        self.windows = EpochWindows(np.array(shapes), learnt, others, tile, empty=empty, seed=hyp.seed)
        self.max_buffer_length = min(len(self.windows), self.batch_size * 8, 1000)  # Ultralytics' limit for images
        self._kept: dict[Place, dict[str, Any]] = {}
        self._epoch = 0
        self._drawn = self.windows.epoch(0)
        self._tell()

    def _tell(self) -> None:
        """Log the size of an epoch, and warn if there is too little background for the requested share."""
        found = self._drawn.empty.mean()
        of = f"{len(self)} windows an epoch from {self.ni} images, tiles of {self.recipe.tile} px shown at {self.imgsz}"
        LOGGER.info(f"{self.prefix}{of}, {found:.0%} of them without objects")
        if found < self.recipe.empty_tiles - 0.5 / len(self) - 1e-9:
            LOGGER.warning(
                f"{self.prefix}empty_tiles: {self.recipe.empty_tiles} cannot be reached: too few places are "
                f"without objects; only {found:.1%} of the windows are"
            )

    def __len__(self) -> int:
        """Return the number of windows in an epoch."""
        return len(self.windows)

    def __getitem__(self, place: Place) -> dict[str, Any]:
        """Return the sample of the given epoch and number."""
        self._turn_to(place[0])
        return super().__getitem__(place)

    def get_image_and_label(self, place: Place | int) -> dict[str, Any]:
        """Return a window with its label; mixing augmentations pass a bare number, which means the current epoch."""
        place = place if isinstance(place, tuple) else (self._epoch, int(place))
        if place not in self._kept:
            self._keep(place, self._cut(place[1]))
        kept = self._kept[place]
        label = deepcopy({key: value for key, value in kept.items() if key != "img"})
        return self.update_labels_info(label | {"img": kept["img"]})

    def load_image(self, i: int, *_: Any, **__: Any) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Return a whole image at its original size, with its height and width twice; this is what gets cached."""
        image = self._pixels(i)
        return image, image.shape[:2], image.shape[:2]

    def _turn_to(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch, self._drawn = epoch, self.windows.epoch(epoch)

    def _keep(self, place: Place, label: dict[str, Any]) -> None:
        """Keep a window in the buffer for later mosaics and copies, and drop the oldest one once the buffer is full."""
        self._kept[place] = label
        self.buffer.append(place)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            del self._kept[self.buffer.pop(0)]

    def _cut(self, number: int) -> dict[str, Any]:
        """Return the label of a window of the current epoch, with the window's pixels under ``img``."""
        index, window = self._drawn.window(number)
        label = deepcopy(self.labels[index])
        shape = label.pop("shape")
        own = {"ignore": self.recipe.shrunk == "ignore", "least": self.recipe.tile_visibility - ROUNDING}
        label = cut_label(label, window, shape, **own)
        image = self._scaled(np.ascontiguousarray(self._pixels(index)[window.rows, window.columns]))
        height, width = image.shape[:2]
        label |= {"img": image, "ori_shape": (window.height, window.width), "resized_shape": (height, width)}
        return label | {"ratio_pad": (height / window.height, width / window.width)}

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        """Return the pixels of a window resized to the network's scale."""
        if self.imgsz == self.recipe.tile:
            return image
        width, height = (max(1, round(side * self._ratio(0))) for side in image.shape[1::-1])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return image[..., None] if image.ndim == 2 else image

    def _pixels(self, i: int) -> np.ndarray:
        """Return a whole image; one that is cached on disk is memory-mapped, so that only the rows used are read."""
        if self.ims[i] is not None:
            return self.ims[i]
        if self.cache == "disk":
            with suppress(OSError, ValueError, EOFError):
                return np.load(self.npy_files[i], mmap_mode="r", allow_pickle=False)
        return self._decode(i)

    def _ratio(self, index: int) -> float:
        """Return the factor by which every image is resized."""
        return self.imgsz / self.recipe.tile

    def _met_before(self) -> Source | None:
        """Return a random window that is in memory, or None if there is none."""
        if not self.buffer:
            return None
        kept = self._kept[random.choice(self.buffer)]
        return Source(kept["img"], kept)


class WindowSampler(Sampler):
    """Yields the samples of one epoch after the other, in distributed training those of this process alone.

    Loaders read ahead, so the sampler counts the epochs itself, from the one given to :meth:`begin`.

    Args:
        dataset: The dataset whose samples are yielded.
    """

    def __init__(self, dataset: WindowDataset):
        self._windows = len(dataset)
        self._epoch = 0
        self._first, self._step = max(distributed.rank(), 0), distributed.world_size()

    def begin(self, epoch: int) -> None:
        """Set the epoch that is yielded next."""
        self._epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: Ultralytics calls this when loaders have read ahead already."""

    def __len__(self) -> int:
        """Return the number of samples of this process, which is the same in all processes."""
        return -(-self._windows // self._step)

    def __iter__(self) -> Iterator[Place]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        for turn in range(len(self)):
            yield epoch, (self._first + turn * self._step) % self._windows


def name_windows(loader: DataLoader) -> None:
    """Make one of Ultralytics' loaders take its samples from a :class:`WindowSampler`."""
    sampler = WindowSampler(loader.dataset)
    object.__setattr__(loader, "sampler", sampler)  # torch forbids plain assignment; nothing is read yet
    loader.batch_sampler.sampler.sampler = sampler  # the batch sampler, which Ultralytics repeats endlessly


def count_windows(records: list[ImageRecord], recipe: Recipe) -> int:
    """Return the number of samples in an epoch: windows if the recipe has a tile, else images."""
    if recipe.tile is None:
        return len(records)
    sizes = np.array([(record.height, record.width) for record in records])
    learnt = [record.boxes[~record.difficult] for record in records]
    none = [np.zeros((0, 4))] * len(records)
    return len(EpochWindows(sizes, learnt, none, recipe.tile, empty=recipe.empty_tiles))
