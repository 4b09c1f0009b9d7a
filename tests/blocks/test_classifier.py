"""Proves that the pooled linear head keeps the contract of Ultralytics' classification head."""

from __future__ import annotations

import torch
from torch import nn

from pixelkeep.blocks import Classifier

torch.set_num_threads(1)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_modes__what_each_returns():
    """Training returns logits, evaluation the pair (probabilities, logits), exports and traces the probabilities."""
    head, x = Classifier(8, 3), image(2, 8, 5, 4)
    logits = x.mean((2, 3)) @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head.train()(x), logits)
    probabilities, same = head.eval()(x)
    torch.testing.assert_close(same, logits)
    torch.testing.assert_close(probabilities, torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True))
    assert isinstance(torch.jit.trace(head, x)(x), torch.Tensor)
    head.export = True
    assert torch.equal(head(x), probabilities)


def test_dropout__is_found_and_has_an_effect():
    """The rate that a trainer sets on Dropout layers drops pooled channels, in training only."""
    head, x = Classifier(64, 3), image(2, 64, 2, 2)
    expected = head.train()(x)
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    assert not torch.allclose(head(x), expected)
    torch.testing.assert_close(head.eval()(x)[1], expected)
