"""The cost that Ultralytics reports for a network: our count where our blocks are, its own everywhere else."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, torch_utils

from pixelkeep.blocks import SpaceToDepth
from pixelkeep.ultra.costs import catalogue


def test_info__of_our_models_is_the_count_of_the_catalogue(monkeypatch, caplog):
    """``info`` of our models gives the catalogue's GFLOPs, also where a Focus reads the image and once it is folded."""
    (entry,) = catalogue.entries(["yolov5-spd-n"])
    model = YOLO("yolov5-spd-n.yaml", verbose=False)
    caplog.set_level("INFO", LOGGER.name)
    monkeypatch.setattr(LOGGER, "propagate", True)
    assert model.info()[3] == pytest.approx(entry.gflops, rel=1e-6)
    assert f"{entry.gflops:.1f} GFLOPs" in caplog.text
    assert model.info(imgsz=[320, 640])[3] == pytest.approx(entry.gflops / 2, rel=1e-6)
    model.fuse()
    assert model.info()[3] == pytest.approx(entry.gflops, rel=0.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_count__by_hand(channels):
    """A rearrangement with a convolution counts two for each multiply-add, from the image's own channels."""
    network = nn.Sequential(SpaceToDepth(), nn.Conv2d(4 * channels, 8, 3, padding=1, bias=False))
    network.yaml = {"channels": channels}
    assert torch_utils.get_flops(network, 64) == 2 * 32 * 32 * (4 * channels * 9) * 8 / 1e9


def test_count__of_several_channels():
    """A network for images of one channel is counted at one channel."""
    definition = deepcopy(YOLO("yolov5-spd-n.yaml", verbose=False).model.yaml)
    grey, colour = (DetectionModel(deepcopy(definition), ch=ch, verbose=False) for ch in (1, 3))
    first = 2 * 320 * 320 * (4 * 2 * 9) * 16 / 1e9  # the cost of two more channels in the 3x3 convolution of the Focus
    found = [torch_utils.get_flops(network, 640) for network in (grey, colour)]
    assert next(colour.parameters()).shape == (16, 12, 3, 3)
    assert found[1] - found[0] == pytest.approx(first)


def test_stock__as_it_was():
    """A network without our blocks is counted by Ultralytics; one that cannot run has no figure and no error."""
    network = YOLO("yolov5-n.yaml", verbose=False).model
    assert torch_utils.get_flops(network, 320) == torch_utils.get_flops.__wrapped__(network, 320) > 0

    class Broken(nn.Module):
        def forward(self, x):
            raise TypeError("not for anybody")

    assert torch_utils.get_flops(nn.Sequential(SpaceToDepth(), nn.Conv2d(12, 4, 1), Broken()), 64) == 0.0
    assert torch.is_grad_enabled()
