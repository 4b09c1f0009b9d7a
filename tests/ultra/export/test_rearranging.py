"""SpaceToDepth as a convolution gives the same values, and ncnn computes them."""

from __future__ import annotations

import exports
import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import ClassificationModel
from varied import varied, write

from pixelkeep.blocks import SpaceToDepth, space_to_depth
from pixelkeep.ultra.export import rearranging
from pixelkeep.ultra.export.exporting import Request, export

torch.set_num_threads(1)
SIDE = 64


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_convolution__is_space_to_depth(channels):
    x = torch.rand(2, channels, 6, 10)
    assert torch.equal(rearranging.convolution(channels)(x), space_to_depth(x))


@pytest.mark.parametrize("name", ["yolov5-spd-n", "yolov5-spdconv-n", "yolov5-slicesamp-n"])
def test_network__computes_the_same(name):
    """Both SpaceToDepth rows of their own and those inside blocks are replaced without changing the output."""
    network = varied(name, exports.NAMES).eval()
    x = torch.rand(1, 3, SIDE, 2 * SIDE)
    with torch.no_grad():
        expected = network(x)[0]
        rearranging.as_convolutions(network, [SIDE, 2 * SIDE])
        assert not [m for m in network.modules() if isinstance(m, SpaceToDepth)]
        torch.testing.assert_close(network(x)[0], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18-spd-cls", "resnet50-spd-cls"])
def test_classifier__rearranges_by_convolutions_alone(name):
    """Slices inside residual blocks are replaced too, so ncnn gets none; values change by rounding alone."""
    network = ClassificationModel(f"{name}.yaml", nc=5, verbose=False).eval().fuse(verbose=False).requires_grad_(False)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1), m.running_var.uniform_(0.5, 1.2)
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = network(x)[0]
        rearranging.as_convolutions(network, [SIDE, SIDE])
        torch.testing.assert_close(network(x)[0], expected, rtol=1e-5, atol=1e-6)
        graph = torch.jit.trace(network, x, check_trace=False, strict=False).inlined_graph
        slices = [node for node in graph.nodes() if node.kind() in ("aten::slice", "aten::cat")]
    assert not slices and expected.std() > 1e-4


def test_ncnn__runs_what_slices(tmp_path, monkeypatch):
    """A network that downsamples by slices runs in ncnn, whose converter drops their steps: maps would stay large."""
    pytest.importorskip("ncnn"), pytest.importorskip("pnnx")
    exports.briefly(monkeypatch)
    model = varied("yolov5-slicesamp-n", exports.NAMES)
    model.task = "detect"
    found = export(Request(weights=str(write(model, tmp_path / "best.pt")), format="ncnn", imgsz=SIDE))
    assert found.parity.boxes_max < 1e-2
