"""``--tile auto``: tiles at the scale at which a network was trained, derived from its training and its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ultralytics.utils import LOGGER

from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import PixelkeepError
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.weights.checkpoints import model_of, trained_size


def suitable_tile(checkpoint: dict, imgsz: int | None) -> tuple[int, int]:
    """Choose the side of a tile in pixels of the image and the side at which the network sees it, and log the reason.

    With these tiles, objects are as large for the network as in training. For a network trained in tiles, the scale is
    that of its own tiles. Otherwise, at the trained size, a tile is as long as the median longer side of the training
    images, which training fitted into that size; at other sizes it is longer or shorter in proportion. If the training
    data no longer exists, a pixel of the image is taken as a pixel of the network's input.

    Args:
        checkpoint: The network's checkpoint.
        imgsz: Side in pixels at which the network is asked to see tiles; the size it was trained at by default.
    """
    trained = _trained_side(checkpoint)
    shown = imgsz or trained
    if tile := own_tile(checkpoint, shown):
        own = model_of(checkpoint).yaml["tile"]
        LOGGER.info(f"tile auto: {tile} px, shown to the network at {shown} (trained in tiles of {own} at {trained})")
        return tile, shown
    longer, objects = _training_images(checkpoint)
    factor = 1.0 if longer is None else longer / trained  # pixels of an image in one of the network
    tile = max(1, round(shown * factor))
    if longer is None:
        reason = f"trained at {trained}; its data was not found, so image pixels are taken as they are"
    else:
        reason = f"trained at {trained} on images of {longer:.0f} px, objects of {objects:.0f} px (median)"
    LOGGER.info(f"tile auto: {tile} px, shown to the network at {shown} ({reason})")
    return tile, shown


def own_tile(checkpoint: dict, imgsz: int) -> int | None:
    """Return the tile's side, in image pixels, that a network trained in tiles sees at ``imgsz``; None for others."""
    own = getattr(model_of(checkpoint), "yaml", {}).get("tile")
    return max(1, round(imgsz * own / _trained_side(checkpoint))) if own else None


def _trained_side(checkpoint: dict) -> int:
    trained = trained_size(checkpoint)
    return trained if isinstance(trained, int) else max(trained)


def _training_images(checkpoint: dict) -> tuple[float | None, float | None]:
    """Return the medians, over the training data, of the images' longer side and of the objects' side.

    The side of an object is the square root of its box's area. Both are None if the data cannot be read.
    """
    data = checkpoint.get("train_args", {}).get("data")
    if not isinstance(data, str) or not Path(data).is_file():
        return None, None
    try:
        records = load_split(resolve_data(data, needs=("train",)), "train").records
    except PixelkeepError:
        return None, None
    sides = np.concatenate([np.sqrt(np.prod(r.boxes[:, 2:] - r.boxes[:, :2], axis=1)) for r in records])
    return float(np.median([max(r.width, r.height) for r in records])), float(np.median(sides))
