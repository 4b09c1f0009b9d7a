"""Choose the windows of large images that an epoch of training shows, from a seed and the epoch's number alone.

In every epoch each image is cut by a grid with a new random offset; cells that reach over the image's edge are moved
inwards. Any object is therefore seen at all offsets, cut or whole, each object has its centre in one cell, and windows
end at the edges of images as often as tiles do in detection. The epoch shows the cells that hold the centre of an
object, and as many windows of background as are asked for. The number of these cells is counted once, on the grid that
begins in the image's corner, so that all epochs have the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelkeep.datasets.sampling.windows import Window

MOST_EMPTY = 0.9  # largest allowed share of windows without objects
TRIES = 20  # places that are tried for each window without objects, on average
_SEEDS = 2**32


@dataclass(frozen=True, eq=False)
class Drawn:
    """The windows of an epoch, in the order in which they are shown.

    Attributes:
        images: Int (n,), the number of each window's image.
        places: Int (n, 4), x, y, width and height of each window in pixels of its image.
        empty: Bool (n,), whether the window was drawn as background.
    """

    images: np.ndarray
    places: np.ndarray
    empty: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def window(self, number: int) -> tuple[int, Window]:
        """Return the number of a window's image and the window's place in that image."""
        return int(self.images[number]), Window(*self.places[number].tolist())


class EpochWindows:
    """The windows of every epoch over a set of images.

    Args:
        sizes: Int (n, 2), height and width of each image in pixels.
        learnt: For each image the boxes (k, 4), x1 y1 x2 y2 in pixels, of the objects that are learnt.
        others: For each image the boxes (k, 4) of everything else that is not background, i.e. of what is ignored.
        tile: Side of a window in pixels; an image side that is shorter is shown whole.
        empty: Share of windows that show none of these boxes, 0 to 0.9.
        seed: Seed that decides, together with the epoch's number, what is drawn.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        learnt: Sequence[np.ndarray],
        others: Sequence[np.ndarray],
        tile: int,
        *,
        empty: float,
        seed: int = 0,
    ):
        self.tile, self.seed = tile, seed % _SEEDS
        self._sides = np.asarray(sizes, np.int64)[:, ::-1]  # width, height
        self._boxes = [np.concatenate(pair) for pair in zip(learnt, others, strict=True)]
        self._owners = np.repeat(np.arange(len(learnt)), [len(boxes) for boxes in learnt])
        boxes = np.concatenate([np.zeros((0, 4)), *learnt])
        self._centres = np.clip((boxes[:, :2] + boxes[:, 2:]) / 2, 0, self._sides[self._owners] - 1e-3)
        self._full = len(self._cells(np.zeros_like(self._sides))[0])
        self._empty = round(self._full * empty / (1 - empty))

    def __len__(self) -> int:
        """Return the number of windows in an epoch, which is the same for all epochs."""
        return self._full + self._empty

    def epoch(self, number: int) -> Drawn:
        """Return the windows of epoch ``number``, counted from 0."""
        random = np.random.default_rng([self.seed, number])
        empty = self._background(random)
        full = self._occupied(random, len(self) - len(empty[0]))
        images, places = (np.concatenate(pair) for pair in zip(full, empty, strict=True))
        order = random.permutation(len(images))
        return Drawn(images[order], places[order], (order >= len(full[0])))

    def _occupied(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``count`` windows with objects, using all cells of one random grid before any of the next grid."""
        images, places = np.zeros(0, np.int64), np.zeros((0, 4), np.int64)
        while len(images) < count:
            found, where = self._cells(random.integers(0, self.tile, self._sides.shape))
            order = random.permutation(len(found))[: count - len(images)]
            images, places = np.concatenate([images, found[order]]), np.concatenate([places, where[order]])
        return images, places

    def _cells(self, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and places of the cells that hold an object's centre, for grids shifted by (n, 2) pixels."""
        shift = np.where(self._sides <= self.tile, 0, shift)
        columns = np.floor((self._centres + shift[self._owners]) / self.tile).astype(np.int64)
        cells = np.unique(np.column_stack([self._owners, columns]), axis=0)
        images = cells[:, 0]
        return images, self._placed(images, cells[:, 1:] * self.tile - shift[images])

    def _placed(self, images: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Return windows (n, 4), x y width height, with these top left corners (n, 2), moved inside their images."""
        lengths = np.minimum(self._sides[images], self.tile)
        return np.hstack([np.clip(corners, 0, self._sides[images] - lengths), lengths])

    def _background(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows that show no box, in images chosen by area; fewer than wanted if there is little background."""
        tiles = np.ceil(self._sides / self.tile).prod(1)
        images = random.choice(len(tiles), TRIES * self._empty, p=tiles / tiles.sum())
        sides = self._sides[images]
        low = np.where(sides <= self.tile, 0, 1 - self.tile)  # the range in which the cells of a shifted grid begin
        places = self._placed(images, random.integers(low, sides))
        kept: list[int] = []
        for number, (image, (x, y, width, height)) in enumerate(zip(images, places.tolist(), strict=True)):
            if len(kept) == self._empty:
                break
            x1, y1, x2, y2 = self._boxes[image].T
            if not ((x1 < x + width) & (x2 > x) & (y1 < y + height) & (y2 > y)).any():
                kept.append(number)
        return images[kept], places[kept]
