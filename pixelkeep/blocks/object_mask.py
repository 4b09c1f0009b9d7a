"""A learned mask that is told where small objects are.

Source: this project's; the mask is that of R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in
Convolutional Neural Networks", CVPR Workshops 2023, arXiv:2305.09504 (see masks.py).

Formula: loss = h(fraction / target - 1) + gain * mean over the cells that a small box touches of -log sigmoid(logit),
with h(d) = d^2 / 2, linear from a difference of 1: a plain square hardly feels that a small target is missed, and is
overruled by the boxes of crowded images.

The paper's mask learns from the task's loss, by way of the values that it blends. In a detector it decides which
anchors exist, for which the detection loss has no gradient; so the boxes say which cells must be active, and the
target fraction keeps the others from it. Cells that no small box touches are left to the target alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masks import LearnedMask


class ObjectMask(LearnedMask):
    """`LearnedMask` with a loss from boxes.

    Shapes, parameters: as `LearnedMask`.
    Errors: as `LearnedMask`, and ValueError for a largest size or a gain that is not positive.

    Args:
        in_channels: Of the map.
        target_fraction: Share of active cells.
        stride: Pixels of the map along a cell.
        largest: Longer side, in pixels of the image, up to which an object is small.
        gain: Weight of the loss from boxes.
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
        """Return the loss of a fraction that misses the target, relative to the target."""
        share = fraction / self.target_fraction
        return F.smooth_l1_loss(share, torch.ones_like(share))

    def loss_from_boxes(self, boxes: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor | None:
        """Return what boxes add to the training loss for the last forward pass, or None where there was none.

        Args:
            boxes: (n, 4), x y of the centre, width and height, as fractions of the image.
            image: (n,), the number of each box's image in the batch.
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
    """Return which cells of a grid boxes touch: (n, 4), x y w h as fractions -> bool (n, rows, columns)."""
    row, column = (torch.arange(size, device=boxes.device) for size in (rows, columns))
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    across = (low[:, :1] * columns < column + 1) & (high[:, :1] * columns > column)  # (n, columns)
    down = (low[:, 1:] * rows < row + 1) & (high[:, 1:] * rows > row)  # (n, rows)
    return down[:, :, None] & across[:, None]
