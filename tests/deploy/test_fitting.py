"""Proves the fits on known maps: a linear map and a separable kernel are both recovered."""

from __future__ import annotations

import pytest
import torch

from pixelkeep.deploy import relative_error, ridge, separable


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ridge__finds_a_linear_map():
    """With almost no penalty, map and bias are recovered, whatever the means of inputs and outputs."""
    weight, bias, x = normal(3, 5), normal(3, seed=1), normal(200, 5, seed=2) + 7
    found, offset = ridge(x, x @ weight.T + bias, strength=1e-12)
    torch.testing.assert_close(found, weight, rtol=0, atol=1e-8)
    torch.testing.assert_close(offset, bias, rtol=0, atol=1e-7)


def test_ridge__one_feature_in_closed_form():
    """For one feature the weight is covariance / (variance + strength * variance), and the bias keeps the means."""
    x, y = normal(50, 1), normal(50, 1, seed=1)
    found, offset = ridge(x, y, strength=0.5)
    cx, cy = x - x.mean(), y - y.mean()
    torch.testing.assert_close(found, (cx * cy).sum()[None, None] / (1.5 * (cx * cx).sum()))
    torch.testing.assert_close(offset, y.mean(0) - found[0] * x.mean(0))


def test_ridge__fewer_rows_than_features():
    """The penalty gives one solution where least squares has many, and features that are zero get zero weights."""
    x = torch.cat((normal(4, 6), torch.zeros(4, 2, dtype=torch.float64)), 1)
    found, _ = ridge(x, normal(4, 2, seed=1))
    assert torch.isfinite(found).all() and found[:, 6:].abs().max() == 0


@pytest.mark.parametrize(("rows", "strength", "words"), [(0, 1e-3, "at least one"), (3, 0.0, "above 0")])
def test_ridge__refuses(rows, strength, words):
    """Empty data and a penalty of zero are refused."""
    with pytest.raises(ValueError, match=words):
        ridge(normal(rows, 2), normal(rows, 2), strength)


def test_separable__finds_a_separable_kernel():
    """A separable kernel is recovered exactly; the depthwise part has norm 1 and no negative sum."""
    depthwise, pointwise = normal(4, 1, 3, 3), normal(6, 4, 1, 1, seed=1)
    full = pointwise * depthwise.transpose(0, 1)  # (6, 4, 3, 3)
    d, p = separable(full)
    torch.testing.assert_close(p * d.transpose(0, 1), full, rtol=0, atol=1e-12)
    torch.testing.assert_close(d.flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert (d.flatten(1).sum(1) >= 0).all()


def test_separable__nearest_in_norm():
    """For a random kernel the squared error is that of all singular values after the first (Eckart and Young)."""
    full = normal(6, 4, 3, 3)
    d, p = separable(full)
    rest = [torch.linalg.svdvals(full[:, c].reshape(6, 9))[1:].square().sum() for c in range(4)]
    torch.testing.assert_close((full - p * d.transpose(0, 1)).square().sum(), torch.stack(rest).sum())


def test_relative_error__by_hand():
    """The relative error is the norm of the difference divided by the norm of the target."""
    assert relative_error(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.8)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
