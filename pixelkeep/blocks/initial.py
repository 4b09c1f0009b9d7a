"""Layers whose first values are other than PyTorch's, and stay so when a trainer resets its layers.

A network that sets initial values after it has built its layers loses them where a trainer calls every
``reset_parameters`` (Ultralytics' classification trainer does so for a network that is trained from scratch).
So the value belongs to the layer.
"""

from __future__ import annotations

from torch import nn


class ZeroConv2d(nn.Conv2d):
    """A convolution that starts at zero.

    Shapes, arguments, parameters and errors: those of `torch.nn.Conv2d`.
    """

    def reset_parameters(self) -> None:
        """Set all weights, and the bias if there is one, to zero."""
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)


class FanOutConv2d(nn.Conv2d):
    """A convolution that starts normally distributed with variance 2 / (output channels * kernel area).

    Shapes, arguments, parameters and errors: those of `torch.nn.Conv2d`.
    Source: He et al., ICCV 2015, arXiv:1502.01852, its backward case ("fan out"), for a ReLU.
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew and set the bias, if there is one, to zero."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ZeroBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm whose scale starts at zero, so that a residual branch which ends in it starts as nothing.

    Shapes, arguments, parameters and errors: those of `torch.nn.BatchNorm2d`.
    """

    def reset_parameters(self) -> None:
        """Reset the statistics, and set scale and shift to zero."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)
