"""Images in the form in which a network takes them, to compare exports on and to calibrate int8 on.

A network that was trained in tiles is given tiles at the scale of its training. Whole images, shrunk to its input size,
would show none of the objects that it knows, and int8 would be calibrated on nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox, classify_transforms

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.tiled.images import Tiles, at_scale, cut, grid_of

COMPARED, CALIBRATED = 16, 128  # images at most


def images_of(
    data: str | None,
    sides: list[int],
    network: nn.Module,
    split: str = "val",
    most: int = COMPARED,
    tile: int | None = None,
) -> Tensor:
    """Return images from all over a split of a dataset, (n, C, H, W) from 0 to 1; generated ones without a dataset.

    Args:
        data: Dataset name or YAML; None for generated images.
        sides: Height and width in pixels at which the network sees the images.
        network: Network that the images are for.
        split: Split of the dataset.
        most: Largest number of images to return.
        tile: Side in image pixels of the tiles to return instead of whole images, those with objects where there are
            any; None for whole images.

    Raises:
        OptionError: The network takes images with another number of channels, or has another number of classes.
        DataError: The dataset cannot be used.
    """
    channels, stretch = network.yaml.get("channels", 3), network.yaml.get("stretch")
    if data is None and channels != 3:
        raise OptionError(f"--data: give images of {channels} channels; the generated ones have 3")
    spec, records = _records(data, split, network.task, max(sides))
    if spec.channels != channels:
        raise OptionError(f"--data {data}: its images have {spec.channels} channels, but the network takes {channels}")
    if data is not None and len(spec.names) != len(network.names):
        told = f"it has {len(spec.names)} classes, but the network knows {len(network.names)}"
        raise OptionError(f"--data {data}: {told}; give the data that it was trained on")
    chosen = np.unique(np.linspace(0, len(records) - 1, most).round().astype(int))
    if tile:
        each = -(-most // len(chosen))
        cuts = [
            one for i in chosen for one in _tiles(records[i], Tiles(size=tile, imgsz=sides[0]), each, channels, stretch)
        ]
        return torch.stack(cuts[:most])
    show = _cropped if network.task == "classify" else _padded
    return torch.stack([show(records[i].path, sides, channels, stretch) for i in chosen])


def _records(data: str | None, split: str, task: str, imgsz: int) -> tuple[Any, list]:
    """Return a dataset and the records of a split; generated images are those of the detection demo."""
    if data is None or task == "detect":
        spec = resolve_data(data or "demo", needs=(split,))
        return spec, load_split(spec, split).records
    kind = tasks.TASKS[task]
    spec = kind.resolve(data, None, (split,))
    return spec, kind.read(spec, split, imgsz).records


def _tiles(record: ImageRecord, tiles: Tiles, most: int, channels: int, stretch: Any) -> list[Tensor]:
    """Return tiles (C, H, W) from all over an image that show an object, cut as detection in tiles cuts them.

    Of an image without objects, any tiles are returned. Images smaller than a tile are padded to its size at the right
    and bottom.
    """
    image = read_pixels(record.path, channels, stretch)
    grid = grid_of(image.shape, tiles)
    windows = grid.tiles
    across, down = grid.width / record.width, grid.height / record.height
    x, y = ((record.boxes[:, :2] + record.boxes[:, 2:]) / 2 * [across, down]).T
    inside = [((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)).any() for x1, y1, x2, y2 in windows]
    windows = windows[inside] if any(inside) else windows
    windows = windows[np.unique(np.linspace(0, len(windows) - 1, most).round().astype(int))]
    canvas = torch.from_numpy(np.ascontiguousarray(at_scale(image, grid))).permute(2, 0, 1)  # (C, h, w)
    shown = cut(canvas, windows, tiles.imgsz)
    return list((shown.flip(1) if channels == 3 else shown).float() / 255)  # BGR to RGB


def _padded(path: Path, sides: list[int], channels: int, stretch: Any) -> Tensor:
    """Return an image (C, H, W), letterboxed as detection and segmentation take it."""
    shown = LetterBox(tuple(sides))(image=read_pixels(path, channels, stretch))
    shown = shown[..., None] if shown.ndim == 2 else shown  # (H, W, C)
    shown = shown[..., ::-1] if channels == 3 else shown  # BGR to RGB
    return torch.from_numpy(np.ascontiguousarray(shown)).permute(2, 0, 1).float() / 255


def _cropped(path: Path, sides: list[int], channels: int, stretch: Any) -> Tensor:
    """Return an image (3, H, W), scaled to cover the input and cropped, as classification takes it."""
    pixels = cv2.cvtColor(read_pixels(path, channels, stretch), cv2.COLOR_BGR2RGB)
    return classify_transforms(size=tuple(sides))(Image.fromarray(pixels))
