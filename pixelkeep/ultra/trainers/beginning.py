"""The boxes that a new head predicts before it has learnt anything.

Ultralytics begins with the mean of all distances that its 16 bins can say: boxes of 15 strides, 120 pixels at stride 8.
What an anchor learns is weighed by its overlap with the object, in assignment by the sixth power of it. Between such a
box and an object of 12 pixels that is 1e-12, which is lost beside the assigner's own least number, 1e-9: the object
counts for nothing until larger ones have taught the network to make boxes smaller, and without larger ones for ever.
"""

from __future__ import annotations

import torch
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import DetectionModel


def begin_with(network: DetectionModel, side: float | None) -> None:
    """Let a head that has learnt nothing predict boxes of a given size about every anchor.

    Args:
        network: With its biases as Ultralytics sets them; other heads than those for detection stay as they are.
        side: Of the boxes, in strides of each level; None for Ultralytics' own.
    """
    head = network.model[-1]
    if side is None or not isinstance(head, Detect):
        return
    biases = distance_bias(side / 2, head.reg_max).repeat(4)
    for name in ("cv2", "one2one_cv2"):
        for branch in getattr(head, name, None) or ():
            with torch.no_grad():
                branch[-1].bias[: len(biases)] = biases


def distance_bias(mean: float, bins: int) -> torch.Tensor:
    """Return what to add to the logits of a distance so that its mean is as given, (bins,).

    Of all distributions of a mean the one that says least else is geometric: each bin has the same ratio to the one
    before. So its logits are a line.

    Args:
        mean: In strides, above 0 and below ``bins - 1``.
        bins: Of the distribution; with 1 the distance is the number itself.
    """
    if bins == 1:
        return torch.tensor([mean])
    places = torch.arange(bins, dtype=torch.float64)
    low, high = -50.0, 50.0  # slopes of the line; the mean grows with the slope
    for _ in range(100):
        slope = (low + high) / 2
        if float((torch.softmax(slope * places, 0) * places).sum()) < mean:
            low = slope
        else:
            high = slope
    return (slope * places).float()
