"""Tables: undefined figures are n/a, no line is wider than 80 columns, and each figure stands in its own cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from pixelkeep.evaluation.result import Alarms, BinFigures, By, ClassFigures, PartFigures, Protocol, Result
from pixelkeep.report.tables import detection_lines, figure, models_table, result_table, text_table


def result(**changes):
    """Return a result as validation gives it, with the parts that the table shows."""
    values = dict(
        AP=0.5, AP50=0.6, AR=0.7, AP_S=0.1, AP_M=0.2, AP_L=None, AP50_S=0.15, AR_S=0.12, AR_M=0.22, AR_L=None,
        counts={"S": 1234567, "M": 40, "L": 0},
        per_class={"car": ClassFigures(AP=0.5, AP50=0.6, AP_S=None, gt=1234567)},
        images=548, split="val", operating_point=None,
        protocol=Protocol(evaluator="pycocotools", imgsz=640, conf=0.001, nms_iou=0.7, max_dets=300, precision="fp32"),
    )  # fmt: skip
    return Result(**{**values, **changes})


def alarms(**changes):
    values = dict(conf=0.25, Pd=0.91, Pd_S=None, found=91, gt=100, false=219, per_image=0.4, per_megapixel=1.25)
    return Alarms(**{**values, **changes})


def wide_result():
    """Return a result with every optional part, each as wide as it can get."""
    counts = {"S": 1234567, "M": 29, "L": 1}
    part = PartFigures(images=123456, AP=0.5, AP50=0.6, AP_S=None, counts=counts)
    names = ("0.25-1234.5", "very tiny")
    return result(
        counts=counts,
        bins=[BinFigures(name=n, low=0.25, high=1234.5, gt=29, AP=0.5, AP50=None, AR=0.25) for n in names],
        by=By(regex="x" * 90, name="n" * 50, unmatched=3, values={"v" * 60: part, "day": part}),
        alarms=alarms(per_image=12345.678, per_megapixel=12345.678),
        voc={"AP50_11": 0.7, "AP50_area": None},
        protocol=Protocol(evaluator="faster-coco-eval", match="center:2.5", bins="0.25-1234.5", max_dets=1500),
    )


def summary(detections):
    folder = Path("/runs/detect/exp")
    speed = {"preprocess": 1.4, "inference": 20.2}
    return SimpleNamespace(
        format="pytorch",
        precision="fp32",
        folding=None,
        rasters={},
        videos={},
        fps=None,
        task="detect",
        detections=Counter(detections),
        images=7,
        unreadable={},
        speed_ms=speed,
        weights=Path("best.pt"),
        folder=folder,
        confidence=0.25,
        tile=None,
        track=None,
    )


@pytest.mark.parametrize(("value", "text"), [(None, "n/a"), (0.0, "0.000"), (1, "1.000"), (0.12345, "0.123")])
def test_figure__undefined_is_not_zero(value, text):
    """None is shown as n/a and 0 as 0.000, as they are different results."""
    assert figure(value) == text


def test_result__every_figure_in_its_cell():
    """Each size has its own count and figures; only undefined figures are n/a."""
    lines = [line.split() for line in result_table(result()).splitlines()]
    assert ["all", "1,234,567", "0.500", "0.600", "0.700"] in lines
    assert ["small", "<", "32x32", "px", "1,234,567", "0.100", "0.150", "0.120"] in lines
    assert ["medium", "32x32", "to", "96x96", "40", "0.200", "0.220"] in lines
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


def test_result__too_few_objects():
    """A size class of 1 to 29 objects is marked beside its figures, which stay; one of none or of 30 is not."""
    lines = result_table(result(counts={"S": 10, "M": 30, "L": 0})).splitlines()
    small, medium, large = (next(line for line in lines if line.startswith(size)) for size in ("small", "med", "large"))
    assert small.split()[-5:] == ["0.120", "too", "few", "objects", "(10)"] and "0.100" in small
    assert medium.endswith("0.220") and large.endswith("n/a")
    few = result_table(result(counts={"S": 10, "M": 3, "L": 0})).splitlines()
    assert len({line.index("too few") for line in few if "too few" in line}) == 1  # the marks are aligned left
    assert "too few objects (29)" in result_table(result(counts={"S": 29, "M": 30, "L": 0}))
    assert "too few" not in result_table(result(counts={"S": 30, "M": 31, "L": 0}))


def test_result__bins_where_asked_for():
    """Finer sizes have a row each with name, sides and figures, and are shown only if asked for."""
    sizes = [
        BinFigures(name="very tiny", low=2, high=8, gt=40, AP=0.1, AP50=0.3, AR=0.2),
        BinFigures(name="large", low=96, high=1e5, gt=7, AP=0.5, AP50=None, AR=None),
    ]
    table = result_table(result(bins=sizes, protocol=Protocol(bins="aitod")))
    lines = [line.split() for line in table.splitlines()]
    assert ["very", "tiny", "2", "to", "8", "px", "40", "0.100", "0.300", "0.200"] in lines
    assert ["large", "over", "96", "px", "7", "0.500", "n/a", "n/a", "too", "few", "objects", "(7)"] in lines
    assert "very tiny" not in result_table(result(bins=sizes))


def test_result__parts_of_the_file_name():
    """Each value of the pattern has a row with images, objects and figures; images without a match are counted."""
    part = PartFigures(images=12, AP=0.5, AP50=0.6, AP_S=None, counts={"S": 1, "M": 2, "L": 3})
    by = By(regex="(day|night)", name="time", unmatched=1, values={"day": part})
    table = result_table(result(by=by))
    assert ["time", "images", "small", "medium", "large", "AP", "AP50", "AP_S"] in map(str.split, table.splitlines())
    assert ["day", "12", "1", "2", "3", "0.500", "0.600", "n/a"] in map(str.split, table.splitlines())
    assert "1 image does not match (day|night)" in table
    by.unmatched = 0
    assert "not match" not in result_table(result(by=by))


def test_result__other_protocols():
    """VOC figures, and Pd with false alarms, have a line each; a matching measure other than the IoU is named."""
    text = " ".join(result_table(result(alarms=alarms(), voc={"AP50_11": 0.7, "AP50_area": 0.75})).split())
    assert "VOC AP50 0.700 by 11 points, 0.750 by area" in text
    assert "Pd 0.910, small n/a, 0.40 false alarms an image (1.25 a megapixel) at confidence 0.25" in text
    assert "COCO AP by pycocotools on 548 images" in text
    assert "megapixel" not in result_table(result(alarms=alarms(per_megapixel=None)))
    assert "COCO AP by pixelkeep, match nwd, on" in result_table(
        result(protocol=Protocol(evaluator="pixelkeep", match="nwd"))
    )


def test_result__every_part_within_80_columns():
    """No line is too long, even with the longest names, values and numbers, except for a pattern without blanks."""
    lines = result_table(wide_result()).splitlines()
    assert max(len(line) for line in lines if "x" * 70 not in line) <= 80


def point(**changes):
    """Return an operating point in the form of metrics.json."""
    figures = {"precision": 0.5, "recall": 0.75, "F1": 0.6, "count_mae": 1.25, "count_bias": -0.5}
    classes = {"car": {"confidence": 0.12}, "boat": {"confidence": 0.345}, "ghost": {"confidence": None}}
    values = dict(objective="f1", iou=0.5, overall=figures, single={"confidence": 0.2}, per_class=classes)
    return {**values, **changes}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Operating point (f1, IoU 0.5): confidence 0.12 to 0.34 by class; precision 0.500, recall 0.750, F1 0.600;"
             " count per image off by 1.25, bias -0.50."),
        ({"per_class": {"ghost": {"confidence": None}}}, "(f1, IoU 0.5): confidence 0.20; precision 0.500"),
        ({"single": {"confidence": None}}, "Operating point (f1): none, as no confidence reaches it."),
    ],
    ids=["by-class", "single", "none"],
)  # fmt: skip
def test_result__foot_has_the_operating_point(changes, text):
    """Below the table stand the confidence range with its figures and counting error, or that no point exists."""
    table = result_table(result(operating_point=point(**changes)))
    assert text in " ".join(table.split())
    assert max(map(len, table.splitlines())) <= 80
    assert "Operating point" not in result_table(result())


def test_detections__confidence_by_class():
    """Confidences are listed by class if they differ; a single given confidence is not mentioned."""
    found = summary({"car": 1})
    assert "conf " not in detection_lines(found)
    found.confidence = {f"class number {i}": i / 100 for i in range(20)}
    text = detection_lines(found)
    assert "conf class number 0 0.000, class number 1 0.010, " in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_detections__counted_and_wrapped():
    """The last lines of detect name every class with its count, commonest first, within 80 columns."""
    names = {f"class number {i}": i for i in range(1, 30)}
    text = detection_lines(summary(names))
    assert max(map(len, text.splitlines())) <= 80
    found = " ".join(text.split())
    assert "found 29 class number 29, 28 class number 28, " in found
    assert (
        "1 class number 1 in 7 images, 22 ms an image network pytorch, fp32 weights best.pt results /runs/detect/exp"
        in found
    )


def test_detections__folding_by_measured_time():
    """The network line has format, precision, and the option that repeats a measured folding, not one by rule."""
    found = summary({"car": 1})
    found.folding = {"choose": "static", "choice": "0,3"}
    assert "network   pytorch, fp32\n" in detection_lines(found)
    found.folding["choose"] = "measured"
    assert "network   pytorch, fp32, folding as measured; --fold 0,3 repeats it\n" in detection_lines(found)


def test_detections__nothing():
    """A run without detections says so in words."""
    assert "found     nothing in 7 images" in detection_lines(summary({}))


@pytest.mark.parametrize(
    ("images", "frames", "seen"),
    [
        (0, (3, 4), "7 frames, 22 ms a frame"),
        (2, (5,), "2 images and 5 frames, 22 ms each"),
        (7, (), "7 images, 22 ms"),
    ],
)
def test_detections__frames_are_no_images(images, frames, seen):
    """The images of videos are counted as frames."""
    found = summary({"car": 1})
    video = {"skipped": 0, "broken": 0, "lost": 0, "damage": None}
    found.videos = {str(number): video | {"frames": count} for number, count in enumerate(frames)}
    assert f"found     1 car in {seen}" in detection_lines(found) and found.images == images + sum(frames)


def test_detections__no_time_of_a_run_that_was_interrupted():
    """No time is shown for an interrupted run without measured times."""
    found = summary({"car": 1})
    found.speed_ms = {}
    assert "found     1 car in 7 images\n" in detection_lines(found)


def test_models__stock_marked():
    """Baselines are marked as Ultralytics' own, parameters are in millions, and shares of active regions are shown."""

    def entry(name: str, stock: bool, params: int, gflops: float, share: float | None = None) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, stock=stock, params=params, gflops=gflops, imgsz=640, needs=None, active_fraction=share
        )

    entries = [entry("yolov5-spd-n", False, 2_890_000, 9.96), entry("yolov5-n", True, 2_500_000, 7.1)]
    lines = [line.split() for line in models_table(entries).split("\n\n")[0].splitlines()[2:]]
    assert lines == [["yolov5-spd-n", "pixelkeep", "2.89", "10.0"], ["yolov5-n", "Ultralytics", "2.50", "7.1"]]
    table, note = models_table([*entries, entry("yolov5-cad-n", False, 2_820_000, 10.1, 0.25)]).split("\n\n")
    header, _, *rows = table.splitlines()
    assert "with 80 classes" in " ".join(note.split())
    assert header.split()[-1] == "active"
    assert [row.split()[4:] for row in rows] == [[], [], ["25%"]]


def test_text_table__columns_line_up():
    """The first columns are aligned left and the others right, and no line ends in blanks."""
    text = text_table(["a", "b", "c"], [["x", "long", "1"], ["yy", "", "22"]], left=2)
    assert text == "a   b      c\n--  ----  --\nx   long   1\nyy        22"
    noted = text_table(["a", "b", ""], [["x", "1", "long note"], ["yy", "22", "note"]], last=True)
    assert noted == "a    b\n--  --  ---------\nx    1  long note\nyy  22  note"


def test_result__active_regions_where_the_model_adapts():
    assert "active" not in result_table(result())
    assert "23.1% of the regions active." in " ".join(result_table(result(active_fraction=0.2312)).split())
