"""Least-squares fits for layers that have no exact conversion.

`ridge` finds the linear map that brings the input of one layer nearest to the output of another; `separable` finds the
depthwise and pointwise kernels nearest to a full kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(inputs: Tensor, outputs: Tensor, strength: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Fit ``outputs`` = inputs @ weight.T + bias by least squares with a penalty on the weight.

    Formula: weight.T = (X^T X + lambda * I)^-1 X^T Y for centred X and Y, with lambda = strength * the mean of the
    diagonal of X^T X. The bias makes up for the means and is not penalised.

    Args:
        inputs: Inputs of the layer, (n, features).
        outputs: Outputs to fit, (n, targets).
        strength: How strongly the weight is drawn to zero, relative to the inputs' mean square; above 0.

    Returns:
        The weight (targets, features) and the bias (targets,), in double precision.

    Raises:
        ValueError: Inputs and outputs differ in length or have no row, or ``strength`` is not above 0.
    """
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(f"give as many inputs as outputs, and at least one; got {len(inputs)}, {len(outputs)}")
    if strength <= 0:
        raise ValueError(f"strength must be above 0, got {strength}")
    x, y = inputs.double(), outputs.double()
    centre_x, centre_y = x.mean(0), y.mean(0)
    x, y = x - centre_x, y - centre_y
    square = x.T @ x  # (features, features)
    penalty = strength * square.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    square.diagonal().add_(penalty)
    weight = torch.linalg.solve(square, x.T @ y).T  # (targets, features)
    return weight, centre_y - weight @ centre_x


def separable(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the depthwise and pointwise kernels whose product is nearest to a full kernel.

    Formula: for each input channel c, the best rank-one approximation of weight[:, c] as a matrix (outputs, k * k), by
    its singular value decomposition. The depthwise kernels have norm 1 and a sum of 0 or more.

    Args:
        weight: Weight of the full convolution, (O, C, k, k).

    Returns:
        The depthwise kernels (C, 1, k, k) and the pointwise kernels (O, C, 1, 1): weight[o, c] is about
        pointwise[o, c] * depthwise[c].
    """
    out_channels, channels, k, _ = weight.shape
    matrices = weight.permute(1, 0, 2, 3).reshape(channels, out_channels, k * k)  # (C, O, k * k)
    u, s, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    sign = torch.where(v[:, :1].sum(-1, keepdim=True) < 0, -1.0, 1.0)  # (C, 1, 1)
    depthwise = (v[:, :1] * sign).reshape(channels, 1, k, k)
    pointwise = (u[:, :, :1] * s[:, :1, None] * sign).reshape(channels, out_channels).T  # (O, C)
    return depthwise.to(weight), pointwise.reshape(out_channels, channels, 1, 1).to(weight)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of ``found`` - ``wanted`` divided by the norm of ``wanted``; 0 where both are zero."""
    difference, norm = (found.double() - wanted.double()).norm(), wanted.double().norm()
    return float(difference / norm.clamp_min(torch.finfo(torch.float64).tiny))
