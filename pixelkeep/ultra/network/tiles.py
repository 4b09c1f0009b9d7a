"""Running Ultralytics' layers on tiles cut out of a feature map, without the padding that the map would have."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules import Conv


class Slots:
    """Groups tiles by image, with as many slots for each image as the image with the most tiles needs.

    Args:
        active: Active regions, bool (N, rows, columns); its true entries, in row-major order, are the tiles.
    """

    def __init__(self, active: Tensor) -> None:
        counts = active.flatten(1).sum(1)
        self.image = active.nonzero()[:, 0]
        self.place = torch.arange(len(self.image), device=active.device) - (counts.cumsum(0) - counts)[self.image]
        self.shape = len(active), int(counts.max())

    def fill(self, tiles: Tensor) -> Tensor:
        """Arrange tiles (T, C, s, s) as (N, C, slots * s * s), with zeros where an image has fewer tiles than slots."""
        channels, area = tiles.shape[1], tiles.shape[2] * tiles.shape[3]
        places = tiles.new_zeros(*self.shape, channels, area)
        places[self.image, self.place] = tiles.flatten(2)
        return places.transpose(1, 2).flatten(2)  # (N, C, places, s*s) -> (N, C, places * s * s)


def leaves(branch: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the layers of nested ``nn.Sequential`` modules in order."""
    for layer in branch:
        if isinstance(layer, nn.Sequential):
            yield from leaves(layer)
        else:
            yield layer


def cropped(x: Tensor, margin: int) -> Tensor:
    """Crop a margin off each side: (..., s, s) -> (..., s - 2 * margin, s - 2 * margin)."""
    size = x.shape[-1] - 2 * margin
    return x.narrow(-1, margin, size).narrow(-2, margin, size)


def shrinking(layer: Conv | nn.Conv2d, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Run a layer without padding on tiles whose cells outside the image are set to zero first.

    Args:
        layer: Ultralytics' Conv, fused or not, or a plain convolution, with stride 1.
        x: Tiles (T, C, s, s).
        image: Which cells lie inside the image, bool (T, 1, s, s).

    Returns:
        The output tiles, smaller by the layer's margin, and ``image`` cropped to the same size.
    """
    conv = layer if isinstance(layer, nn.Conv2d) else layer.conv
    margin = conv.kernel_size[0] // 2
    if margin:
        x = x * image
    x = F.conv2d(x, conv.weight, conv.bias, 1, 0, conv.dilation, conv.groups)
    if layer is not conv:
        x = layer.act(layer.bn(x) if hasattr(layer, "bn") else x)
    return x, cropped(image, margin)
