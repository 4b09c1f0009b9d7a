"""The boxes that a new head predicts before it has learnt anything.

In Ultralytics a new head predicts the mean of all distances that its 16 bins can express: boxes of 15 strides a side,
120 pixels at stride 8. What an anchor point learns is weighted by the overlap of its box with the object, and in
assignment by the sixth power of this overlap. For such a box and an object of 12 pixels the sixth power is 1e-12, which
is lost beside the assigner's epsilon, 1e-9. The object counts for nothing until larger objects have taught the network
to predict smaller boxes; without larger objects it never counts.
"""

from __future__ import annotations

import torch
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import DetectionModel


def begin_with(network: DetectionModel, side: float | None) -> None:
    """Set the biases of a new head so that it predicts boxes of a given size around every anchor point.

    Args:
        network: Network with the biases that Ultralytics sets; heads other than detection heads are left unchanged.
        side: Side of the boxes, in strides of each level; None for Ultralytics' own initial boxes.
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
    """Return the bias of the logits of a distance, (bins,), that gives its distribution the mean ``mean``.

    Of all distributions with a given mean, the one that assumes least besides is geometric: the ratio of each bin to
    the one before is the same. Its logits therefore lie on a line.

    Args:
        mean: Mean distance in strides, above 0 and below ``bins - 1``.
        bins: Number of bins of the distribution; with one bin the head predicts the distance itself.
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
