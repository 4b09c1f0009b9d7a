"""Tables: undefined figures are n/a, no line is wider than 80 columns, and each figure stands in its own cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from pixelkeep.evaluation.result import ClassFigures, Protocol
from pixelkeep.report.tables import detection_lines, figure, models_table, result_table, text_table


def result(**changes):
    """A result as validation gives it, with the parts that the table shows."""
    values = dict(
        AP=0.5, AP50=0.6, AR=0.7, AP_S=0.1, AP_M=0.2, AP_L=None, AP50_S=0.15, AR_S=0.12, AR_M=0.22, AR_L=None,
        counts={"S": 1234567, "M": 20, "L": 0},
        per_class={"car": ClassFigures(AP=0.5, AP50=0.6, AP_S=None, gt=1234567)},
        images=548, split="val",
        protocol=Protocol(evaluator="pycocotools", imgsz=640, conf=0.001, nms_iou=0.7, max_dets=300, precision="fp32"),
    )  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def summary(detections):
    folder = Path("/runs/detect/exp")
    speed = {"preprocess": 1.4, "inference": 20.2}
    return SimpleNamespace(
        detections=Counter(detections), images=7, unreadable={}, speed_ms=speed, weights=Path("best.pt"), folder=folder
    )


@pytest.mark.parametrize(("value", "text"), [(None, "n/a"), (0.0, "0.000"), (1, "1.000"), (0.12345, "0.123")])
def test_figure__undefined_is_not_zero(value, text):
    """None is n/a and 0 is 0.000: they are different results."""
    assert figure(value) == text


def test_result__every_figure_in_its_cell():
    """Sizes have their own count, AP, AP50 and AR; what is undefined is n/a there and nowhere else."""
    lines = [line.split() for line in result_table(result()).splitlines()]
    assert ["all", "1,234,567", "0.500", "0.600", "0.700"] in lines
    assert ["small", "<", "32x32", "px", "1,234,567", "0.100", "0.150", "0.120"] in lines
    assert ["medium", "32x32", "to", "96x96", "20", "0.200", "0.220"] in lines
    assert ["large", ">", "96x96", "px", "0", "n/a", "n/a"] in lines
    assert ["car", "1,234,567", "0.500", "0.600", "n/a"] in lines


@pytest.mark.parametrize("ignored", [None, 123456])
def test_result__at_most_80_columns(ignored):
    """Long class names, large counts and long notes stay within 80 columns, and every class keeps its line."""
    long = "a class with a name that its dataset's authors made very long indeed, for whatever reason"
    entry = ClassFigures(AP=0.5, AP50=0.6, AP_S=0.1, gt=1234567)
    changes = result(per_class={long: entry, "x" * 200: entry}, images=123456, split="validation")
    changes.protocol.ignored = ignored
    table = result_table(changes)
    assert max(map(len, table.splitlines())) <= 80
    assert "a class with a name" in table and "xxx…" in table
    assert " ".join(table.split()).count("1,234,567 0.500 0.600 0.100") == 2
    assert ("123456 ignored" in table) == bool(ignored)
    assert "at most 300 detections an image, fp32." in " ".join(table.split())


def test_detections__counted_and_wrapped():
    """Detect's last lines name every class with its count, commonest first, within 80 columns."""
    names = {f"class number {i}": i for i in range(1, 30)}
    text = detection_lines(summary(names))
    assert max(map(len, text.splitlines())) <= 80
    found = " ".join(text.split())
    assert "found 29 class number 29, 28 class number 28, " in found
    assert "1 class number 1 in 7 images, 22 ms an image weights best.pt results /runs/detect/exp" in found


def test_detections__nothing():
    """No detection is said in words."""
    assert "found     nothing in 7 images" in detection_lines(summary({}))


def test_models__stock_marked():
    """Baselines are marked as Ultralytics' own, parameters are in millions."""
    entries = [
        SimpleNamespace(name="yolov5-spd-n", stock=False, params=2_890_000, gflops=9.96),
        SimpleNamespace(name="yolov5-n", stock=True, params=2_500_000, gflops=7.1),
    ]
    lines = [line.split() for line in models_table(entries).splitlines()[2:]]
    assert lines == [["yolov5-spd-n", "pixelkeep", "2.89", "10.0"], ["yolov5-n", "Ultralytics", "2.50", "7.1"]]


def test_text_table__columns_line_up():
    """The first columns are aligned left, the others right, no line ends in blanks."""
    text = text_table(["a", "b", "c"], [["x", "long", "1"], ["yy", "", "22"]], left=2)
    assert text == "a   b      c\n--  ----  --\nx   long   1\nyy        22"
