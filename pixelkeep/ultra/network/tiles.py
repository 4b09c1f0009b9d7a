"""Ultralytics' layers run on tiles that were cut out of a map, without the padding that the map would have."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules import Conv


class Slots:
    """Puts tiles of several images beside each other, as many places for each image as the fullest one has.

    Args:
        active: bool (N, rows, columns), whose true regions are the tiles in row-major order.
    """

    def __init__(self, active: Tensor) -> None:
        counts = active.flatten(1).sum(1)
        self.image = active.nonzero()[:, 0]
        self.place = torch.arange(len(self.image), device=active.device) - (counts.cumsum(0) - counts)[self.image]
        self.shape = len(active), int(counts.max())

    def fill(self, tiles: Tensor) -> Tensor:
        """Map (T, C, s, s) -> (N, C, places * s * s), zero where an image has fewer tiles."""
        channels, area = tiles.shape[1], tiles.shape[2] * tiles.shape[3]
        places = tiles.new_zeros(*self.shape, channels, area)
        places[self.image, self.place] = tiles.flatten(2)
        return places.transpose(1, 2).flatten(2)  # (N, C, places, s*s) -> (N, C, places * s * s)


def leaves(branch: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the layers of nested sequences in order."""
    for layer in branch:
        if isinstance(layer, nn.Sequential):
            yield from leaves(layer)
        else:
            yield layer


def cropped(x: Tensor, margin: int) -> Tensor:
    """Take a margin off: (..., s, s) -> (..., s - 2 * margin, s - 2 * margin)."""
    size = x.shape[-1] - 2 * margin
    return x.narrow(-1, margin, size).narrow(-2, margin, size)


def shrinking(layer: Conv | nn.Conv2d, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Run a layer without padding on tiles (T, C, s, s) that are zero outside the image; return the image's rest too.

    Args:
        layer: Ultralytics' Conv, fused or not, or a convolution, with stride 1.
        x: The tiles.
        image: Which cells lie inside the image, bool (T, 1, s, s).
    """
    conv = layer if isinstance(layer, nn.Conv2d) else layer.conv
    margin = conv.kernel_size[0] // 2
    if margin:
        x = x * image
    x = F.conv2d(x, conv.weight, conv.bias, 1, 0, conv.dilation, conv.groups)
    if layer is not conv:
        x = layer.act(layer.bn(x) if hasattr(layer, "bn") else x)
    return x, cropped(image, margin)
