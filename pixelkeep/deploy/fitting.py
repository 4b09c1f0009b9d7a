"""Least-squares fits for layers that have no exact conversion.

`ridge` finds the linear map that brings a layer's input nearest to what another layer puts out; `separable` finds the
depthwise and pointwise kernels nearest to a full one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(inputs: Tensor, outputs: Tensor, strength: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Fit ``outputs`` = inputs @ weight.T + bias by least squares with a penalty on the weight.

    Formula: weight.T = (X^T X + lambda * I)^-1 X^T Y for centred X and Y, lambda = strength * the mean of the
    diagonal of X^T X; the bias makes up for the means and is not penalised.

    Args:
        inputs: (n, features).
        outputs: (n, targets).
        strength: How much the weight is drawn to zero, relative to the inputs' mean square; above 0.

    Returns:
        The weight (targets, features) and the bias (targets,), in double precision.

    Raises:
        ValueError: The two differ in length, there is no row, or ``strength`` is not above 0.
    """
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(f"as many inputs as outputs are needed, and one at least; got {len(inputs)}, {len(outputs)}")
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

    Formula: for each input channel the best rank-one form of weight[:, c] as (outputs, k * k), by its singular value
    decomposition. The depthwise kernels have norm 1 and a sum of 0 or more.

    Args:
        weight: (O, C, k, k).

    Returns:
        depthwise (C, 1, k, k) and pointwise (O, C, 1, 1): weight[o, c] is about pointwise[o, c] * depthwise[c].
    """
    out_channels, channels, k, _ = weight.shape
    matrices = weight.permute(1, 0, 2, 3).reshape(channels, out_channels, k * k)  # (C, O, k * k)
    u, s, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    sign = torch.where(v[:, :1].sum(-1, keepdim=True) < 0, -1.0, 1.0)  # (C, 1, 1)
    depthwise = (v[:, :1] * sign).reshape(channels, 1, k, k)
    pointwise = (u[:, :, :1] * s[:, :1, None] * sign).reshape(channels, out_channels).T  # (O, C)
    return depthwise.to(weight), pointwise.reshape(out_channels, channels, 1, 1).to(weight)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference by that of ``wanted``; 0 where both are zero."""
    difference, norm = (found.double() - wanted.double()).norm(), wanted.double().norm()
    return float(difference / norm.clamp_min(torch.finfo(torch.float64).tiny))
