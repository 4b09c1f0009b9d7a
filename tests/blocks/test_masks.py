"""Edge masks and learned masks: which cells fire, what is exact, what has a gradient, and how bad arguments fail."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import Tensor

from pixelkeep.blocks import EdgeMask, LearnedMask, ObjectMask
from pixelkeep.blocks.masks import straight_through
from pixelkeep.blocks.object_mask import covered


def step(low: float, high: float, axis: int) -> Tensor:
    """Return a 32x32 image that steps from low to high at pixel 16 along the given axis."""
    image = torch.full((1, 3, 32, 32), low)
    image.narrow(axis, 16, 16).fill_(high)
    return image


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_edge_mask__step_up_fires_and_step_down_only_unsigned(axis: int, signed: bool):
    mask = EdgeMask(1, threshold=0.5, dilation=1, signed=signed)
    expected = torch.zeros(1, 1, 32, 32)
    expected.narrow(axis, 15, 2).fill_(1)  # the central difference at 15 and 16 spans the step
    assert torch.equal(mask(step(0.0, 1.0, axis)), expected)
    assert torch.equal(mask(step(1.0, 0.0, axis)), torch.zeros_like(expected) if signed else expected)


def test_edge_mask__bright_borders_are_no_edges():
    assert EdgeMask(1, threshold=0.01)(torch.ones(2, 3, 20, 24)).sum() == 0


def test_edge_mask__threshold_is_inclusive_and_in_grey_values():
    image = torch.zeros(1, 3, 8, 8)
    image[:, 1, :, 4:] = 1.0  # green alone: grey 0.587
    assert EdgeMask(1, threshold=0.587, dilation=1)(image).sum() == 16
    assert EdgeMask(1, threshold=0.588, dilation=1)(image).sum() == 0
    assert EdgeMask(1, threshold=0.33, dilation=1)(torch.cat([image[:, 1:2], image[:, :2] * 0], 1)[:, :2]).sum() == 16


@pytest.mark.parametrize("dilation", [1, 3, 11])
def test_edge_mask__dilation_grows_a_square(dilation: int):
    image = torch.zeros(1, 1, 41, 41)
    image[..., 20, 20] = 1.0
    cross = torch.zeros(1, 1, 41, 41)
    for row, column in ((19, 20), (21, 20), (20, 19), (20, 21)):
        cross[..., row, column] = 1
    grown = torch.zeros_like(cross)
    reach = dilation // 2
    for _, _, row, column in cross.nonzero().tolist():
        grown[..., row - reach : row + reach + 1, column - reach : column + reach + 1] = 1
    assert torch.equal(EdgeMask(1, 0.5, dilation)(image), grown)


def test_edge_mask__a_cell_is_active_if_any_pixel_is():
    image = torch.zeros(1, 1, 21, 18)
    image[..., 20:, 17:] = 1.0  # the last pixel, in a cell that the map cuts off
    mask = EdgeMask(8, 0.5, 1)(image)
    assert mask.shape == (1, 1, 3, 3)
    assert mask.nonzero().tolist() == [[0, 0, 2, 2]]


def test_straight_through__hard_exactly_and_with_the_gradient_of_a_sigmoid():
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 64, 64, requires_grad=True)
    torch.manual_seed(1)
    mask = straight_through(logits)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    mask.sum().backward()
    torch.manual_seed(1)
    noise = torch.logit(torch.rand_like(logits).clamp(1e-6, 1 - 1e-6))
    soft = torch.sigmoid(logits.detach() + noise)
    assert torch.allclose(logits.grad, soft * (1 - soft), atol=1e-6)
    assert torch.equal(mask.detach(), (soft > 0.5).float())


@pytest.mark.parametrize("logit", [-2.0, 0.0, 1.0])
def test_straight_through__frequency_is_the_probability_of_a_two_way_gumbel_softmax(logit: float):
    torch.manual_seed(0)
    drawn = straight_through(torch.full((200_000,), logit)).mean().item()
    gumbel = -torch.log(-torch.log(torch.rand(200_000, 2)))
    two_way = ((gumbel[:, 0] + logit) > gumbel[:, 1]).float().mean().item()
    expected = 1 / (1 + math.exp(-logit))
    deviation = math.sqrt(expected * (1 - expected) / 200_000)
    assert abs(drawn - expected) < 4 * deviation
    assert abs(two_way - expected) < 4 * deviation


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(16, 24), (13, 9), (1, 1)])
def test_learned_mask__cells_cover_the_map(stride: int, size: tuple[int, int]):
    mask = LearnedMask(3, 0.5, stride)(torch.randn(2, 3, *size))
    assert mask.shape == (2, 1, -(-size[0] // stride), -(-size[1] // stride))


def test_learned_mask__loss_is_of_the_mask_in_use_and_zero_at_the_target():
    torch.manual_seed(0)
    learned = LearnedMask(4, 0.25)
    mask = learned(torch.randn(2, 4, 16, 16))
    assert learned.auxiliary_loss().item() == pytest.approx((mask.mean().item() - 0.25) ** 2, abs=1e-7)
    assert learned.fraction == pytest.approx(mask.mean().item())
    learned.target_fraction = mask.mean().item()
    torch.manual_seed(0)
    LearnedMask(4, 0.25)
    learned.zero_grad()
    torch.manual_seed(3)
    mask = learned(torch.zeros(2, 4, 16, 16))
    learned.target_fraction = mask.mean().item()
    torch.manual_seed(3)
    learned(torch.zeros(2, 4, 16, 16))
    assert learned.auxiliary_loss().item() == pytest.approx(0, abs=1e-12)


def test_learned_mask__gradients_reach_the_estimator_from_the_loss_and_from_the_mask():
    torch.manual_seed(0)
    for use in (lambda m, x: m(x).sum(), lambda m, x: (m(x), m.auxiliary_loss())[1]):
        learned = LearnedMask(4, 0.25, 4)
        use(learned, torch.randn(2, 4, 32, 32)).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned.parameters())


def test_learned_mask__deterministic_in_evaluation_unless_asked_to_sample():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 64, 64)
    learned = LearnedMask(4, 0.5).eval()
    assert torch.equal(learned(x), learned(x))
    assert learned.auxiliary_loss() is None
    sampling = LearnedMask(4, 0.5, sample_at_inference=True).eval()
    assert not torch.equal(sampling(x), sampling(x))


def test_learned_mask__fraction_in_evaluation_is_that_of_training_though_the_estimator_is_unsure():
    torch.manual_seed(0)
    learned = LearnedMask(4, 0.2).train()
    x = torch.randn(4, 4, 64, 64)
    fractions = [learned(x).mean().item() for _ in range(60)]
    assert (learned.logits.detach() > 0).float().mean() < 0.02  # by the logits' sign almost nothing would be active
    assert learned.eval()(x).mean().item() == pytest.approx(sum(fractions[30:]) / 30, abs=0.02)


def test_learned_mask__scale_and_shift_of_a_channel_change_nothing():
    """Scale and shift, in which BatchNorm's training and evaluation differ, do not matter: one threshold suffices."""
    torch.manual_seed(0)
    learned = LearnedMask(4, 0.3, 4).eval()
    x = torch.randn(2, 4, 64, 64)
    learned.threshold.copy_(learned.estimator(x).detach().quantile(0.7))
    scale, shift = torch.tensor([0.2, 1.0, 5.0, 20.0]).view(4, 1, 1), torch.tensor([3.0, 0, -1, 7]).view(4, 1, 1)
    assert 0.2 < learned(x).mean() < 0.4
    assert (learned(x * scale + shift) != learned(x)).float().mean() < 0.01


@pytest.mark.parametrize("target", [0.02, 0.25])
def test_object_mask__target_loss_is_relative_to_the_target(target: float):
    torch.manual_seed(0)
    mask = ObjectMask(3, target, 4).train()
    drawn = mask(torch.randn(4, 3, 64, 64)).mean().item()
    off = abs(drawn / target - 1)
    assert mask.auxiliary_loss().item() == pytest.approx(off**2 / 2 if off < 1 else off - 0.5, rel=1e-5)


def test_learned_mask__records_are_neither_copied_nor_saved():
    learned = LearnedMask(4, 0.25)
    learned(torch.randn(1, 4, 8, 8))
    twin = copy.deepcopy(learned)
    assert (twin.fraction, twin.auxiliary_loss(), twin.logits) == (None, None, None)
    torch.save(learned, io.BytesIO())
    assert learned.fraction is not None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LearnedMask(4, 0), "target_fraction must lie between 0 and 1"),
        (lambda: LearnedMask(4, 1.0), "target_fraction must lie between 0 and 1"),
        (lambda: LearnedMask(4, float("nan")), "target_fraction must lie between 0 and 1"),
        (lambda: LearnedMask(4, "a quarter"), "target_fraction must lie between 0 and 1"),
        (lambda: LearnedMask(4, 0.5, 3), "stride must be a power of two"),
        (lambda: LearnedMask(4, 0.5, 2, 0), "hidden_channels must be"),
        (lambda: EdgeMask(8, 0), "threshold must be above 0"),
        (lambda: EdgeMask(8, 0.1, 4), "dilation must be a positive odd"),
        (lambda: EdgeMask(0), "stride must be a positive integer"),
        (lambda: ObjectMask(4, 0.5, largest=0), "largest must be above 0"),
    ],
)
def test_masks__bad_arguments_are_named(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_covered__cells_that_a_box_touches():
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.25], [0.125, 0.125, 0.25, 0.25], [1.0, 1.0, 0.02, 0.02]])
    held = covered(boxes, 4, 4)
    middle = torch.zeros(4, 4, dtype=torch.bool)
    middle[1:3, 1:3] = True  # rows 0.375 to 0.625, columns 0.25 to 0.75
    first = torch.zeros(4, 4, dtype=torch.bool)
    first[0, 0] = True  # the box ends where the next cell begins
    last = torch.zeros(4, 4, dtype=torch.bool)
    last[3, 3] = True
    assert torch.equal(held, torch.stack([middle, first, last]))


def test_object_mask__loss_from_boxes_by_hand():
    mask = ObjectMask(3, 0.25, 4, largest=32, gain=2.0).train()
    mask(torch.zeros(2, 3, 16, 16))  # a grid of 4x4 cells over a 128x64 image
    mask.logits = torch.arange(32.0).view(2, 1, 4, 4) / 10
    boxes = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.9, 0.4, 0.1, 0.1], [0.5, 0.5, 0.9, 0.1], [0.12, 0.1, 0.1, 0.1]])
    image = torch.tensor([0.0, 1.0, 1.0, 0.0])
    loss = mask.loss_from_boxes(boxes, image, (128, 64))  # third box: 57.6 wide, too large; fourth: same cell
    expected = [math.log1p(math.exp(-value)) for value in (0.0, (16 + 7) / 10)]
    assert loss.item() == pytest.approx(2.0 * sum(expected) / 2, rel=1e-6)
    assert mask.loss_from_boxes(boxes[:0], image[:0], (128, 64)).item() == 0
    assert ObjectMask(3).eval().loss_from_boxes(boxes, image, (128, 64)) is None
