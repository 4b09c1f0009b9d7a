"""Variants at stock's cost: strides and channels of their levels, what each of them changes, and what it costs."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from ultralytics.nn import tasks

from pixelkeep.ultra.costs.measure import count_gflops
from pixelkeep.ultra.network import names

FAMILIES = ("yolov5-keep", "yolov5-keep-k3", "yolov5-keep-path", "yolov5-shallow")
NARROW = ("yolov5-keep-k3", "yolov5-shallow")  # the families that are narrower at stride 32
WIDTHS = {"n": 0.25, "s": 0.5, "m": 0.75, "l": 1.0, "x": 1.25}
LEVELS = (8, 16, 32)
FINE = ("yolov5-fine", "yolov5-fine-strided")


def definition(family: str, scale: str = "n") -> dict:
    return names.parse(f"{family}-{scale}").definition()


def rows(family: str) -> list[list]:
    made = definition(family)
    return [*made["backbone"], *made["head"]]


def built(family: str, scale: str) -> torch.nn.Module:
    network = tasks.BaseModel()
    with torch.device("meta"):
        network.model, network.save = tasks.parse_model(deepcopy(definition(family, scale)), 3, False)
    return network.train()


def levels(family: str, scale: str) -> list[tuple[int, ...]]:
    """Return (channels, height, width) of each feature map that the head reads, for images of 256x384 pixels."""
    network, seen = built(family, scale), []
    network.model[-1].register_forward_pre_hook(lambda head, inputs: seen.extend(inputs[0]))
    with torch.no_grad():
        network(torch.empty(2, 3, 256, 384, device="meta"))
    return [tuple(level.shape[1:]) for level in seen]


@pytest.mark.parametrize("scale", WIDTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_levels__strides_and_channels(family, scale):
    """The head has stock's strides 8, 16 and 32 and stock's widths, except for two families narrower at stride 32."""
    deepest = 768 if family in NARROW else 1024
    assert levels(family, scale) == [
        (int(channels * WIDTHS[scale]), 256 // stride, 384 // stride)
        for channels, stride in zip((256, 512, deepest), LEVELS, strict=True)
    ]


@pytest.mark.parametrize("scale", WIDTHS)
@pytest.mark.parametrize("family", FINE)
def test_fine__detects_at_strides_4_8_and_16(family, scale):
    """Each level has stock's width at its stride, and at every scale the network costs less than stock."""
    assert levels(family, scale) == [
        (int(channels * WIDTHS[scale]), 256 // stride, 384 // stride)
        for channels, stride in ((128, 4), (256, 8), (512, 16))
    ]
    assert count_gflops(built(family, scale), 640) < count_gflops(built("yolov5", scale), 640)


def test_fine__differs_from_p2_by_level_head_and_slices_alone():
    """The control has p2's rows, but for one block, up to stride 16 on the way down; fine has slices for its Convs."""
    p2, control, fine = rows("yolov5-p2"), rows("yolov5-fine-strided"), rows("yolov5-fine")
    *same, (levels_of, *_) = control
    assert levels_of == [21, 24, 27] and len(same) == 28
    assert [n for n, (a, b) in enumerate(zip(same, p2, strict=False)) if a != b] == [21]
    assert same[21] == [*p2[21][:2], "C3k2", p2[21][3]]
    sliced = [n for n, (a, b) in enumerate(zip(control, fine, strict=True)) if a != b]
    assert sliced == [n for n, row in enumerate(control) if n and row[2] == "Conv" and row[3][2:3] == [2]]
    assert all(fine[n][2:] == ["SPDConv", [control[n][3][0], 1]] for n in sliced)


@pytest.mark.parametrize("family", FINE)
def test_fine__head_is_light(family):
    """Class branches are depthwise, and a box has four numbers."""
    head = built(family, "n").model[-1]
    assert (head.reg_max, head.nl) == (1, 3)
    assert all(branch[0][0].conv.groups == branch[0][0].conv.in_channels for branch in head.cv3)
    assert all(branch[-1].out_channels == 4 for branch in head.cv2)


@pytest.mark.parametrize("family", FAMILIES)
def test_cost__no_more_than_stock(family):
    """At scale n and 640 pixels each variant has at most yolov5-n's GFLOPs, and no less than 97 % of them."""
    stock, own = (count_gflops(built(name, "n"), 640) for name in ("yolov5", family))
    assert 0.97 * stock <= own <= stock


def test_slices__where_and_with_which_kernel():
    """In the keep variants slices replace every strided convolution but the stem; yolov5-shallow has none."""
    stock = [number for number, row in enumerate(rows("yolov5")) if row[2] == "Conv" and row[3][2:3] == [2]]
    for family, to_p3 in (("yolov5-keep", 1), ("yolov5-keep-k3", 3)):
        made = rows(family)
        assert [number for number, row in enumerate(made) if row[2] == "SPDConv"] == stock[1:]
        assert [made[number][3][1] for number in stock[1:]] == [1, to_p3, 1, 1, 1, 1]
        assert made[0] == rows("yolov5")[0]
    assert not any(row[2] == "SPDConv" for row in rows("yolov5-shallow"))


def test_slices__a_1x1_costs_four_ninths():
    """A 1x1 on slices has 4 / 9 of the multiply-adds of a 3x3 with stride 2, at any width: all that keep saves."""
    saved = 0
    for number, row in enumerate(rows("yolov5")):
        if number and row[2] == "Conv" and row[3][2:3] == [2]:
            block = built("yolov5", "n").model[number].conv
            side = {1: 160, 3: 80, 5: 40, 7: 20, 18: 40, 21: 20}[number]
            saved += 2 * block.in_channels * block.out_channels * side**2 * (9 - 4)
    from_yaml = deepcopy(definition("yolov5-keep"))
    wide = {192: 128, 288: 256}
    for row in from_yaml["backbone"]:
        row[3][0] = wide.get(row[3][0], row[3][0])
    network = tasks.BaseModel()
    with torch.device("meta"):
        network.model, network.save = tasks.parse_model(from_yaml, 3, False)
    assert count_gflops(built("yolov5", "n"), 640) - count_gflops(network.train(), 640) == pytest.approx(saved / 1e9)


def test_path__one_row_more_and_all_else_in_place():
    """keep-path adds one row from stride 4 to the Concat before P3's block; without it the rows are those of keep."""
    path, plain = definition("yolov5-keep-path"), definition("yolov5-keep")
    split = len(plain["backbone"])
    at = next(i for i, row in enumerate(path["head"]) if row[0] == 2)
    assert path["head"][at] == [2, 1, "SPDConv", [256, 1]]
    join = path["head"].pop(at + 1)
    assert join == [[split + at - 1, 4, split + at], 1, "Concat", [1]]
    path["head"][at] = [[-1, 4], 1, "Concat", [1]]

    def moved(source: int | list[int]) -> int | list[int]:
        if isinstance(source, list):
            return [moved(each) for each in source]
        return source + 1 if source >= split + at else source

    assert path["head"] == [*plain["head"][: at + 1], *([moved(row[0]), *row[1:]] for row in plain["head"][at + 1 :])]


def test_path__reaches_p3():
    """Features of stride 4 reach P3 by the path, with channels of their own in the Concat."""
    torch.manual_seed(0)
    network = tasks.DetectionModel("yolov5-keep-path-n.yaml", verbose=False).eval()
    outputs = {}
    for number in (2, 16, 17):
        network.model[number].register_forward_hook(lambda m, x, y, n=number: outputs.update({n: y}))
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 96))
    assert outputs[16].shape == (1, 64, 8, 12) and outputs[2].shape == (1, 48, 16, 24)
    assert torch.equal(outputs[17][:, -64:], outputs[16])


def test_shallow__width_alone_has_moved():
    """yolov5-shallow is stock with 160 channels for 128 in the backbone and 768 for 1024, everywhere."""
    swap = {128: 160, 1024: 768}
    kept = ("Concat", "nn.Upsample", "Detect")  # modules without channels of their own

    def moved(row: list) -> list:
        return row if row[2] in kept else [*row[:3], [swap.get(row[3][0], row[3][0]), *row[3][1:]]]

    expected = [moved(row) for row in rows("yolov5")]
    assert rows("yolov5-shallow") == expected
