"""SPDConv: SpaceToDepth and a stride-1 convolution in place of one strided convolution.

Paper: R. Sunkara, T. Luo, "No More Strided Convolutions or Pooling: A New CNN Building Block for
Low-Resolution Images and Small Objects", ECML PKDD 2022, arXiv:2208.03641.

Formula: y = act(BN(conv_k(SpaceToDepth(x)))), where the convolution has stride 1 and 4C input channels.

Deviations: the paper asks for fewer than 4C filters, here any number is allowed; an odd size is padded as in
SpaceToDepth. The network published with the paper uses another order, with the convolution first, at full resolution,
and SpaceToDepth after it: compose `SpaceToDepth` by hand for that order.

Identity: on an even size the convolution equals one with kernel 2k, stride 2, padding 2*(k // 2) and the weight
W[:, c, 2*u + row, 2*v + column] = w[:, (2*column + row)*C + c, u, v].
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from .arguments import odd_kernel
from .folding import Foldable
from .space_to_depth import SpaceToDepth


class SPDConv(Foldable):
    """Downsample by two: SpaceToDepth, stride-1 convolution, BatchNorm, activation.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2)).
    Odd sizes: SpaceToDepth adds one row of zeros at the bottom, one column at the right.
    Parameters: 4 * k**2 * in_channels * out_channels + 2 * out_channels, besides those of the activation.
    Errors: ValueError for a kernel size that is not a positive odd integer.
    Source: Sunkara & Luo 2022.
    """

    folds = (("conv", "norm"),)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        activation: nn.Module | None = nn.SiLU(),
    ) -> None:
        """Build the layers. ``activation`` is copied, so that blocks share no state; None leaves it out."""
        super().__init__()
        padding = odd_kernel("SPDConv", kernel_size) // 2
        self.rearrange = SpaceToDepth()
        self.conv = nn.Conv2d(4 * in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.Identity() if activation is None else deepcopy(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2))."""
        x = self.rearrange(x)  # (N, 4 * in_channels, ceil(H/2), ceil(W/2))
        return self.act(self.norm(self.conv(x)))
