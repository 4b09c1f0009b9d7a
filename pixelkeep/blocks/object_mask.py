"""A learned mask that is trained on where small objects are.

Source: this project; the mask is that of R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in
Convolutional Neural Networks", CVPR Workshops 2023, arXiv:2305.09504 (see masks.py).

Formula: loss = h(fraction / target - 1) + gain * mean over the cells that a small box touches of -log sigmoid(logit),
with h(d) = d^2 / 2, linear beyond a difference of 1. A plain square hardly responds when a small target is missed, and
is overruled by the boxes of crowded images.

The paper's mask learns from the task's loss, through the values that the mask blends. In a detector the mask decides
which anchor points exist, and the detection loss has no gradient for that. So the boxes determine which cells must be
active, and the target fraction keeps the others from becoming active. Cells that no small box touches are governed by
the target alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masks import LearnedMask


class ObjectMask(LearnedMask):
    """A `LearnedMask` with an additional loss from ground truth boxes.

    Shapes, parameters: as `LearnedMask`.
    Errors: as `LearnedMask`, and ValueError for a largest size or a gain that is not positive.

    Args:
        in_channels: Channels of the map.
        target_fraction: Share of active cells to train for.
        stride: Side of a cell in pixels of the map.
        largest: Longer side, in pixels of the image, up to which an object is small.
        gain: Weight of the loss from the boxes.
    """

    def __init__(
        self,
        in_channels: int,
        target_fraction: float = 0.25,
        stride: int = 4,
        largest: float = 64,
        gain: float = 0.5,
    ) -> None:
        super().__init__(in_channels, target_fraction, stride)
        for name, value in (("largest", largest), ("gain", gain)):
            if not value > 0:
                raise ValueError(f"ObjectMask: {name} must be above 0, got {value!r}")
        self.largest, self.gain = largest, gain
        for conv in (m for m in self.estimator if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # logits vary by about one from the start

    def target_loss(self, fraction: Tensor) -> Tensor:
        """Return the loss for a fraction of active cells that misses the target, relative to the target."""
        share = fraction / self.target_fraction
        return F.smooth_l1_loss(share, torch.ones_like(share))

    def loss_from_boxes(self, boxes: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor | None:
        """Return what the boxes add to the training loss for the last forward pass, or None if it kept no logits.

        Args:
            boxes: Ground truth boxes (n, 4): x and y of the centre, width and height, as fractions of the image.
            image: Index of each box's image in the batch, (n,).
            size: Height and width of the image in pixels.
        """
        if self.logits is None:
            return None
        logits = self.logits[:, 0].float()  # (N, h, w)
        boxes, image = boxes.to(logits), image.to(logits.device).view(-1).long()
        small = (boxes[:, 2:] * boxes.new_tensor(size[::-1])).amax(1) <= self.largest
        held = torch.zeros_like(logits)
        held.index_add_(0, image[small], covered(boxes[small], *logits.shape[1:]).to(logits))
        missing = F.softplus(-logits) * (held > 0)  # -log sigmoid(logit)
        return self.gain * missing.sum() / (held > 0).sum().clamp(min=1)


def covered(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """Return which cells of a grid each box touches: (n, 4), x y w h as fractions -> bool (n, rows, columns)."""
    row, column = (torch.arange(size, device=boxes.device) for size in (rows, columns))
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    across = (low[:, :1] * columns < column + 1) & (high[:, :1] * columns > column)  # (n, columns)
    down = (low[:, 1:] * rows < row + 1) & (high[:, 1:] * rows > row)  # (n, rows)
    return down[:, :, None] & across[:, None]
