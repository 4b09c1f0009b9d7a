"""Classifier: the head of a classification network in the form used by residual networks, pooling and a linear layer.

Papers: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, among others.

Formula: logits = W * mean(x) + b, the mean over height and width; probabilities = softmax(logits).

The classifier returns what Ultralytics expects of a classification head. Ultralytics' own `Classify` has a convolution
to 1280 channels before the pooling, which would add 2.6 million weights to a ResNet-50.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Classifier(nn.Sequential):
    """Average pooling over the map, dropout (off unless a trainer sets its rate), one linear layer.

    Shapes: (N, in_channels, H, W) -> logits (N, classes) in training mode; in evaluation mode the pair
    (probabilities, logits), and the probabilities alone in a trace or where `export` is set.
    Parameters: in_channels * classes + classes.
    """

    export = False

    def __init__(self, in_channels: int, classes: int) -> None:
        # Ultralytics replaces the last layer for another number of classes. It finds the layer because this is a
        # Sequential that holds a plain Linear.
        layers = [
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),
            ("drop", nn.Dropout(0.0)),
            ("linear", nn.Linear(in_channels, classes)),
        ]
        super().__init__(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, in_channels, H, W) to logits, probabilities or both, depending on the mode; see the class."""
        logits = super().forward(x)  # (N, classes)
        if self.training:
            return logits
        probabilities = logits.softmax(1)
        return probabilities if self.export or torch.jit.is_tracing() else (probabilities, logits)
