"""The parser: registered blocks get exactly the channels, repeats, activation and places that stock blocks would."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

import pixelkeep
from pixelkeep import blocks
from pixelkeep.errors import ModelError, OptionError
from pixelkeep.ultra.network.registry import REGISTRY

MODELS = Path(ultralytics.__file__).parent / "cfg" / "models"
STOCK = sorted(p for p in MODELS.rglob("*.yaml"))
parse_stock = tasks.parse_model.__wrapped__


class Alias(nn.Module):
    """Ultralytics' Conv under a name that only the registry knows."""

    def __init__(self, in_channels, out_channels, *args, activation=None):
        super().__init__()
        inner = Conv(in_channels, out_channels, *args)
        self.conv, self.bn, self.act = inner.conv, inner.bn, activation


class Keep(nn.Identity):
    """A block with a channel rule and no constructor argument."""

    def __init__(self):
        super().__init__()


@pytest.fixture(autouse=True)
def _registered():
    pixelkeep.register(Alias)
    pixelkeep.register(Keep, out_channels=lambda c: c)
    yield
    REGISTRY.pop("Alias"), REGISTRY.pop("Keep")


def definitions():
    """Return every bundled YAML at every scale."""
    for path in STOCK:
        d = yaml.safe_load(path.read_text(encoding="utf-8"))
        for row in d["backbone"]:  # a TorchVision row would download its pretrained weights
            row[3] = [None if arg == "DEFAULT" else arg for arg in row[3]]
        for scale in d.get("scales") or [""]:
            yield pytest.param({**d, "scale": scale, "yaml_file": path.name}, id=f"{path.stem}-{scale}")


def build(parse, d):
    with torch.device("meta"):
        return parse(deepcopy(d), 3, False)


def describe(layers, save):
    shapes = {k.replace("Alias", "Conv"): tuple(v.shape) for k, v in layers.state_dict().items()}
    return shapes, save, [(m.i, m.f, m.np) for m in layers]


@pytest.mark.parametrize("d", definitions())
def test_alias__identical_to_stock(d):
    """An alias of Conv has the same shapes, indices, sources, parameter counts and save list as Conv itself."""
    renamed = deepcopy(d)
    for row in renamed["backbone"] + renamed["head"]:
        row[2] = "Alias" if row[2] == "Conv" else row[2]
    stock = build(parse_stock, d)
    ours = build(tasks.parse_model, renamed)
    assert any(isinstance(m, Alias) for m in ours[0].modules()) == any(row[2] == "Conv" for row in _rows(d))
    assert describe(*ours) == describe(*stock)


def test_stock_yaml__bit_identical():
    """A YAML without registered blocks is parsed as in stock: the same seed gives the same weights."""
    d = yaml.safe_load((MODELS / "v5" / "yolov5.yaml").read_text()) | {"scale": "n"}
    torch.manual_seed(0)
    ours = tasks.parse_model(deepcopy(d), 3, False)[0].state_dict()
    torch.manual_seed(0)
    stock = parse_stock(deepcopy(d), 3, False)[0].state_dict()
    assert all(torch.equal(ours[k], stock[k]) for k in stock)


def _rows(d):
    return d["backbone"] + d["head"]


def tiny(*rows, **extra):
    """Return a model of a few rows with width 0.5 and depth 0.5."""
    return {"nc": 2, "depth_multiple": 0.5, "width_multiple": 0.5, "backbone": list(rows), "head": [], **extra}


def forward(d, size=16, ch=3):
    layers, _ = tasks.parse_model(d, ch, False)
    return layers, layers(torch.zeros(1, ch, size, size))


@pytest.mark.parametrize("name", ["SPDConv", "SliceSamp", "SliceUpsamp"])
def test_width__scales_the_declared_channels(name):
    """The first argument is scaled by the model's width, and the predicted channels are the real ones."""
    start = [-1, 1, "Conv", [16, 1, 1]]  # 8 channels at half width
    layers, out = forward(tiny(start, [-1, 1, name, [32]], [-1, 1, "Conv", [8, 1, 1]]))
    assert layers[1].type == f"pixelkeep.blocks.{name}"
    assert layers[2].conv.in_channels == 16 and out.shape[1] == 8


@pytest.mark.parametrize(
    ("name", "factor", "size"), [("SpaceToDepth", 4, 8), ("DepthToSpace", 0.25, 32), ("Keep", 1, 16)]
)
def test_channel_rule__exact_for_odd_widths(name, factor, size):
    """A block with a channel rule follows its input's channels exactly, even where widths are rounded."""
    start = [-1, 1, "Conv", [40, 1, 1]]  # 24 channels at half width: rounded to a multiple of 8
    layers, out = forward(tiny(start, [-1, 1, name, []], [-1, 1, "Conv", [8, 1, 1]]))
    assert layers[2].conv.in_channels == 24 * factor
    assert out.shape[-1] == size


def test_channel_rule__as_first_row():
    """A block with a channel rule may be the first row: its input is the image."""
    layers, out = forward(tiny([-1, 1, "SpaceToDepth", []], [-1, 1, "Conv", [8, 1, 1]]))
    assert layers[1].conv.in_channels == 12 and out.shape == (1, 8, 8, 8)


def test_repeats__scaled_by_depth():
    """Repeats are scaled by the model's depth, and each repeat takes the row's input channels."""
    layers, _ = tasks.parse_model(tiny([-1, 1, "Conv", [16, 1, 1]], [-1, 6, "SPDConv", [16]]), 3, False)
    assert len(layers[1]) == 3
    assert all(m.conv.in_channels == 32 for m in layers[1])


def test_activation__of_the_yaml_reaches_the_block():
    """``activation:`` of the YAML replaces SPDConv's activation for this model only, and SliceSamp keeps its GELU."""
    rows = [-1, 1, "SPDConv", [8]], [-1, 1, "SliceSamp", [8]]
    layers, _ = tasks.parse_model(tiny(*rows, activation="torch.nn.LeakyReLU(0.2)"), 3, False)
    assert isinstance(layers[0].act, nn.LeakyReLU) and layers[0].act.negative_slope == 0.2
    assert not any(isinstance(m, nn.LeakyReLU) for m in layers[1].modules())
    again, _ = tasks.parse_model(tiny(*rows), 3, False)
    assert isinstance(again[0].act, nn.SiLU)


@pytest.mark.parametrize(
    "text", ["nn.SiLU()", " torch.nn.LeakyReLU(negative_slope=0.1) ", "nn.Identity()", "nn.GELU('tanh')"]
)
def test_activation__of_torch_with_plain_arguments(text):
    """Every activation of torch.nn is accepted, with literal arguments."""
    layers, _ = tasks.parse_model(tiny([-1, 1, "Conv", [8, 1, 1]], activation=text), 3, False)
    assert repr(layers[0].act) == repr(eval(text.strip(), {"nn": nn, "torch": torch}))


@pytest.mark.parametrize(
    "text", ["nn.SiLU", "SiLU()", "nn.Linear(2, 2)", "nn.SiLU(inplace=len([]))", "nn.Sequential()", 5, "("]
)
@pytest.mark.parametrize("block", ["Conv", "SPDConv"])
def test_activation__anything_else_is_refused(text, block):
    """Anything but a literal call of an activation is refused before Ultralytics could evaluate it."""
    with pytest.raises(ModelError, match=r"must be an activation of torch\.nn"):
        tasks.parse_model(tiny([-1, 1, block, [8]], activation=text), 3, False)


def test_arguments__resolved_as_stock_does():
    """String arguments are YAML keys or literals, as the stock parser reads them."""
    layers, _ = tasks.parse_model(tiny([-1, 1, "SPDConv", [8, "nc"]], nc=5), 3, False)
    assert layers[0].conv.kernel_size == (5, 5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([-1, 1, "SPDConvv", [8]], r"x\.yaml, row 0 .*unknown block 'SPDConvv'; did you mean 'SPDConv'\?"),
        ([-1, 1, "SPDConv", [8, 2]], r"x\.yaml, row 0 .*SPDConv: .*2"),
        ([-1, 1, "SPDConv", [8, 3, 4, 5]], r"x\.yaml, row 0 .*SPDConv: "),
        ([-1, 1, "SPDConv", 8], r"x\.yaml, row 0 .*a row is \[from, repeats, module, arguments\]"),
        ([-1, 1, "SPDConv", [0]], r"x\.yaml, row 0 .*needs its output channels as first argument, 1 or more"),
        ([-2, 1, "SPDConv", [8]], r"x\.yaml, row 0 .*from row -2, which is not an earlier row"),
        ([3, 1, "SpaceToDepth", []], r"x\.yaml, row 0 .*from row 3, which is not an earlier row"),
        ([-1, 1, "torch_safe_load", ["x.pt"]], r"x\.yaml, row 0 .*unknown block 'torch_safe_load'"),
        ([-1, 1, "nn.functional", []], r"x\.yaml, row 0 .*unknown block 'nn\.functional'"),
        ([-1, 1, "torchvision.ops.nms", []], r"x\.yaml, row 0 .*unknown block 'torchvision\.ops\.nms'"),
        ([-1, 1, "nn.Upsampel", [None, 2]], r"x\.yaml, row 0 .*unknown block 'nn\.Upsampel'"),
        ([-1, 1, "SPDConv", []], r"x\.yaml, row 0 .*needs its output channels"),
        ([-1, 2, "SpaceToDepth", []], r"x\.yaml, row 0 .*repeats must be 1"),
        ([[-1, 0], 1, "SPDConv", [8]], r"x\.yaml, row 0 .*one input"),
        ([-1, 1, "SPDConv"], r"x\.yaml, row 0 .*a row is \[from, repeats, module, arguments\]"),
        ([-1, 1, "DepthToSpace", []], r"x\.yaml, row 0 .*DepthToSpace: input channels must be a multiple of 4, got 3"),
        ([-1, 1, "SliceUpsamp", [8]], r"x\.yaml, row 0 .*SliceUpsamp: .*3"),
    ],
)
def test_bad_row__one_line_with_file_and_row(row, message):
    """A wrong row is refused in one line that names the YAML file, the row and what would be right."""
    with pytest.raises(ModelError, match=message) as error:
        tasks.parse_model(tiny(row, yaml_file="x.yaml"), 3, False)
    assert "\n" not in str(error.value)


def test_scale__missing_is_warned_of_once(monkeypatch):
    """Without a scale the first is taken as in stock, and stock's warning comes once however many rows are parsed."""
    warnings = []
    monkeypatch.setattr(tasks.LOGGER, "warning", warnings.append)
    row = [-1, 1, "SpaceToDepth", []]
    d = {"nc": 1, "scales": {"s": [1, 0.5, 64]}, "backbone": [[-1, 1, "Conv", [64, 1, 1]], row, row], "head": []}
    layers, _ = tasks.parse_model(d, 3, False)
    assert layers[0].conv.out_channels == 32 and len(warnings) == 1


def test_register__own_block_in_one_call():
    """A user's own class can be used under its name after one call, and a name cannot be taken twice."""

    class Twice(nn.Module):
        def __init__(self, in_channels, out_channels, kernel_size=1):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, 2)

        def forward(self, x):
            return self.conv(x)

    pixelkeep.register(Twice, name="MyDown")
    try:
        _, out = forward(tiny([-1, 1, "MyDown", [32, 2]]))
        assert out.shape == (1, 16, 8, 8)
        with pytest.raises(OptionError, match="taken"):
            pixelkeep.register(nn.Conv2d, name="MyDown")
        with pytest.raises(OptionError, match=re.escape("torch.nn.Module")):
            pixelkeep.register(len)
    finally:
        REGISTRY.pop("MyDown")


PARTS = {
    "DilatedConvNorm",
    "EntryBlock",
    "MixedBlock",
    "MixedConv",
    "MixedNorm",  # layers inside blocks, public because checkpoints name them
    "ConvSPDNorm",
    "DenseLayer",
    "FanOutConv2d",
    "HaloMask",
    "InstanceNorm",
    "LIPHead",
    "LIPResidualBlock",
    "LIPTrunk",
    "ResidualBlock",
    "SelectivePath",
    "SelectiveUnit",
    "SliceSampMerging",
    "SubmanifoldConv",
    "ZeroBatchNorm2d",
    "ZeroConv2d",
}


def test_registry__covers_every_public_block():
    """Every block class is registered under its class name, except for layers that are parts of others."""
    public = {n for n in blocks.__all__ if isinstance(getattr(blocks, n), type)}
    assert public - PARTS <= set(REGISTRY) and not PARTS & set(REGISTRY)


def test_classes__are_not_scaled():
    """A head's classes are not scaled by the width as other layers are, and its class count is resolved."""
    d = {"nc": 7, "scales": {"n": [1.0, 0.25, 64]}, "scale": "n", "head": [[-1, 1, "Classifier", ["nc"]]]}
    d["backbone"] = [[-1, 1, "ConvNorm", [128, 3, 2]], [-1, 1, "BottleneckLIP", [3, 5]]]
    layers, _ = tasks.parse_model(deepcopy(d), 3, False)
    assert (layers[0].conv.out_channels, layers[1].trunk.width) == (16, 5)  # 64 at most, a quarter of it
    assert (layers[2].linear.in_features, layers[2].linear.out_features) == (16, 7)
    with pytest.raises(ModelError, match="repeats must be 1"):
        tasks.parse_model(d | {"head": [[-1, 2, "Classifier", ["nc"]]]}, 3, False)
