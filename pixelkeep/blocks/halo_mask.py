"""The gate of a selective stage: a mask that is trained on where small objects are, and grows by a halo.

Source: this project; the mask is that of R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in
Convolutional Neural Networks", CVPR Workshops 2023, arXiv:2305.09504 (see masks.py and object_mask.py).

Formula: the mask is active within ``halo`` cells of every cell where an `ObjectMask` would be active. The target loss
and the fraction are those of the grown mask. Boxes are compared with the cells before they grow, so that the halo
surrounds the objects.

In evaluation, the largest logit within the halo is compared with the running threshold. This is equivalent to growing
the mask, and the share of active cells that the threshold keeps is that of the grown mask.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .object_mask import ObjectMask

LARGEST = 32  # longer side, in pixels of the image, up to which an object counts as small


class HaloMask(ObjectMask):
    """An `ObjectMask` that grows by a halo; each of its cells stands for 2x2 pixels of the map.

    Shapes: (N, in_channels, H, W) -> (N, 1, ceil(H/2), ceil(W/2)).
    Parameters: as `ObjectMask`.
    Errors: ValueError for a target fraction outside (0, 1) or a halo that is not an integer of at least 0.

    Args:
        in_channels: Channels of the map.
        target_fraction: Share of active cells to train for, the halo included.
        halo: Number of cells by which the mask grows.
    """

    def __init__(self, in_channels: int, target_fraction: float, halo: int) -> None:
        super().__init__(in_channels, target_fraction, 2, LARGEST)
        if isinstance(halo, bool) or not isinstance(halo, int) or halo < 0:
            raise ValueError(f"halo must be an integer of at least 0, in cells of the strided map, got {halo!r}")
        self.halo = halo
        # If cells are active independently with this probability, the grown mask has the target fraction.
        rate = -math.expm1(math.log1p(-self.target_fraction) / (2 * halo + 1) ** 2)
        nn.init.constant_(self.estimator[-1].bias, math.log(rate / (1 - rate)))
        self.threshold.copy_(self.estimator[-1].bias.detach())

    def grown(self, cells: Tensor) -> Tensor:
        """Return for each cell the largest value within the halo: (N, 1, h, w) -> (N, 1, h, w)."""
        return F.max_pool2d(cells, 2 * self.halo + 1, 1, self.halo) if self.halo else cells
