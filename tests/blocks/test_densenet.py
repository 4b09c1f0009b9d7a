"""Proves that the DenseNets are the published ones: torchvision's outputs, official counts and definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import copy_in_order, count, densenet, fill
from torch import nn

from pixelkeep.blocks import DenseBlock, DenseTransition, SimplifiedLIP

torch.set_num_threads(1)


def test_plain__equals_torchvision():
    """With torchvision's weights copied in order, the logits equal torchvision's."""
    theirs, ours = fill(torchvision.models.densenet121()), densenet("average", nn.MaxPool2d(3, 2, 1)).eval()
    copy_in_order(theirs, ours)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x)[1], expected)
    assert expected.std() > 0.1


def test_networks__published_counts():
    """The parameter counts are those of the official networks, counted from their code."""
    with torch.device("meta"):
        assert count(densenet("average", nn.MaxPool2d(3, 2, 1))) == 7_978_856
        assert count(densenet("lip", SimplifiedLIP(64))) == 8_690_920


@pytest.mark.parametrize("size", [(6, 4), (7, 5), (1, 1)])
def test_transition__new_lip_is_average_pooling(size):
    """A reset transition with LIP equals one with average pooling, for odd sizes too."""
    average, lip = DenseTransition(8, 4), DenseTransition(8, 4, "lip")
    for module in lip.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    lip.conv.load_state_dict(average.conv.state_dict())
    x = torch.randn(2, 8, *size, generator=torch.Generator().manual_seed(0))
    y = average.eval()(x)
    assert y.shape == (2, 4, -(-size[0] // 2), -(-size[1] // 2))
    torch.testing.assert_close(lip.eval()(x), y)
    cells = F.conv2d(x.clamp(min=0) / (1 + 1e-5) ** 0.5, average.conv.weight)
    torch.testing.assert_close(y[:, :, 0, 0], cells[:, :, :2, :2].mean((2, 3)))


@pytest.mark.parametrize(("channels", "layers"), [(16, 3), (8, 1), (4, 2), (16, 0), (16, 2.0)])
def test_dense_block__uneven_growth_is_refused(channels, layers):
    """Output channels that the layers cannot add in equal shares are refused with both numbers."""
    with pytest.raises(ValueError, match=rf"DenseBlock: {layers!r} layers cannot add {channels - 8} channels"):
        DenseBlock(8, channels, layers)


def test_transition__unknown_pooling_is_refused():
    """An unknown pooling is refused with the names of the known ones."""
    with pytest.raises(ValueError, match="pool must be one of average, lip, got 'max'"):
        DenseTransition(8, 4, "max")
