"""Fold BatchNorm into the convolution before it, which makes inference faster and changes no output.

Formula: gamma * (w * x + b - mean) / sqrt(var + eps) + beta = w' * x + b' with w' = w * gamma / sqrt(var + eps) and
b' = (b - mean) * gamma / sqrt(var + eps) + beta. Zero padding stays correct, since it is added to x, before w' applies.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


class Foldable(nn.Module):
    """A block that can fold its BatchNorms into its convolutions.

    Attributes:
        folds: The pairs (name of a convolution, name of the BatchNorm that follows it).
    """

    folds: ClassVar[tuple[tuple[str, str], ...]]

    @property
    def is_fused(self) -> bool:
        """Whether every BatchNorm has been folded, or replaced by Identity in another way."""
        return all(isinstance(getattr(self, norm), nn.Identity) for _, norm in self.folds)

    def fuse(self) -> Foldable:
        """Fold the BatchNorms in place, for inference, and return the block itself; folding again changes nothing.

        From then on the output is that of evaluation mode, even after `train()`. Each convolution gains a bias, its
        BatchNorm is replaced by Identity, and the folded weights take no gradient. State-dict keys change accordingly.
        """
        for conv_name, norm_name in self.folds:
            conv, norm = getattr(self, conv_name), getattr(self, norm_name)
            if isinstance(norm, nn.Identity):
                continue
            statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
            conv.requires_grad_(False)
            setattr(self, norm_name, nn.Identity())
        return self
