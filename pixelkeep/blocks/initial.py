"""Layers whose initial values differ from PyTorch's, and keep these values when a trainer resets the layers.

A network that sets initial values after building its layers loses them when a trainer calls ``reset_parameters`` on
every layer (Ultralytics' classification trainer does so for a network that is trained from scratch). The layers here
therefore set their initial values themselves.
"""

from __future__ import annotations

from torch import nn


class ZeroConv2d(nn.Conv2d):
    """A convolution whose weights and bias start at zero.

    Shapes, arguments, parameters and errors: those of `torch.nn.Conv2d`.
    """

    def reset_parameters(self) -> None:
        """Set all weights, and the bias if there is one, to zero."""
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)


class FanOutConv2d(nn.Conv2d):
    """A convolution whose weights start normally distributed with variance 2 / (output channels * kernel area).

    Shapes, arguments, parameters and errors: those of `torch.nn.Conv2d`.
    Source: He et al., ICCV 2015, arXiv:1502.01852, its backward case ("fan out"), for a ReLU.
    """

    def reset_parameters(self) -> None:
        """Redraw the weights and set the bias, if there is one, to zero."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ZeroBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm whose scale starts at zero, so that a residual branch that ends in it starts by adding nothing.

    Shapes, arguments, parameters and errors: those of `torch.nn.BatchNorm2d`.
    """

    def reset_parameters(self) -> None:
        """Reset the statistics, and set scale and shift to zero."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)
