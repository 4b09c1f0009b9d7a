"""One figure of all arms: a mark and a name for each, names that do not cover each other, the baseline's curve."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from pixelkeep.report.overview import KINDS, LETTER, LINE, Point, overview
from pixelkeep.report.results import plot_all

SVG = "{http://www.w3.org/2000/svg}"
NOTE, CURVE = "AP_S on dev", "yolov5-n on other image sizes"


def point(name: str, cost: float, mean: float, kind: str = KINDS[0], on_curve: bool = False) -> Point:
    return Point(name, kind, cost, {"mean": mean, "spread": 0.002}, on_curve)


def names_of(drawing: str, wanted: set[str]) -> dict[str, tuple[float, float, float, float]]:
    """Return the boxes of the names in a figure."""
    boxes = {}
    for text in ET.fromstring(drawing).find(f"{SVG}g").findall(f"{SVG}text"):
        if text.text in wanted:
            width = LETTER * len(text.text)
            left = float(text.get("x")) - {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")] * width
            boxes[text.text] = (left, float(text.get("y")) - LINE, left + width, float(text.get("y")))
    return boxes


@pytest.mark.parametrize("apart", [0.0, 0.0004, 0.02])
def test_names__all_there_and_none_on_another(apart):
    """However close marks lie, each has its name, in the figure and beside the other names."""
    points = [point(f"network-{n}", 1 + apart * n, 0.04 + apart * n / 10) for n in range(12)]
    boxes = names_of(overview(points, NOTE, CURVE), {each.name for each in points})
    assert len(boxes) == 12
    for one, other in combinations(boxes.values(), 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_line__leads_to_a_name_that_lies_further_away():
    """A mark that stands alone has its name right beside it; of marks in one place most need a line."""
    rules = [
        overview(points, NOTE, CURVE).count('<line class="rule"')
        for points in ([point("a", 1, 0.05)], [point(f"network-{n}", 1, 0.05) for n in range(12)])
    ]
    assert 0 < rules[1] - rules[0] < 12


def test_curve__through_the_baseline_on_other_sizes_alone():
    """The dashed line joins the baseline's points by cost, and is neither drawn nor named for fewer than three."""
    sizes = [point(f"n {n}", 1 + n, 0.03 + n / 100, on_curve=True) for n in (2, 0, 1)]
    root = ET.fromstring(overview([*sizes, point("fine", 1.1, 0.05, KINDS[2])], NOTE, CURVE))
    (line,) = root.find(f"{SVG}g").findall(f"{SVG}polyline")
    xs = [float(pair.split(",")[0]) for pair in line.get("points").split()]
    assert len(xs) == 3 and xs == sorted(xs)
    assert CURVE in [text.text for text in root.findall(f"{SVG}text")]
    assert "polyline" not in overview(sizes[:2], NOTE, CURVE) and CURVE not in overview(sizes[:2], NOTE, CURVE)


def test_marks__higher_for_a_higher_figure():
    """Position follows cost and AP_S, and the legend names the kinds that are there."""
    root = ET.fromstring(overview([point("low", 1, 0.02), point("high", 2, 0.04, KINDS[1])], NOTE, CURVE))
    body = root.find(f"{SVG}g")
    circle, square = body.find(f"{SVG}circle"), body.find(f"{SVG}rect")
    assert float(square.get("y")) < float(circle.get("cy")) and float(square.get("x")) > float(circle.get("cx"))
    assert [text.text for text in root.findall(f"{SVG}text")] == [NOTE, KINDS[0], KINDS[1]]


def summary_of(*arms: dict) -> dict:
    return {"baseline": "yolov5-n", "notice": None, "image_size": [512, 640], "arms": list(arms)}


def arm(name: str, model: str, gflops: float, imgsz: int | list = 320, equal: bool = False, **settings: float) -> dict:
    figures = {"AP_S": {"mean": 0.04, "spread": 0.001}}
    facts = {"gflops": gflops, "imgsz": imgsz, "equal_cost": equal, "settings": settings}
    return {"name": name, "model": model, "dev": figures} | facts


def test_plot_all__kinds_and_names():
    """An arm is of its design's kind or, with settings of its own, of theirs; its host's name is left out."""
    arms = [
        arm("yolov5-n", "yolov5-n", 1.77),
        arm("yolov5-n 352x480", "yolov5-n", 2.9, [352, 480], equal=True),
        arm("yolov5-n w0.2", "yolov5-n w0.2", 1.4, equal=True),
        arm("yolov5-spd-n", "yolov5-spd-n", 2.85),
        arm("nwd", "yolov5-spd-n", 2.85, nwd=0.5),
        arm("unmeasured", "yolov5-s", None),
    ]
    texts = {text.text for text in ET.fromstring(plot_all("dev", [summary_of(*arms)], arms)).iter(f"{SVG}text")}
    assert texts >= {"yolov5-n", "n 352x480 (less padding)", "n w0.2", "spd-n", "nwd (spd-n)"}
    assert texts >= {KINDS[0], KINDS[1], KINDS[3]}
    assert not {"unmeasured", KINDS[2]} & texts
    assert plot_all("dev", [summary_of(arms[-1])], arms[-1:]) is None
