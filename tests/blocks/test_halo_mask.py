"""The gate of a selective stage: how it grows, what its losses compare, and that evaluation keeps training's share."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelkeep.blocks import HaloMask

torch.set_num_threads(1)


def gate(halo: int, target: float = 0.1, bias: float | None = None) -> HaloMask:
    torch.manual_seed(0)
    made = HaloMask(3, target, halo)
    if bias is not None:
        torch.nn.init.constant_(made.estimator[-1].bias, bias)
    return made.train()


def image(number: int = 2, side: int = 48) -> Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(2))


def dilated(core: Tensor, halo: int) -> Tensor:
    """Return the dilated mask, written out as loops."""
    grown = torch.zeros_like(core)
    for n, _, y, x in core.nonzero().tolist():
        grown[n, 0, max(0, y - halo) : y + halo + 1, max(0, x - halo) : x + halo + 1] = 1
    return grown


@pytest.mark.parametrize("halo", [0, 1, 2])
def test_halo_mask__grows(halo):
    """With a halo the same draw is dilated, and loss and fraction are those of the grown mask."""
    masks = {}
    for reach in (0, halo):
        made = gate(reach, bias=-3.0)
        torch.manual_seed(1)
        masks[reach] = made(image()).detach()
    expected = dilated(masks[0], halo)
    assert 0 < masks[0].mean() < 0.2 and torch.equal(masks[halo], expected)
    assert made.fraction == pytest.approx(expected.mean().item())
    off = abs(expected.mean().item() / 0.1 - 1)
    assert made.auxiliary_loss().item() == pytest.approx(off**2 / 2 if off < 1 else off - 0.5, rel=1e-5)
    assert made.auxiliary_loss().requires_grad


@pytest.mark.parametrize("halo", [0, 1, 2])
def test_halo_mask__evaluation_grows_what_is_above_the_threshold(halo):
    made, x = gate(halo).eval(), image()
    logits = made.estimator(x).detach()
    made.threshold.copy_(logits.quantile(0.95))
    assert torch.equal(made(x), dilated((logits > made.threshold).float(), halo))
    assert made.auxiliary_loss() is None
    assert torch.equal(made(x[1:]), made(x)[1:])


@pytest.mark.parametrize("halo", [0, 1, 2])
@pytest.mark.parametrize("target", [0.05, 0.3])
def test_halo_mask__training_begins_at_the_target(target, halo):
    """Training begins at the target with any halo: the logits hardly vary yet, so all cells have the same rate."""
    made = gate(halo, target)
    torch.nn.init.zeros_(made.estimator[-1].weight)
    assert made(image(16, 128)).mean().item() == pytest.approx(target, rel=0.1)


@pytest.mark.parametrize("halo", [0, 1])
def test_halo_mask__evaluation_has_the_share_of_training(halo):
    """Evaluation keeps a share as low as the default, although by the logits' sign no cell would be active."""
    made, x = gate(halo, 0.05), image(4, 128)
    with torch.no_grad():
        shares = [made(x).mean().item() for _ in range(60)]
    assert not (made.logits > 0).any()
    assert made.eval()(x).mean().item() == pytest.approx(sum(shares[30:]) / 30, rel=0.15)


def test_halo_mask__target_loss_draws_the_share_to_its_target():
    """The target loss alone moves the share from nearly all cells to the target."""
    made, x = gate(1, bias=0.0), torch.randn(2, 3, 32, 32)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    shares = []
    for _ in range(80):
        made(x)
        shares.append(made.fraction)
        optimizer.zero_grad()
        made.auxiliary_loss().backward()
        optimizer.step()
    assert shares[0] > 0.9 and sum(shares[-10:]) / 10 < 0.2


def test_halo_mask__boxes_are_compared_with_cells_before_they_grow():
    """The box loss uses the ungrown cell of a small box, row 1 and column 2 of 4x4, and ignores a larger box."""
    made = gate(1)
    made(image(1, 8))
    boxes = torch.tensor([[2.5 / 4, 1.5 / 4, 0.2, 0.2], [0.5, 0.5, 0.5, 0.6]])
    loss = made.loss_from_boxes(boxes, torch.zeros(2), (64, 64))  # 12.8 pixels, and 38.4
    assert loss.item() == pytest.approx(0.5 * F.softplus(-made.logits[0, 0, 1, 2]).item())
    loss.backward()
    assert made.estimator[-1].bias.grad.item() < 0


@pytest.mark.parametrize("halo", [-1, 0.5, True])
def test_halo_mask__refuses(halo):
    with pytest.raises(ValueError, match="halo must be an integer of at least 0"):
        HaloMask(3, 0.1, halo)
