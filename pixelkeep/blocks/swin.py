"""Swin transformers whose patch merging is SliceSamp, built on timm's (`pip install "pixelkeep[timm]"`).

Papers: Z. Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021,
arXiv:2103.14030; L. He, M. Wang, "SliceSamp", Applied Sciences 2023, 13(21), 11657 (see slicesamp.py).

Formula: patch merging maps the four phases of the map, 4C channels, to 2C by LayerNorm and a linear layer; SliceSamp
maps the same four phases by a depthwise and a pointwise convolution, each with BatchNorm and GELU.

Deviations: the paper does not say whether it replaces the patch embedding as well; here the patch embedding stays.
timm's patch merging takes the phases in the same order as SliceSamp.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .folding import Foldable
from .slicesamp import SliceSamp

PATCH = 4  # side, in pixels, of the patches that the first layer embeds
MERGINGS = ("linear", "slicesamp")
SIZES = {  # channels of the first stage; blocks and attention heads of each of the four stages
    "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
}


def _swin_module() -> Any:
    """Import timm's Swin only when it is needed, since the import takes a second and timm is an optional extra."""
    try:
        from timm.models import swin_transformer
    except ImportError as error:
        raise ImportError(f"Swin needs timm ({error}): pip install 'pixelkeep[timm]'") from error
    return swin_transformer


class SliceSampMerging(nn.Module):
    """SliceSamp on maps whose channels are the last dimension, as in Swin.

    Shapes: (N, H, W, in_channels) -> (N, ceil(H/2), ceil(W/2), out_channels).
    Parameters: 44 * in_channels + 4 * in_channels * out_channels + 2 * out_channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = SliceSamp(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, in_channels) -> (N, ceil(H/2), ceil(W/2), out_channels)."""
        return self.down(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # views: the memory layout stays channels last


def merge_by_slicesamp(swin: nn.Module) -> nn.Module:
    """Replace every patch merging of a timm Swin by SliceSamp of the same channels, in place, and return the network.

    Raises ValueError if the network has no patch merging, and ImportError without timm.
    """
    merging = _swin_module().PatchMerging
    found = [
        (parent, name, m) for parent in swin.modules() for name, m in parent.named_children() if type(m) is merging
    ]
    if not found:
        raise ValueError(f"merge_by_slicesamp: {type(swin).__name__} has no PatchMerging of timm's Swin")
    for parent, name, m in found:
        setattr(parent, name, SliceSampMerging(m.dim, m.out_dim).to(m.reduction.weight))
    return swin


class Swin(nn.Module):
    """timm's Swin without its head, with a choice of patch merging, for images of any size.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/32), ceil(W/32)); an image whose height or width is not
    a multiple of 4 is padded with zeros at the bottom and right.
    Errors: ImportError without timm; ValueError for an unknown size or merging, or output channels that are not those
    of the size.

    A checkpoint holds the arguments and the tensors and names no class of timm, so it loads with other releases of
    timm, and where only known classes may be loaded.
    """

    def __init__(self, in_channels: int, out_channels: int, size: str = "tiny", merging: str = "slicesamp") -> None:
        """Build the network; ``size`` is a key of `SIZES`, ``merging`` one of `MERGINGS`."""
        super().__init__()
        for name, value, allowed in (("size", size, SIZES), ("merging", merging, MERGINGS)):
            if value not in allowed:
                raise ValueError(f"Swin: {name} must be one of {', '.join(allowed)}, got {value!r}")
        channels = 8 * SIZES[size]["embed_dim"]
        if out_channels != channels:
            raise ValueError(f"Swin: size {size} gives {channels} output channels, got {out_channels}")
        self.arguments = (in_channels, out_channels, size, merging)
        build = _swin_module().SwinTransformer
        self.net = build(in_chans=in_channels, num_classes=0, strict_img_size=False, global_pool="", **SIZES[size])
        if merging == "slicesamp":
            merge_by_slicesamp(self.net)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, ceil(H/32), ceil(W/32))."""
        height, width = x.shape[2:]
        if height % PATCH or width % PATCH:
            x = F.pad(x, (0, -width % PATCH, 0, -height % PATCH))
        return self.net.forward_features(x).permute(0, 3, 1, 2)

    def _foldable(self) -> list[Foldable]:
        return [m for m in self.net.modules() if isinstance(m, Foldable)]

    def __reduce__(self) -> tuple:
        own = {key: value for key, value in self.__dict__.items() if key != "_modules"}
        folded = any(m.is_fused for m in self._foldable())
        return type(self), self.arguments, (own, folded, self.net.state_dict(keep_vars=True))

    def __setstate__(self, state: tuple) -> None:
        own, folded, tensors = state
        self.__dict__.update(own)
        if folded:
            for m in self._foldable():
                m.fuse()
        trained = {key: tensor.requires_grad for key, tensor in tensors.items()}
        self.net.load_state_dict(tensors, assign=True)  # assign=True takes over the new network's requires_grad
        for key, parameter in self.net.named_parameters():
            parameter.requires_grad_(trained[key])
        self.train(self.training)
