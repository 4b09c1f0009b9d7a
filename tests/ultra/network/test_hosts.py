"""Proves that every block fits every host: v5, v8, 11, 12 and 26 in every task and scale, nothing else changed.

The oracle is Ultralytics' own parser on its own YAML. Where a block takes a strided convolution's place, all other
layers must have stock's shapes, the block must map what the convolution mapped, and the parameters must be stock's
minus the convolutions plus the block's formula. Stride-1 Conv and SpaceToDepth are compared with a strided Conv whose
output is concatenated four times: the same channels and strides from stock layers alone. Shapes are computed on torch's
meta device; `slow` adds the variants with other levels (p2, p6, ghost) and runs each whole network there.
"""

from __future__ import annotations

import math
import runpy
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

from pixelkeep import blocks

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
MODELS = Path(ultralytics.__file__).parent / "cfg" / "models"
derive = runpy.run_path(str(ROOT / "scripts" / "derive_models.py"))["derive"]
parse_stock = tasks.parse_model.__wrapped__

HEADS = {
    "detect": {"Detect"},
    "segment": {"Segment", "Segment26"},
    "classify": {"Classify"},
    "pose": {"Pose", "Pose26"},
    "obb": {"OBB", "OBB26"},
    "semantic": {"SemanticSegment"},
}
FOLDERS = ("v5", "v8", "11", "12", "26")
SIZE = (128, 192)  # pixels, height and width: multiples of the largest stride, 64


def is_strided(row: list) -> bool:
    return row[2] == "Conv" and row[3][2:3] == [2]


def rows(d: dict) -> list[list]:
    return d["backbone"] + d["head"]


def hosts() -> dict[str, dict]:
    """Return every bundled YAML of these families and tasks that has a strided Conv, by name."""
    found = {}
    for path in (p for folder in FOLDERS for p in sorted((MODELS / folder).glob("*.yaml"))):
        d = yaml.safe_load(path.read_text(encoding="utf-8"))
        if d["head"][-1][2] in set().union(*HEADS.values()) and any(map(is_strided, rows(d))):
            found[path.stem] = d | {"yaml_file": path.name}
    return found


HOSTS = hosts()
PLAIN = [name for name in HOSTS if not any(word in name for word in ("-p2", "-p6", "-ghost"))]


def matrix(quick: list[str], scales: str = "nsmlx", row: str = "Conv"):
    """Parametrize by every scale of every host that has such a row; those not in ``quick`` and ``scales`` are slow."""
    names = [name for name, d in HOSTS.items() if any(module == row for _, _, module, _ in rows(d))]
    pairs = [(name, scale) for name in names for scale in HOSTS[name]["scales"]]
    return pytest.mark.parametrize(
        ("name", "scale"),
        [
            pytest.param(
                *pair, marks=() if pair[0] in quick and pair[1] in scales else pytest.mark.slow, id="-".join(pair)
            )
            for pair in pairs
        ],
    )


@pytest.fixture(autouse=True)
def _no_initial_values(monkeypatch):
    """Leave weights uninitialised: on the meta device initial values take time and have no effect."""
    for layer in (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.Linear):
        monkeypatch.setattr(layer, "reset_parameters", lambda self: None)


def build(parse, d: dict) -> list[nn.Module]:
    with torch.device("meta"):
        return list(parse(deepcopy(d), 3, False)[0])


@cache
def stock(name: str, scale: str) -> list[nn.Module]:
    """Return the layers of Ultralytics' own definition, on the meta device."""
    return build(parse_stock, HOSTS[name] | {"scale": scale})


def swap(d: dict, block: str, place) -> dict:
    """Put ``block`` into each row that ``place`` chooses; the row keeps its output channels."""
    d = deepcopy(d)
    for row in rows(d):
        if place(row):
            row[2:] = [block, row[3][:1]]
    return d


def shapes(layer: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in layer.state_dict().items()}


def count(layers: list[nn.Module]) -> int:
    return sum(p.numel() for layer in layers for p in layer.parameters())


def forward(layers: list[nn.Module]) -> list[torch.Size]:
    """Run the network on the meta device and return the shapes that reach the head."""
    outputs, x = [], torch.empty(2, 3, *SIZE, device="meta")
    for layer in layers[:-1]:
        sources = [layer.f] if isinstance(layer.f, int) else layer.f
        inputs = [x if source == -1 else outputs[source] for source in sources]
        x = layer(inputs[0] if isinstance(layer.f, int) else inputs)
        outputs.append(x)
    head = layers[-1]
    feats = [x if f == -1 else outputs[f] for f in ([head.f] if isinstance(head.f, int) else head.f)]
    head.train()(feats[0] if isinstance(head.f, int) else list(feats))
    return [tuple(feat.shape) for feat in feats]


def lip(i: int, o: int, w: int) -> int:
    """Return the number of parameters of LIP with a logit module of width w."""
    return 2 * i * w + 9 * w**2 + 4 * w + 2 * i + i * o + 2 * o


FORMULAS = {  # parameters from input channels i and output channels o, kernel 3
    "SPDConv": lambda i, o: 36 * i * o + 2 * o,
    "SliceSamp": lambda i, o: 44 * i + 4 * i * o + 2 * o,
    "LIP": lambda i, o: lip(i, o, min(128, max(1, i // 2))),
}


@pytest.mark.parametrize("block", FORMULAS)
@matrix(PLAIN)
def test_downsampling__every_strided_convolution(name, scale, block):
    """The block has the strided Conv's shapes and its formula's parameters; all other layers are stock's."""
    place = [is_strided(row) for row in rows(HOSTS[name])]
    before, after = (
        stock(name, scale),
        build(tasks.parse_model, swap(HOSTS[name], block, is_strided) | {"scale": scale}),
    )
    expected = count(before)
    for replaced, old, new in zip(place, before, after, strict=True):
        assert (new.i, new.f, new.np) == (old.i, old.f, count([new]))
        if not replaced:
            assert type(new) is type(old) and shapes(new) == shapes(old)
            continue
        channels = old.conv.in_channels, old.conv.out_channels
        expected += FORMULAS[block](*channels) - count([old])
        assert type(new) is getattr(blocks, block)
        x = torch.empty(2, channels[0], 6, 10, device="meta")
        assert new.eval()(x).shape == old.eval()(x).shape == (2, channels[1], 3, 5)
    assert count(after) == expected


def published(name: str, scale: str) -> tuple[dict, dict]:
    """Return the definition by the rule `spd`, and one of stock layers with the same channels and strides."""
    d = HOSTS[name] | {"scale": scale}
    backbone, head = derive(d, "spd")
    ours = d | {"backbone": backbone, "head": head}
    oracle = deepcopy(ours)
    before = None
    for row in rows(oracle):
        if row[2] == "SpaceToDepth":
            row[:] = [[-1] * 4, 1, "Concat", [1]]
            before[3] = [*before[3][:2], 2]
        before = row
    return ours, oracle


@matrix(PLAIN, scales="n")
def test_space_to_depth__after_stride_one(name, scale):
    """A stride-1 Conv with SpaceToDepth passes four times the channels to the next layer, and adds no parameters."""
    ours, oracle = published(name, scale)
    after, before = build(tasks.parse_model, ours), build(parse_stock, oracle)
    inserted = 0
    for old, new in zip(before, after, strict=True):
        assert new.i == old.i and shapes(new) == shapes(old)
        if isinstance(new, blocks.SpaceToDepth):
            inserted += 1
            assert new.f == -1 and new.np == 0
            assert after[new.i - 1].conv.stride == (1, 1)
        elif isinstance(new, Conv) and isinstance(after[new.i + 1], blocks.SpaceToDepth):
            assert new.f == old.f
        else:
            assert type(new) is type(old) and new.f == old.f
    assert inserted == sum(map(is_strided, rows(HOSTS[name]))) - 1  # the stem becomes Focus


@matrix(["yolov5", "yolo26-sem"], row="nn.Upsample")
def test_slice_upsamp__every_upsampling(name, scale):
    """SliceUpsamp in place of nn.Upsample keeps the channels, doubles the size, and has its formula's parameters."""
    d = HOSTS[name] | {"scale": scale}
    backbone, head = derive(d, "slicesamp-up")
    after = build(tasks.parse_model, d | {"backbone": backbone, "head": head})
    for row, old, new in zip(rows(d), stock(name, scale), after, strict=True):
        if row[2] != "nn.Upsample":
            assert is_strided(row) or shapes(new) == shapes(old)
            continue
        channels = new.pointwise.out_channels
        c = channels // 4
        assert count([new]) == 11 * c + c * channels + 2 * channels
        x = torch.empty(2, channels, 3, 5, device="meta")
        assert new.eval()(x).shape == old(x).shape == (2, channels, 6, 10)


def test_matrix__covers_every_family_and_task():
    """The matrix has every family and task of Ultralytics, each at five scales."""
    tasks_of = {
        folder: {task for task, heads in HEADS.items() for name in names if HOSTS[name]["head"][-1][2] in heads}
        for folder in FOLDERS
        for names in [[p.stem for p in (MODELS / folder).glob("*.yaml") if p.stem in HOSTS]]
    }
    five = {"detect", "segment", "classify", "pose", "obb"}
    assert tasks_of == {"v5": {"detect"}, "v8": five, "11": five, "12": five, "26": five | {"semantic"}}
    assert all(list(d["scales"]) == list("nsmlx") for d in HOSTS.values())


@pytest.mark.parametrize("block", [*FORMULAS, "SpaceToDepth"])
@matrix([])
def test_forward__reaches_the_head_as_stock_does(name, scale, block):
    """The whole network runs, and the maps that reach the head have stock's sizes and thus its strides."""
    if block == "SpaceToDepth":
        ours, oracle = published(name, scale)
        if "A2C2f" in str(ours) and scale in "lx":
            # A2C2f adds its input at these scales, so four times its channels do not fit, with stock layers or ours.
            for layers in (build(tasks.parse_model, ours), build(parse_stock, oracle)):
                with pytest.raises(RuntimeError, match="broadcast"):
                    forward(layers)
            return
        assert forward(build(tasks.parse_model, ours)) == forward(build(parse_stock, oracle))
        return
    after = build(tasks.parse_model, swap(HOSTS[name], block, is_strided) | {"scale": scale})
    reached = forward(after)
    assert reached == forward(stock(name, scale))
    strides = [SIZE[0] // shape[2] for shape in reached]
    assert all(math.log2(stride).is_integer() for stride in strides) and strides == sorted(strides)
