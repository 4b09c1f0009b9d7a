"""SpaceToDepth and DepthToSpace: halve or double a feature map's sides and keep every value.

Paper: R. Sunkara, T. Luo, "No More Strided Convolutions or Pooling: A New CNN Building Block for
Low-Resolution Images and Small Objects", ECML PKDD 2022, arXiv:2208.03641 (its SPD layer, at scale 2).
SliceSamp begins with the same slicing, and so does the Focus layer of YOLOv5.

Formula: out[n, k*C + c, i, j] = in[n, c, 2*i + k % 2, 2*j + k // 2]. The phases k = 0, 1, 2, 3 are (row, column)
= (0,0), (1,0), (0,1), (1,1), slice-major; `torch.pixel_unshuffle` has the same values in another channel order.

Deviations: the scale is fixed at 2; an odd height or width, which the definition leaves open, is padded with one
row of zeros at the bottom or one column at the right.

How it is computed: four strided slices and `torch.cat` are correct but slow in training, since the backward of each
slice fills a whole map with zeros. Instead, one permuting copy is used, whose backward is another permuting copy. In
channels_last, the two rows of each pair are stacked, which keeps the innermost loops long and the result
channels_last. A trace (TorchScript, ONNX) gets operators of rank five at most, since several deployment runtimes do
not support tensors of rank six. `benchmarks/rearrangement.py` measures the speed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def space_to_depth(x: Tensor) -> Tensor:
    """Move each 2x2 block of pixels into the channels: (N, C, H, W) -> (N, 4C, ceil(H/2), ceil(W/2)).

    An odd height or width is first padded with one row or column of zeros at the bottom or right. A trace keeps the
    padding of its example input, so it is valid for other sizes of the same parity.
    """
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))  # (N, C, H + H % 2, W + W % 2)
    if torch.jit.is_tracing():
        phases = (x[..., 0::2, 0::2], x[..., 1::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 1::2])
        return torch.cat(phases, 1)  # 4 of (N, C, H/2, W/2) -> (N, 4C, H/2, W/2)
    n, c, h, w = x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2
    if _is_channels_last(x):
        x = x.permute(0, 2, 3, 1).reshape(n, h, 2, w, 2, c)  # (N, H/2, row, W/2, column, C), a view
        x = torch.stack(x.unbind(2), 4)  # (N, H/2, W/2, column, row, C)
        return x.reshape(n, h, w, 4 * c).permute(0, 3, 1, 2)  # (N, 4C, H/2, W/2), a view
    x = x.reshape(n, c, h, 2, w, 2).permute(0, 5, 3, 1, 2, 4)  # (N, column, row, C, H/2, W/2), a view
    return x.reshape(n, 4 * c, h, w)  # (N, 4C, H/2, W/2), the copy


def depth_to_space(x: Tensor) -> Tensor:
    """Undo `space_to_depth`: (N, 4C, H, W) -> (N, C, 2H, 2W), bit for bit.

    Padding that `space_to_depth` added for an odd size stays; crop to the original size to remove it.
    Raises ValueError for a channel count not divisible by 4.
    """
    n, channels, h, w = x.shape
    if channels % 4:
        below = channels // 4 * 4
        nearest = f"{below} or {below + 4}" if below else "4"
        raise ValueError(f"depth_to_space: channels must be a multiple of 4, got {channels} (nearest: {nearest})")
    c = channels // 4
    if torch.jit.is_tracing():
        x = x.reshape(n, 2, 2, c, h * w).permute(0, 3, 2, 1, 4)  # (N, C, row, column, H*W)
        return F.pixel_shuffle(x.reshape(n, channels, h, w), 2)  # (N, C, 2H, 2W)
    if _is_channels_last(x):
        x = x.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, c)  # (N, H, W, column, row, C), a view
        x = torch.stack(x.unbind(4), 2)  # (N, H, row, W, column, C)
        return x.reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)  # (N, C, 2H, 2W), a view
    x = x.reshape(n, 2, 2, c, h, w).permute(0, 3, 4, 2, 5, 1)  # (N, C, H, row, W, column), a view
    return x.reshape(n, c, 2 * h, 2 * w)  # (N, C, 2H, 2W), the copy


class SpaceToDepth(nn.Module):
    """Move each 2x2 block of pixels into the channels.

    Shapes: (N, C, H, W) -> (N, 4C, ceil(H/2), ceil(W/2)). Channel k*C + c of the output is channel c at phase k;
    the phases (row, column) come in the order (0,0), (1,0), (0,1), (1,1).
    Odd sizes: one row of zeros is added at the bottom, one column at the right.
    Parameters: none.
    Source: Sunkara & Luo 2022, SPD at scale 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange (N, C, H, W) -> (N, 4C, ceil(H/2), ceil(W/2))."""
        return space_to_depth(x)


class DepthToSpace(nn.Module):
    """Move the channels back into 2x2 blocks of pixels: the exact inverse of SpaceToDepth.

    Shapes: (N, 4C, H, W) -> (N, C, 2H, 2W).
    Odd sizes: any H and W; padding that SpaceToDepth added is not removed.
    Errors: ValueError in `forward` when the channel count is not divisible by 4.
    Parameters: none.
    Source: the inverse slicing of He & Wang 2023 (SliceUpsamp).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange (N, 4C, H, W) -> (N, C, 2H, 2W)."""
        return depth_to_space(x)
