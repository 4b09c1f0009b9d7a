"""Masks that choose which regions of an image deserve high resolution, from its edges or by learning.

Paper: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks",
CVPR Workshops 2023, arXiv:2305.09504.

Every mask keeps this contract, so that one mask can replace another:

- ``mask(x)`` returns (N, 1, ceil(H / stride), ceil(W / stride)) of x's type, exactly 0 or 1, 1 being active. A cell of
  the mask stands for ``stride`` x ``stride`` pixels of x, or fewer at the bottom and the right where the size of x is
  not a multiple of the stride.
- ``mask.fraction`` is the share of active cells in the last forward pass, a float. It is None before the first pass,
  and after a pass run by a trace or an export.
- ``mask.auxiliary_loss()`` returns a scalar to add to the training loss, for the mask that the last forward pass
  returned. It is None where nothing is learned: in evaluation, and always for edges.
- In evaluation, the same x gives the same mask, unless sampling is asked for. Neither the fraction nor the loss is
  saved or copied.

Deviations from the published code:

- Edges: the published code compares signed differences, so it misses steps from bright to dark (here only with
  ``signed=True``); it pads with zeros, so bright borders of an image count as edges (here they never do, since border
  pixels are repeated); after dilation it looks at every eighth pixel (here at all of them). Its thresholds 0.15, 0.35
  and 0.95 apply to images divided by a standard deviation of about 0.226; for images with values from 0 to 1 they are
  0.034, 0.079 and 0.215.
- Learned: the published code computes the target loss from a second, independent draw (here from the mask in use) and
  draws in evaluation too (here only with ``sample_at_inference=True``; otherwise a threshold decides). Its estimator
  has four 3x3 convolutions and 701,826 parameters. Here a strided 3x3 convolution, max pooling down to cells, a 3x3 and
  a 1x1 convolution with few channels are enough, since the estimator's time counts as well.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lip import InstanceNorm

THRESHOLD_MOMENTUM = 0.1  # weight of the last batch in the running threshold
QUANTILE_LIMIT = 2**24  # the most values that torch.quantile accepts
_GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue


def checked_fraction(block: str, name: str, value: float) -> float:
    """Return a target fraction; raise ValueError unless it lies between 0 and 1, both excluded."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{block}: {name} must lie between 0 and 1 (both excluded), such as 0.25, got {value!r}")
    return float(value)


def is_exporting() -> bool:
    """Return whether a trace, an export or a compilation runs the network; modules must not keep its tensors."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


class RegionMask(nn.Module):
    """The base class of all masks; the module docstring gives their contract.

    Attributes:
        stride: Side, in pixels of x, of the square that a cell of the mask stands for.
    """

    stride: int

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _forget(self) -> None:
        self._fraction: Tensor | None = None
        self._loss: Tensor | None = None

    def _remember(self, mask: Tensor, loss: Tensor | None) -> Tensor:
        self._forget()
        if not is_exporting():
            self._fraction, self._loss = mask.detach().mean(dtype=torch.float32), loss
        return mask

    @property
    def fraction(self) -> float | None:
        """The share of active cells in the last forward pass."""
        return None if self._fraction is None or self._fraction.is_meta else self._fraction.item()

    def auxiliary_loss(self) -> Tensor | None:
        """Return the scalar that the last forward pass adds to the training loss, or None."""
        return self._loss

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the fraction and the loss, whose autograd graph can neither be copied nor saved."""
        return {**self.__dict__, "_fraction": None, "_loss": None}


class EdgeMask(RegionMask):
    """A mask that is active where the image has an edge nearby; nothing is learned.

    A pixel is an edge if the central difference of grey values, right minus left or lower minus upper, is at least
    ``threshold`` in absolute value; with ``signed``, the absolute value is not taken. Each edge pixel grows to a square
    with a side of ``dilation`` pixels, and a cell that holds any part of such a square is active. The pixels beyond the
    border of the image count as equal to those at the border.

    Shapes: (N, C, H, W) -> (N, 1, ceil(H/stride), ceil(W/stride)). Three channels are weighted as red, green and
    blue; any other number is averaged.
    Parameters: none.
    Errors: ValueError for a threshold that is not positive, an even dilation, or a stride below 1.
    Source: Hesse et al. 2023, the mask by edges.
    """

    def __init__(self, stride: int, threshold: float = 0.08, dilation: int = 11, signed: bool = False) -> None:
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"EdgeMask: threshold must be above 0, such as 0.08, got {threshold!r}")
        if not isinstance(stride, int) or stride < 1:
            raise ValueError(f"EdgeMask: stride must be a positive integer, such as 8, got {stride!r}")
        if not isinstance(dilation, int) or dilation < 1 or dilation % 2 == 0:
            raise ValueError(f"EdgeMask: dilation must be a positive odd integer (1, 3, 5, ...), got {dilation!r}")
        self.stride, self.threshold, self.dilation, self.signed = stride, threshold, dilation, bool(signed)

    def edges(self, x: Tensor) -> Tensor:
        """Return the undilated edges of (N, C, H, W) as (N, 1, H, W) of 0 and 1."""
        if x.shape[1] == 3:
            grey = (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)  # (N, 1, H, W)
        else:
            grey = x.mean(1, keepdim=True)
        wide = F.pad(grey, (1, 1, 1, 1), mode="replicate")  # (N, 1, H+2, W+2)
        steps = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2], wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1])
        right, down = steps if self.signed else (step.abs() for step in steps)
        return (torch.maximum(right, down) >= self.threshold).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) -> (N, 1, ceil(H/stride), ceil(W/stride)) of 0 and 1."""
        k = self.dilation
        grown = F.max_pool2d(self.edges(x), (k, 1), 1, (k // 2, 0))
        grown = F.max_pool2d(grown, (1, k), 1, (0, k // 2))
        return self._remember(F.max_pool2d(grown, self.stride, self.stride, ceil_mode=True), None)


class LearnedMask(RegionMask):
    """A mask that is active where a small convolutional estimator decides.

    In training, a cell is active if the sum of the estimator's logit and logistic noise is positive, and the gradient
    is that of the sigmoid (straight through). The noise is the difference of two Gumbel variables, so this is a hard
    Gumbel softmax over active and inactive with temperature 1. In evaluation, a cell is active if its logit is above
    ``threshold``, a running mean of the threshold that would make as many cells active as in training. While the
    estimator is still unsure, the sign of the logit alone would make all cells active, or none.
    The estimator sees the map with each channel normalised over the image. BatchNorm scales maps differently in
    training and in evaluation, by several times in the first epochs, and one threshold could not serve both.
    The loss is (fraction - target_fraction)^2, the fraction being that of the mask in use, over the whole batch.

    Shapes: (N, in_channels, H, W) -> (N, 1, ceil(H/stride), ceil(W/stride)). Odd sizes: padded with zeros, as a
    strided convolution does.
    Parameters: 9 * in_channels * h + 9 * h**2 + 3 * h + 1, with h = hidden_channels.
    Errors: ValueError for a target fraction outside (0, 1), a stride that is not a power of two, or no hidden channels.
    Source: Hesse et al. 2023, the learned mask.
    """

    def __init__(
        self,
        in_channels: int,
        target_fraction: float = 0.25,
        stride: int = 2,
        hidden_channels: int = 16,
        sample_at_inference: bool = False,
    ) -> None:
        super().__init__()
        self.target_fraction = checked_fraction("LearnedMask", "target_fraction", target_fraction)
        if not isinstance(stride, int) or stride < 1 or stride & (stride - 1):
            raise ValueError(f"LearnedMask: stride must be a power of two (1, 2, 4, ...), got {stride!r}")
        if not isinstance(hidden_channels, int) or hidden_channels < 1:
            raise ValueError(f"LearnedMask: hidden_channels must be a positive integer, got {hidden_channels!r}")
        self.stride, self.sample_at_inference = stride, bool(sample_at_inference)
        self.estimator = nn.Sequential(
            InstanceNorm(in_channels, affine=False),
            nn.Conv2d(in_channels, hidden_channels, 3, min(stride, 2), padding=1),
            nn.ReLU(),
            nn.MaxPool2d(max(stride // 2, 1), ceil_mode=True),
            nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_channels, 1, 1),
        )
        # With this bias, training begins near the target fraction instead of at one half.
        nn.init.constant_(self.estimator[-1].bias, math.log(self.target_fraction / (1 - self.target_fraction)))
        self.register_buffer("threshold", self.estimator[-1].bias.detach().clone())
        self.logits: Tensor | None = None

    def _forget(self) -> None:
        super()._forget()
        self.logits = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, 1, ceil(H/stride), ceil(W/stride)) of 0 and 1.

        After a forward pass in training, ``logits`` holds the estimator's output of the same shape, for a further loss.
        """
        logits = self.estimator(x)  # (N, 1, h, w)
        if not self.training and not self.sample_at_inference:
            return self._remember((self.grown(logits) > self.threshold).to(x.dtype), None)
        mask = self.grown(straight_through(logits))
        loss = self.target_loss(mask.float().mean()) if self.training else None
        self._remember(mask, loss)
        if self.training and not is_exporting():
            self.logits = logits
            self._calibrate(self.grown(logits.detach().float()), mask.detach())
        return mask

    def grown(self, cells: Tensor) -> Tensor:
        """Return logits or a mask with the active cells grown; this class returns ``cells`` unchanged."""
        return cells

    def target_loss(self, fraction: Tensor) -> Tensor:
        """Return the loss for a fraction of active cells that misses the target."""
        return (fraction - self.target_fraction) ** 2

    def _calibrate(self, logits: Tensor, mask: Tensor) -> None:
        """Move the threshold towards the value above which there are as many logits as the mask has active cells."""
        if not logits.is_meta:
            active = mask.float().mean().clamp(0, 1)
            wanted = torch.quantile(logits.flatten()[:QUANTILE_LIMIT], 1 - active)
            self.threshold.lerp_(wanted.to(self.threshold.dtype), THRESHOLD_MOMENTUM)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the logits as well."""
        return {**super().__getstate__(), "logits": None}


def straight_through(logits: Tensor) -> Tensor:
    """Draw a hard mask whose cells are exactly 0 or 1, 1 with probability sigmoid(logit), with a sigmoid's gradient."""
    uniform = torch.rand_like(logits, dtype=torch.float32).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid(logits.float() + torch.logit(uniform))
    # soft - soft.detach() is exactly 0, whereas hard - soft.detach() + soft would round.
    return ((soft > 0.5).float() + (soft - soft.detach())).to(logits.dtype)
