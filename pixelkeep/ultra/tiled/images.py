"""Large images in tiles: what is asked for, checked, and one image run through a network tile by tile.

The image is brought to the network's scale once, as a whole, and lies on the device as one tensor; tiles are views
into it. Only images smaller than a tile are padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.data.augment import LetterBox
from ultralytics.utils import LOGGER, ops

from pixelkeep.datasets.images.rasters import Raster
from pixelkeep.errors import OptionError, nearest
from pixelkeep.tiling import METHODS, Candidates, Grid, Merged, detect_in_tiles, make_grid
from pixelkeep.tiling.grid import MOST_OVERLAP
from pixelkeep.tiling.polygons import axes
from pixelkeep.tiling.run import Progress
from pixelkeep.ultra.tiled.auto import suitable_tile
from pixelkeep.ultra.weights.checkpoints import model_of

AUTO = "auto"
OVERLAP, MERGE = 0.2, "border"
SMALLEST = 32  # pixels of a tile, one cell of the deepest feature map
GREY = 114  # of 255, what Ultralytics pads with
BATCH = {"cpu": 4}  # tiles at once by default, by kind of device
BATCH_ELSEWHERE = 16
TASKS = ("detect", "obb")  # whose boxes are merged
WITHOUT = ("augment", "visualize", "agnostic_nms", "embed", "cache")  # settings that have no meaning for tiles


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How images are cut and what is found is merged.

    Attributes:
        size: Side of a tile in pixels of the image.
        imgsz: Side in pixels at which the network sees a tile.
        overlap: Share of a tile that neighbours have in common at least.
        full_image: Whether the whole image is looked at once more, at ``imgsz``.
        merge: How boxes of neighbouring tiles become one; see :mod:`pixelkeep.tiling.merge`.
    """

    size: int
    imgsz: int
    overlap: float = OVERLAP
    full_image: bool = False
    merge: str = MERGE

    def protocol(self) -> dict[str, Any]:
        """Return how the figures of a run in tiles were made, for metrics.json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Tiles as they are asked for, nothing checked; ``tile`` None for none, other fields None for the default."""

    tile: int | str | None = None
    auto: Sequence[int] | None = None  # tile and imgsz that AUTO stood for when a run began that is gone on with
    overlap: float | None = None
    full_image: bool = False
    merge: str | None = None

    def check(self) -> bool:
        """Check what can be checked without a network, and return whether tiles are asked for.

        Raises:
            OptionError: A value that is not allowed, or options of tiles without --tile.
        """
        if self.tile is None:
            given = {"--overlap": self.overlap, "--full-image": self.full_image or None, "--merge": self.merge}
            for option in (name for name, value in given.items() if value is not None):
                raise OptionError(f"{option} has no effect without --tile; give --tile 640, or --tile auto")
            return False
        if self.tile != AUTO and not (isinstance(self.tile, Integral) and self.tile >= SMALLEST):
            raise OptionError(f"--tile {self.tile}: give a number of pixels of at least {SMALLEST}, or {AUTO}")
        if self.overlap is not None and not (isinstance(self.overlap, Real) and 0 <= self.overlap <= MOST_OVERLAP):
            raise OptionError(f"--overlap {self.overlap}: give a share of a tile from 0 to {MOST_OVERLAP}")
        if self.merge is not None and self.merge not in METHODS:
            hint = nearest(self.merge, METHODS)
            raise OptionError(f"--merge {self.merge}: not one of {', '.join(METHODS)}{hint}")
        return True

    def resolve(self, checkpoint: dict, settings: dict) -> Tiles | None:
        """Return the tiles for a network, or None if none are asked for.

        Args:
            checkpoint: The network's.
            settings: Of the command; ``imgsz`` only where it was given.

        Raises:
            OptionError: A value that is not allowed, or a network that finds no boxes.
        """
        if not self.check():
            return None
        model = model_of(checkpoint)
        task = getattr(model, "task", "detect")
        if task not in TASKS:
            raise OptionError(f"--tile: weights for task '{task}'; tiles are merged for {' and '.join(TASKS)} only")
        for name in (name for name in WITHOUT if settings.get(name)):
            raise OptionError(f"--tile and {name}={settings[name]} exclude each other; leave one out")
        imgsz = settings.get("imgsz")
        if not isinstance(imgsz, int | None):
            raise OptionError(f"imgsz: with --tile it is the side at which the network sees a tile; not {imgsz}")
        if self.tile == AUTO:
            tile, imgsz = self.auto or suitable_tile(checkpoint, imgsz)
        else:
            tile, imgsz = self.tile, imgsz or self.tile
        stride = int(max(model.stride))
        rounded = -(-imgsz // stride) * stride
        if rounded != imgsz:
            LOGGER.warning(f"imgsz {imgsz} is no multiple of the network's stride {stride}: using {rounded}")
            tile = rounded if tile == imgsz else tile
        given = {name: value for name in ("overlap", "merge") if (value := getattr(self, name)) is not None}
        return Tiles(size=tile, imgsz=rounded, full_image=self.full_image, **given)


def tiles_a_batch(asked: int | None, device: torch.device) -> int:
    """Return how many tiles a network takes at once."""
    return asked or BATCH.get(device.type, BATCH_ELSEWHERE)


class TileEngine:
    """A network that looks at images of any size.

    Args:
        model: Ultralytics' backend, ready to run.
        tiles: How images are cut.
        suppress: Turns the network's output for a batch into boxes; see :mod:`pixelkeep.ultra.tiled.suppression`.
        batch: Tiles that the network takes at once.
        rotated: Whether it gives oriented boxes.
    """

    def __init__(
        self,
        model: Any,
        tiles: Tiles,
        suppress: Callable[[Any], Sequence[torch.Tensor]],
        batch: int,
        rotated: bool = False,
    ):
        self.model = model
        self.tiles = tiles
        self.suppress = suppress
        self.batch = batch
        self.rotated = rotated
        self.stride = int(max(model.stride)) if isinstance(model.stride, (list, torch.Tensor)) else int(model.stride)
        # An exported file takes one size alone, unless it is dynamic.
        self.fixed = getattr(model, "format", "pt") != "pt" and not getattr(model, "dynamic", False)

    def grid(self, image: np.ndarray | Raster) -> Grid:
        """Return the windows of an image at the network's scale."""
        return grid_of(image.shape, self.tiles)

    @torch.inference_mode()
    def __call__(
        self, image: np.ndarray, progress: Progress | None = None, search: Callable[..., Merged] = detect_in_tiles
    ) -> Merged:
        """Return what is found in an image, boxes in its own pixels.

        Args:
            image: (H, W, C) uint8, three channels as BGR.
            progress: Is told how many tiles are done, and of how many.
            search: Looks at tiles and merges what is found.
        """
        grid = self.grid(image)
        canvas = self.on_device(at_scale(image, grid))

        def look(windows: np.ndarray) -> Sequence[torch.Tensor]:
            if grid.whole and len(windows) == 1 and (windows[0] == grid.windows[-1]).all():
                return [self.look_at_whole(image, grid)]
            return self.look(canvas, windows)

        merged = search(look, grid, batch=self.batch, method=self.tiles.merge, progress=progress)
        return in_pixels(merged, grid, image.shape[:2])

    def look(self, canvas: torch.Tensor, windows: np.ndarray) -> list[torch.Tensor]:
        """Return what the network finds in windows (b, 4) of uint8 (C, H, W), boxes in pixels of the window."""
        return [self._exact(rows) for rows in self._run(cut(canvas, windows, self._multiple()))]

    def nothing(self) -> torch.Tensor:
        """Return what :meth:`look` gives for a window without objects."""
        return self._exact(torch.zeros(0, 7 if self.rotated else 6, device=self.model.device))

    def on_device(self, image: np.ndarray) -> torch.Tensor:
        """Return (H, W, C) on the device as (C, H, W), a view of rows of pixels."""
        return torch.from_numpy(np.ascontiguousarray(image)).to(self.model.device).permute(2, 0, 1)

    def _run(self, batch: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return the boxes of a batch, uint8 (b, C, h, w), in its pixels."""
        batch = batch.flip(1) if batch.shape[1] == 3 else batch  # BGR to RGB
        count = len(batch)
        if self.fixed and count < self.batch:
            batch = torch.cat([batch, batch[:1].expand(self.batch - count, -1, -1, -1)])
        found = self.suppress(self.model((batch.half() if self.model.fp16 else batch.float()).div_(255)))
        return found[:count]

    def _multiple(self) -> int:
        """Return what the sides of a tile must be a multiple of: a file for one size is shown nothing smaller."""
        return self.tiles.imgsz if self.fixed else self.stride

    @torch.inference_mode()
    def look_at_whole(self, image: np.ndarray, grid: Grid) -> torch.Tensor:
        """Return what the network finds in the image as a whole, boxes in pixels of the grid."""
        shown = LetterBox(self.tiles.imgsz, auto=not self.fixed, stride=self.stride)(image=image)
        shown = shown[..., None] if shown.ndim == 2 else shown
        batch = self.on_device(shown)[None]
        rows = self._exact(self._run(batch)[0])
        shape = (grid.height, grid.width)
        rows[:, :4] = ops.scale_boxes(batch.shape[2:], rows[:, :4], shape, xywh=self.rotated)
        return rows

    @staticmethod
    def _exact(rows: torch.Tensor) -> torch.Tensor:
        """Return rows in double precision where there is any: far from the corner, single is coarse."""
        return rows if rows.device.type == "mps" else rows.double()


def grid_of(shape: Sequence[int], tiles: Tiles) -> Grid:
    """Return the windows of an image of height and width ``shape`` at the network's scale."""
    height, width = (max(1, round(side * tiles.imgsz / tiles.size)) for side in shape[:2])
    return make_grid(width, height, tiles.imgsz, tiles.overlap, whole=tiles.full_image)


def tiles_of_image(sizes: Sequence[tuple[int, int]], tiles: Tiles) -> float:
    """Return how many whole tiles' pixels the network sees of an image, the mean over images of height and width."""
    seen = 0.0
    for size in sizes:
        grid = grid_of(size, tiles)
        sides = grid.tiles[:, 2:] - grid.tiles[:, :2]
        seen += float(sides.prod(axis=1).sum()) / tiles.imgsz**2 + grid.whole
    return seen / len(sizes)


def at_scale(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Return an image (H, W, C) at the network's scale: (h, w, C)."""
    if image.shape[:2] != (grid.height, grid.width):
        image = cv2.resize(image, (grid.width, grid.height), interpolation=cv2.INTER_LINEAR)
    return image[..., None] if image.ndim == 2 else image


def cut(canvas: torch.Tensor, windows: np.ndarray, stride: int) -> torch.Tensor:
    """Return windows (b, 4) of uint8 (C, H, W) as one batch (b, C, h, w), padded to whole cells at right and bottom."""
    tiles = torch.stack([canvas[:, y1:y2, x1:x2] for x1, y1, x2, y2 in windows.tolist()])
    down, right = (-side % stride for side in tiles.shape[2:])
    return torch.nn.functional.pad(tiles, (0, right, 0, down), value=GREY) if down or right else tiles


def in_pixels(merged: Merged, grid: Grid, shape: tuple[int, int]) -> Merged:
    """Return boxes in pixels of an image of height and width ``shape``, of those at the scale of its grid."""
    across, down = shape[1] / grid.width, shape[0] / grid.height
    boxes = merged.boxes * merged.boxes.new_tensor([across, down] * 2)
    rotated = merged.rotated
    if rotated is not None and (across, down) != (1, 1):
        centre = rotated[:, :2] * rotated.new_tensor([across, down])
        ratios = [torch.hypot(x * across, y * down) for x, y in (part.unbind(1) for part in axes(rotated))]
        rotated = torch.cat([centre, rotated[:, 2:4] * torch.stack(ratios, 1), rotated[:, 4:]], 1)
    return replace(merged, boxes=boxes, rotated=rotated)


def rows_of(merged: Merged | Candidates) -> torch.Tensor:
    """Return boxes as Ultralytics has them: (n, 6) x1, y1, x2, y2, score, class.

    Of oriented boxes (n, 7): centre x, y, width, height, radians, score, class.
    """
    boxes = merged.boxes if merged.rotated is None else merged.rotated
    return torch.cat([boxes, merged.scores[:, None], merged.classes[:, None].to(boxes.dtype)], 1)
