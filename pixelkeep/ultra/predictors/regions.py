"""Where a network whose work depends on the image did it: the active regions of its masks, in pixels of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn

from pixelkeep.errors import OptionError
from pixelkeep.ultra.costs.measure import adaptive_layers


def layers_shown(network: nn.Module, weights: object) -> list[nn.Module]:
    """Return the layers of a network that have masks.

    Raises:
        OptionError: There are none.
    """
    layers = adaptive_layers(network) if isinstance(network, nn.Module) else []
    if not layers:
        raise OptionError(
            f"--show-regions: '{weights}' has no mask that chooses regions; yolov5-cad, yolov5-select and the -cad-sem "
            "and -select-sem models have, as checkpoints (exports compute everywhere)"
        )
    return layers


def active_pixels(layers: Sequence[nn.Module], size: tuple[int, int]) -> np.ndarray:
    """Return where any of the layers was active in its last pass, bool (N, height, width).

    Args:
        layers: As :func:`layers_shown` gives them, after a pass.
        size: Height and width of the network's input.
    """
    masks = [layer.region_mask.cpu() for layer in layers]
    return torch.stack([spread(mask, size) for mask in masks]).any(0).numpy()


def spread(cells: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return cells (N, rows, columns) as pixels (N, height, width); cells are squares, the last ones may reach over.

    Their side is a power of two, as all strides and regions are: the least that covers the input.
    """
    height, width = size
    side = 1
    while side * cells.shape[1] < height or side * cells.shape[2] < width:
        side *= 2
    return cells.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]


def in_picture(active: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return pixels of the network's input (H, W) as those of the picture of ``shape`` that was fitted into it."""
    gain = min(active.shape[0] / shape[0], active.shape[1] / shape[1])
    height, width = round(shape[0] * gain), round(shape[1] * gain)
    top, left = round((active.shape[0] - height) / 2 - 0.1), round((active.shape[1] - width) / 2 - 0.1)
    inside = active[top : top + height, left : left + width].astype(np.uint8)
    return cv2.resize(inside, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0
