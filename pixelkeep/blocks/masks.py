"""Masks that say which regions of an image deserve high resolution: by edges, or learned.

Paper: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks",
CVPR Workshops 2023, arXiv:2305.09504.

The contract that every mask keeps, so that whatever uses one can use another:

- ``mask(x)`` returns (N, 1, ceil(H / stride), ceil(W / stride)) of x's type, exactly 0 or 1. A cell of the mask stands
  for ``stride`` x ``stride`` pixels of x, fewer at the bottom and the right where the size does not divide. 1 is
  active.
- ``mask.fraction`` is the share of active cells in the last forward pass, a float; None before the first, and where a
  trace or an export ran it.
- ``mask.auxiliary_loss()`` is a scalar that belongs into the training loss, of the mask that the last forward pass
  returned. It is None where nothing is learned: in evaluation, and of edges always.
- In evaluation the same x gives the same mask, unless sampling is asked for. Neither record is saved or copied.

Deviations from the published code:

- Edges: it compares signed differences, so steps from bright to dark are missed (here ``signed=True``); it pads with
  zeros, so bright borders of an image count as edges (here they never do: borders are repeated); it looks at every
  eighth pixel after dilation (here at all of them). Its thresholds 0.15, 0.35 and 0.95 are for images divided by a
  standard deviation of about 0.226: 0.034, 0.079 and 0.215 for images from 0 to 1.
- Learned: its target loss is of a second, independent draw (here of the mask in use); in evaluation it draws too (here
  only with ``sample_at_inference=True``; otherwise a threshold decides). Its estimator has four 3x3 convolutions and
  701,826 parameters; here a strided 3x3, a max-pool down to cells, a 3x3 and a 1x1 do, with few channels, since its
  time counts as well.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lip import InstanceNorm

THRESHOLD_MOMENTUM = 0.1  # share of the last batch in the running threshold
QUANTILE_LIMIT = 2**24  # the most values that torch.quantile takes
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue


def checked_fraction(block: str, name: str, value: float) -> float:
    """Return a target fraction; raise ValueError unless it lies between 0 and 1, both excluded."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{block}: {name} must lie between 0 and 1 (both excluded), such as 0.25, got {value!r}")
    return float(value)


def is_exporting() -> bool:
    """Whether a trace, an export or a compilation runs the network, which must not leave its tensors behind."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


class RegionMask(nn.Module):
    """What every mask has in common; see the contract above.

    Attributes:
        stride: Side of the square of x's pixels that a cell of the mask stands for.
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
        """Return what the last forward pass adds to the training loss, a scalar, or None."""
        return self._loss

    def __getstate__(self) -> dict[str, Any]:
        """Leave the records out: they hang on a graph, which can neither be copied nor saved."""
        return {**self.__dict__, "_fraction": None, "_loss": None}


class EdgeMask(RegionMask):
    """Active where the image has an edge nearby. Nothing is learned.

    A pixel is an edge if the central difference of grey values, right minus left or lower minus upper, is at least
    ``threshold`` in absolute value; with ``signed``, without taking the absolute value. Edges grow to squares of
    ``dilation`` pixels, and a cell that holds any part of one is active. At a border the pixel beyond counts as equal.

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
    """Active where a small convolutional estimator says so.

    In training the estimator's logit and logistic noise (the difference of two Gumbel variables: a hard Gumbel softmax
    over active and inactive, temperature 1) decide by their sign, and the gradient is that of the sigmoid (straight
    through). In evaluation a cell is active if its logit is above ``threshold``, a running mean of what makes as many
    cells active as in training: while the estimator is not sure of itself, the sign alone would make all or none so.
    The estimator sees the map with each channel normalised over the image: BatchNorm scales maps otherwise
    in training than in evaluation, by several times in the first epochs, and one threshold could not serve both.
    The loss is (fraction - target_fraction)^2, the fraction being that of the mask in use, over the whole batch.

    Shapes: (N, in_channels, H, W) -> (N, 1, ceil(H/stride), ceil(W/stride)). Odd sizes: as a convolution with stride
    pads, with zeros.
    Parameters: 9 * in_channels * h + 9 * h**2 + 3 * h + 1, with h = hidden_channels.
    Errors: ValueError for a target fraction outside (0, 1), a stride that is no power of two, or no hidden channels.
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
        # Training begins near the target instead of at a half.
        nn.init.constant_(self.estimator[-1].bias, math.log(self.target_fraction / (1 - self.target_fraction)))
        self.register_buffer("threshold", self.estimator[-1].bias.detach().clone())
        self.logits: Tensor | None = None

    def _forget(self) -> None:
        super()._forget()
        self.logits = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, 1, ceil(H/stride), ceil(W/stride)) of 0 and 1.

        Afterwards ``logits`` holds the estimator's output of the same shape, for a further loss, in training.
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
        """Let what is active reach further, in logits and in masks alike; here it does not."""
        return cells

    def target_loss(self, fraction: Tensor) -> Tensor:
        """Return the loss of a fraction that misses the target."""
        return (fraction - self.target_fraction) ** 2

    def _calibrate(self, logits: Tensor, mask: Tensor) -> None:
        """Move the threshold towards that of which as many logits are above as the mask has active cells."""
        if not logits.is_meta:
            active = mask.float().mean().clamp(0, 1)
            wanted = torch.quantile(logits.flatten()[:QUANTILE_LIMIT], 1 - active)
            self.threshold.lerp_(wanted.to(self.threshold.dtype), THRESHOLD_MOMENTUM)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the logits too."""
        return {**super().__getstate__(), "logits": None}


def straight_through(logits: Tensor) -> Tensor:
    """Draw a hard mask: exactly 0 or 1, 1 with probability sigmoid(logit), with the gradient of a sigmoid."""
    uniform = torch.rand_like(logits, dtype=torch.float32).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid(logits.float() + torch.logit(uniform))
    # The difference is exactly 0, unlike in hard - soft.detach() + soft, which rounds.
    return ((soft > 0.5).float() + (soft - soft.detach())).to(logits.dtype)
