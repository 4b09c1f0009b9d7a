"""SliceSamp and SliceUpsamp: slicing, then a depthwise-separable convolution.

Paper: L. He, M. Wang, "SliceSamp: A Promising Downsampling Alternative for Retaining Information in a Neural
Network", Applied Sciences 2023, 13(21), 11657, doi:10.3390/app132111657.

Formula: y = GELU(BN(pointwise(GELU(BN(depthwise_k(slice(x))))))) with the exact GELU; slice is SpaceToDepth in
SliceSamp and DepthToSpace in SliceUpsamp.

Deviations: `kernel_size` has an effect in both (the published SliceUpsamp always uses 3), and the arguments that the
published code accepts and ignores (stride, padding, groups, activation) do not exist here. The convolutions have no
bias, as in that code; the bias in the paper's algorithm would be cancelled by BatchNorm. An odd size is padded as in
SpaceToDepth.
"""

from __future__ import annotations

from torch import Tensor, nn

from .arguments import odd_kernel
from .folding import Foldable
from .space_to_depth import DepthToSpace, SpaceToDepth


class _SliceBlock(Foldable):
    """Rearrangement to ``channels`` channels, depthwise and pointwise convolution, each with BatchNorm and GELU."""

    folds = (("depthwise", "depthwise_norm"), ("pointwise", "pointwise_norm"))

    def __init__(self, rearrange: nn.Module, channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        padding = odd_kernel(type(self).__name__, kernel_size) // 2
        self.rearrange = rearrange
        self.depthwise = nn.Conv2d(channels, channels, kernel_size, padding=padding, groups=channels, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(out_channels)
        self.act = nn.GELU()  # exact, not the tanh approximation

    def forward(self, x: Tensor) -> Tensor:
        x = self.rearrange(x)  # (N, channels, H', W')
        x = self.act(self.depthwise_norm(self.depthwise(x)))  # (N, channels, H', W')
        return self.act(self.pointwise_norm(self.pointwise(x)))  # (N, out_channels, H', W')


class SliceSamp(_SliceBlock):
    """Downsample by two: SpaceToDepth, depthwise convolution, pointwise convolution.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2)).
    Odd sizes: SpaceToDepth adds one row of zeros at the bottom, one column at the right.
    Parameters: 4 * (k**2 + 2) * in_channels + 4 * in_channels * out_channels + 2 * out_channels.
    Errors: ValueError for a kernel size that is not a positive odd integer.
    Source: He & Wang 2023, algorithm 1 and the published code.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__(SpaceToDepth(), 4 * in_channels, out_channels, kernel_size)


class SliceUpsamp(_SliceBlock):
    """Upsample by two: DepthToSpace, depthwise convolution, pointwise convolution.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, 2H, 2W), for any H and W.
    Parameters: (k**2 + 2) * c + c * out_channels + 2 * out_channels, with c = in_channels / 4.
    Errors: ValueError for in_channels not divisible by 4 or a kernel size that is not a positive odd integer.
    Source: He & Wang 2023, the published code.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        if in_channels < 4 or in_channels % 4:
            below = in_channels // 4 * 4
            nearest = f"{below} or {below + 4}" if below > 0 else "4"
            raise ValueError(
                f"SliceUpsamp: in_channels must be a positive multiple of 4, got {in_channels} (nearest: {nearest})"
            )
        super().__init__(DepthToSpace(), in_channels // 4, out_channels, kernel_size)
