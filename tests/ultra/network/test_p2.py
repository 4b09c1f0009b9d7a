"""The -p2 variants: a fourth level of stride 4 that has the right width at every size and changes nothing else."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from ultralytics.nn import tasks
from ultralytics.utils.tal import TaskAlignedAssigner

from pixelkeep.ultra.costs import catalogue
from pixelkeep.ultra.network import names

FAMILIES = ("yolov5-p2", "yolov5-spd-p2", "yolov5-spdconv-p2", "yolov5-slicesamp-p2")
WIDTHS = {"n": 0.25, "s": 0.5, "m": 0.75, "l": 1.0, "x": 1.25}


def built(family: str, scale: str) -> torch.nn.Module:
    """Build a model on the meta device."""
    network = tasks.BaseModel()
    with torch.device("meta"):
        definition = names.parse(f"{family}-{scale}").definition()
        network.model, network.save = tasks.parse_model(deepcopy(definition), 3, False)
    return network.train()


@pytest.mark.parametrize("scale", WIDTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_levels__strides_and_widths(family, scale):
    """The head gets stride 4 with 128 channels, then 8, 16 and 32 with twice as many each, times the scale's width."""
    network = built(family, scale)
    seen = []
    network.model[-1].register_forward_pre_hook(lambda head, inputs: seen.extend(inputs[0]))
    with torch.no_grad():
        network(torch.empty(2, 3, 256, 384, device="meta"))
    sizes = zip((128, 256, 512, 1024), (4, 8, 16, 32), strict=True)
    expected = [(int(channels * WIDTHS[scale]), 256 // stride, 384 // stride) for channels, stride in sizes]
    assert [tuple(level.shape[1:]) for level in seen] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters__those_of_the_new_rows_more(family):
    """Rows up to P3 are those without -p2, and so are the rows below, but for the numbers of rows that they read."""
    plain, more = (names.parse(f"{name}-n").definition() for name in (family.removesuffix("-p2"), family))
    assert more["backbone"] == plain["backbone"] and more["scales"] == plain["scales"]
    new = len(more["head"]) - len(plain["head"])
    levels = plain["head"][-1][0]
    upper = levels[0] + 1 - len(plain["backbone"])  # rows of the head up to and with the block of P3
    assert more["head"][:upper] == plain["head"][:upper]

    def rebased(row: list) -> list:
        source = row[0] if isinstance(row[0], list) else [row[0]]
        return [[s + new if s > levels[0] else s for s in source], *row[1:]]

    below = [[row[0] if isinstance(row[0], list) else [row[0]], *row[1:]] for row in more["head"][upper + new : -1]]
    assert below == [rebased(row) for row in plain["head"][upper:-1]]
    assert more["head"][-1][0][1:] == [level + new for level in levels]


def test_catalogue__lists_them():
    """`pixelkeep models` lists the variants at every size, and -p2 costs parameters and GFLOPs."""
    listed = catalogue.model_names()
    assert all(f"{family}-{scale}" in listed for family in FAMILIES for scale in WIDTHS)
    rows = {entry.name: entry for entry in catalogue.entries(["yolov5-spd-n", "yolov5-spd-p2-n"])}
    assert rows["yolov5-spd-p2-n"].params > rows["yolov5-spd-n"].params
    assert rows["yolov5-spd-p2-n"].gflops > rows["yolov5-spd-n"].gflops and not rows["yolov5-spd-p2-n"].stock


@pytest.mark.parametrize("spelling", ["yolov5-spd-p2-n", "yolov5n-spd-p2", "yolov5-spd-p2-n.yaml"])
def test_spellings__name_one_model(spelling):
    """The size may stand at the end, or where Ultralytics writes it."""
    assert str(names.parse(spelling)) == "yolov5-spd-p2-n"


@pytest.mark.parametrize(("side", "least"), [(200, 8), (400, 16), (600, 32)])
def test_range__large_objects_go_to_levels_that_reach_them(side, least):
    """A level's boxes reach 15 strides to each side, and large objects are assigned to levels that reach them."""
    strides = (4, 8, 16, 32)
    grids = [torch.cartesian_prod(*2 * [torch.arange(s / 2, 640, s)]) for s in strides]
    points, reach = (
        torch.cat(grids),
        torch.cat([torch.full((len(g), 1), 15.0 * s) for g, s in zip(grids, strides, strict=True)]),
    )
    truth = torch.tensor([321.0 - side / 2, 318 - side / 2, 321 + side / 2, 318 + side / 2])
    low = points - torch.minimum((points - truth[:2]).clamp(min=0), reach)
    high = points + torch.minimum((truth[2:] - points).clamp(min=0), reach)
    assigner = TaskAlignedAssigner(topk=10, num_classes=1, alpha=0.5, beta=6.0, stride=list(strides))
    scores, boxes = torch.full((1, len(points), 1), 0.5), torch.cat([low, high], 1)[None]
    positive = assigner(scores, boxes, points, torch.zeros(1, 1, 1), truth[None, None], torch.ones(1, 1, 1))[3][0]
    assert positive.sum() == 10 and (reach[positive] >= 15 * least).all()
