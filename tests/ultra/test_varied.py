"""The networks that other tests convert depend on all of their layers; otherwise a wrong conversion would pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from varied import image, output, varied

torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["yolov5n.yaml", "yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml", "yolov5-spd-n"])
def test_varied__every_convolution_counts(name):
    """Scaling any convolution by 1.1 moves boxes by 0.01 pixels or scores by 1e-4; rounding moves them less."""
    model, x = varied(name), image(96, 64, torch.float64)
    single = output(model, x.float())
    expected = output(model.double(), x)
    rounding = (single - expected).abs()
    assert rounding[:, :4].max() < 1e-3 and rounding[:, 4:].max() < 1e-5
    for title, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d) and conv.weight.requires_grad and "one2one" not in title:
            kept = conv.weight.detach().clone()
            conv.weight.data.mul_(1.1)
            moved = (output(model, x) - expected).abs()
            conv.weight.data.copy_(kept)
            assert moved[:, :4].max() > 1e-2 or moved[:, 4:].max() > 1e-4, title


def test_varied__images_differ():
    """Detections depend on the image: boxes of two noise images differ by tenths of a pixel or more."""
    first, second = output(varied("yolov5n.yaml"), image(96, 64))
    assert (first - second)[:4].std() > 0.2 and (first - second)[4:].std() > 0.002
