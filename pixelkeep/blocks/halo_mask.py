"""The gate of a selective stage: a mask that is told where small objects are, and grows by a halo.

Source: this project's; the mask is that of R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in
Convolutional Neural Networks", CVPR Workshops 2023, arXiv:2305.09504 (see masks.py and object_mask.py).

Formula: the mask is active within ``halo`` cells of where `ObjectMask` is. Loss and fraction are those of the grown
mask; boxes are compared with the cells before they grow, so that the halo goes round the objects.

In evaluation the largest logit within the halo is compared with the running threshold: the same as growing, and the
share that the threshold keeps is that of the grown mask.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .object_mask import ObjectMask

LARGEST = 32  # pixels of the image along the longer side of what counts as small


class HaloMask(ObjectMask):
    """`ObjectMask` that grows; each cell stands for 2x2 pixels of the map.

    Shapes: (N, in_channels, H, W) -> (N, 1, ceil(H/2), ceil(W/2)).
    Parameters: as `ObjectMask`.
    Errors: ValueError for a target fraction outside (0, 1) or a halo that is no integer from 0.

    Args:
        in_channels: Of the map.
        target_fraction: Share of active cells, the halo included.
        halo: By how many cells the mask grows.
    """

    def __init__(self, in_channels: int, target_fraction: float, halo: int) -> None:
        super().__init__(in_channels, target_fraction, 2, LARGEST)
        if isinstance(halo, bool) or not isinstance(halo, int) or halo < 0:
            raise ValueError(f"halo must be an integer from 0, in cells of the strided map, got {halo!r}")
        self.halo = halo
        # Cells drawn at this rate, each by itself, grow to the target.
        rate = -math.expm1(math.log1p(-self.target_fraction) / (2 * halo + 1) ** 2)
        nn.init.constant_(self.estimator[-1].bias, math.log(rate / (1 - rate)))
        self.threshold.copy_(self.estimator[-1].bias.detach())

    def grown(self, cells: Tensor) -> Tensor:
        """Take for each cell the largest value within the halo: (N, 1, h, w) -> (N, 1, h, w)."""
        return F.max_pool2d(cells, 2 * self.halo + 1, 1, self.halo) if self.halo else cells
