"""Large images in tiles: the checked request for tiles, and the run of one image through a network tile by tile.

The image is resized to the network's scale once, as a whole, and lies on the device as one tensor; tiles are views into
it. Only images smaller than a tile are padded.
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
SMALLEST = 32  # smallest side of a tile in pixels, one cell of the deepest feature map
GREY = 114  # of 255, the padding value of Ultralytics
BATCH = {"cpu": 4}  # default number of tiles in a batch, by type of device
BATCH_ELSEWHERE = 16
TASKS = ("detect", "obb")  # tasks whose boxes can be merged
WITHOUT = ("augment", "visualize", "agnostic_nms", "embed", "cache")  # settings that have no meaning with tiles


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How images are cut into tiles and how the detections of tiles are merged.

    Attributes:
        size: Side of a tile in pixels of the image.
        imgsz: Side in pixels at which the network sees a tile.
        overlap: Smallest share of a tile that neighbouring tiles have in common.
        full_image: Whether the network also looks at the whole image, at ``imgsz``.
        merge: Method by which boxes of neighbouring tiles become one; see :mod:`pixelkeep.tiling.merge`.
    """

    size: int
    imgsz: int
    overlap: float = OVERLAP
    full_image: bool = False
    merge: str = MERGE

    def protocol(self) -> dict[str, Any]:
        """Return the settings by which the figures of a run in tiles were made, for metrics.json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Tiles as the user asks for them, unchecked; ``tile`` is None for no tiles, other fields None for the default."""

    tile: int | str | None = None
    auto: Sequence[int] | None = None  # tile and imgsz that AUTO stood for when a resumed run began
    overlap: float | None = None
    full_image: bool = False
    merge: str | None = None

    def check(self) -> bool:
        """Check what can be checked without a network, and return whether tiles are asked for.

        Raises:
            OptionError: A value is not allowed, or options of tiles are given without --tile.
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
            checkpoint: The network's checkpoint.
            settings: Settings of the command, with ``imgsz`` only if the user gave it.

        Raises:
            OptionError: A value is not allowed, or the network's task is not one whose boxes can be merged.
        """
        if not self.check():
            return None
        model = model_of(checkpoint)
        task = getattr(model, "task", "detect")
        if task not in TASKS:
            raise OptionError(f"--tile: weights are for task '{task}'; tiles are merged for {' and '.join(TASKS)} only")
        for name in (name for name in WITHOUT if settings.get(name)):
            raise OptionError(f"--tile and {name}={settings[name]} exclude each other; leave one out")
        imgsz = settings.get("imgsz")
        if not isinstance(imgsz, int | None):
            raise OptionError(f"imgsz: with --tile, give one side, at which the network sees a tile; not {imgsz}")
        if self.tile == AUTO:
            tile, imgsz = self.auto or suitable_tile(checkpoint, imgsz)
        else:
            tile, imgsz = self.tile, imgsz or self.tile
        stride = int(max(model.stride))
        rounded = -(-imgsz // stride) * stride
        if rounded != imgsz:
            LOGGER.warning(f"imgsz {imgsz} is not a multiple of the network's stride {stride}: using {rounded}")
            tile = rounded if tile == imgsz else tile
        given = {name: value for name in ("overlap", "merge") if (value := getattr(self, name)) is not None}
        return Tiles(size=tile, imgsz=rounded, full_image=self.full_image, **given)


def tiles_a_batch(asked: int | None, device: torch.device) -> int:
    """Return the number of tiles in a batch: the one asked for, or the default for the device."""
    return asked or BATCH.get(device.type, BATCH_ELSEWHERE)


class TileEngine:
    """Runs a network on images of any size, tile by tile.

    Args:
        model: Ultralytics' backend, ready to run.
        tiles: How images are cut.
        suppress: Function that turns the network's output for a batch into boxes; see
            :mod:`pixelkeep.ultra.tiled.suppression`.
        batch: Number of tiles in a batch.
        rotated: Whether the network predicts oriented boxes.
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
        # An exported file takes inputs of one size only, unless it is dynamic.
        self.fixed = getattr(model, "format", "pt") != "pt" and not getattr(model, "dynamic", False)

    def grid(self, image: np.ndarray | Raster) -> Grid:
        """Return the windows of an image at the network's scale."""
        return grid_of(image.shape, self.tiles)

    @torch.inference_mode()
    def __call__(
        self, image: np.ndarray, progress: Progress | None = None, search: Callable[..., Merged] = detect_in_tiles
    ) -> Merged:
        """Return the merged detections in an image, with boxes in its own pixels.

        Args:
            image: (H, W, C) uint8, three channels as BGR.
            progress: Function called with the number of tiles that are done and the number of all tiles.
            search: Function that looks at tiles and merges their detections.
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
        """Return the detections in windows (b, 4) of an image uint8 (C, H, W), with boxes in pixels of each window."""
        return [self._exact(rows) for rows in self._run(cut(canvas, windows, self._multiple()))]

    def nothing(self) -> torch.Tensor:
        """Return the empty tensor that :meth:`look` returns for a window without objects."""
        return self._exact(torch.zeros(0, 7 if self.rotated else 6, device=self.model.device))

    def on_device(self, image: np.ndarray) -> torch.Tensor:
        """Move an image (H, W, C) to the device and return it as (C, H, W), a view of the pixels in their order."""
        return torch.from_numpy(np.ascontiguousarray(image)).to(self.model.device).permute(2, 0, 1)

    def _run(self, batch: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return the boxes found in each image of a batch, uint8 (b, C, h, w), in pixels of these images."""
        batch = batch.flip(1) if batch.shape[1] == 3 else batch  # BGR to RGB
        count = len(batch)
        if self.fixed and count < self.batch:
            batch = torch.cat([batch, batch[:1].expand(self.batch - count, -1, -1, -1)])
        found = self.suppress(self.model((batch.half() if self.model.fp16 else batch.float()).div_(255)))
        return found[:count]

    def _multiple(self) -> int:
        """Return the number that a tile's sides must be multiples of: ``imgsz`` for an export of one fixed size."""
        return self.tiles.imgsz if self.fixed else self.stride

    @torch.inference_mode()
    def look_at_whole(self, image: np.ndarray, grid: Grid) -> torch.Tensor:
        """Return the detections in the image as a whole, with boxes in pixels of the grid."""
        shown = LetterBox(self.tiles.imgsz, auto=not self.fixed, stride=self.stride)(image=image)
        shown = shown[..., None] if shown.ndim == 2 else shown
        batch = self.on_device(shown)[None]
        rows = self._exact(self._run(batch)[0])
        shape = (grid.height, grid.width)
        rows[:, :4] = ops.scale_boxes(batch.shape[2:], rows[:, :4], shape, xywh=self.rotated)
        return rows

    @staticmethod
    def _exact(rows: torch.Tensor) -> torch.Tensor:
        """Return rows in double precision if the device has it, as single is coarse far from the image's corner."""
        return rows if rows.device.type == "mps" else rows.double()


def grid_of(shape: Sequence[int], tiles: Tiles) -> Grid:
    """Return the windows of an image of height and width ``shape`` at the network's scale."""
    height, width = (max(1, round(side * tiles.imgsz / tiles.size)) for side in shape[:2])
    return make_grid(width, height, tiles.imgsz, tiles.overlap, whole=tiles.full_image)


def tiles_of_image(sizes: Sequence[tuple[int, int]], tiles: Tiles) -> float:
    """Return how many whole tiles' worth of pixels the network sees per image, as a mean over images.

    Args:
        sizes: Height and width of each image in pixels.
        tiles: How images are cut.
    """
    seen = 0.0
    for size in sizes:
        grid = grid_of(size, tiles)
        sides = grid.tiles[:, 2:] - grid.tiles[:, :2]
        seen += float(sides.prod(axis=1).sum()) / tiles.imgsz**2 + grid.whole
    return seen / len(sizes)


def at_scale(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Return an image (H, W, C) resized to the network's scale, (h, w, C)."""
    if image.shape[:2] != (grid.height, grid.width):
        image = cv2.resize(image, (grid.width, grid.height), interpolation=cv2.INTER_LINEAR)
    return image[..., None] if image.ndim == 2 else image


def cut(canvas: torch.Tensor, windows: np.ndarray, stride: int) -> torch.Tensor:
    """Cut windows (b, 4) out of uint8 (C, H, W) as a batch (b, C, h, w), padded to whole cells at right and bottom."""
    tiles = torch.stack([canvas[:, y1:y2, x1:x2] for x1, y1, x2, y2 in windows.tolist()])
    down, right = (-side % stride for side in tiles.shape[2:])
    return torch.nn.functional.pad(tiles, (0, right, 0, down), value=GREY) if down or right else tiles


def in_pixels(merged: Merged, grid: Grid, shape: tuple[int, int]) -> Merged:
    """Convert boxes from the scale of an image's grid to pixels of the image, whose height and width are ``shape``."""
    across, down = shape[1] / grid.width, shape[0] / grid.height
    boxes = merged.boxes * merged.boxes.new_tensor([across, down] * 2)
    rotated = merged.rotated
    if rotated is not None and (across, down) != (1, 1):
        centre = rotated[:, :2] * rotated.new_tensor([across, down])
        ratios = [torch.hypot(x * across, y * down) for x, y in (part.unbind(1) for part in axes(rotated))]
        rotated = torch.cat([centre, rotated[:, 2:4] * torch.stack(ratios, 1), rotated[:, 4:]], 1)
    return replace(merged, boxes=boxes, rotated=rotated)


def rows_of(merged: Merged | Candidates) -> torch.Tensor:
    """Return boxes in Ultralytics' form: (n, 6) x1, y1, x2, y2, score, class.

    Oriented boxes have the form (n, 7): centre x, y, width, height, radians, score, class.
    """
    boxes = merged.boxes if merged.rotated is None else merged.rotated
    return torch.cat([boxes, merged.scores[:, None], merged.classes[:, None].to(boxes.dtype)], 1)
