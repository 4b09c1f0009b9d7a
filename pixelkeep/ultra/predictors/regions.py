"""Where an adaptive network did its work: the active regions of its masks, in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn

from pixelkeep.errors import OptionError
from pixelkeep.ultra.costs.measure import adaptive_layers


def layers_shown(network: nn.Module, weights: object) -> list[nn.Module]:
    """Return the layers of a network that have region masks.

    Args:
        network: The network, or an exported model, which has no such layers.
        weights: Name of the weights for messages.

    Raises:
        OptionError: The network has no such layers.
    """
    layers = adaptive_layers(network) if isinstance(network, nn.Module) else []
    if not layers:
        raise OptionError(
            f"--show-regions: '{weights}' has no mask that chooses regions; yolov5-cad, yolov5-select and the -cad-sem "
            "and -select-sem models have one, as checkpoints (exports compute everywhere)"
        )
    return layers


def active_pixels(layers: Sequence[nn.Module], size: tuple[int, int]) -> np.ndarray:
    """Return the pixels at which any of the layers was active in its last forward pass, bool (N, height, width).

    Args:
        layers: Layers returned by :func:`layers_shown`, after a forward pass.
        size: Height and width of the network's input in pixels.
    """
    masks = [layer.region_mask.cpu() for layer in layers]
    return torch.stack([spread(mask, size) for mask in masks]).any(0).numpy()


def spread(cells: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Expand cells (N, rows, columns) to pixels (N, height, width).

    Cells are squares whose side is the smallest power of two that covers the input, as all strides and regions are
    powers of two. The last cells may reach over the edge.
    """
    height, width = size
    side = 1
    while side * cells.shape[1] < height or side * cells.shape[2] < width:
        side *= 2
    return cells.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]


def in_picture(active: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Map pixels of the network's input (H, W) to those of the image of ``shape`` that was letterboxed into it."""
    gain = min(active.shape[0] / shape[0], active.shape[1] / shape[1])
    height, width = round(shape[0] * gain), round(shape[1] * gain)
    top, left = round((active.shape[0] - height) / 2 - 0.1), round((active.shape[1] - width) / 2 - 0.1)
    inside = active[top : top + height, left : left + width].astype(np.uint8)
    return cv2.resize(inside, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0
