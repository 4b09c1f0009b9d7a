"""The page of a comparison is valid, needs no other file, and has every mark at its figure's place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from comparing import arm, at_equal_cost, difference, document

from pixelkeep.report.charts import against_cost, by_size, differences, swatch, ticks
from pixelkeep.report.html import as_page

VOID = {"meta", "circle", "rect", "polygon", "line"}


class Page(HTMLParser):
    """A parser that asserts that tags are closed in order and collects texts and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.texts, self.attributes = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_page__stands_by_itself():
    """The page needs no script, other file or address, closes all tags, and has styles for phones and print."""
    text = as_page(document())
    page = Page(text)
    assert not {"src", "href"} & {key for key, _ in page.attributes}
    assert "<script" not in text and "http" not in text and "url(" not in text and "@import" not in text
    assert "width=device-width" in text and "@media print" in text and "prefers-color-scheme:dark" in text


def test_page__has_figures_verdicts_and_notes():
    """The page has the figures, verdicts and notes of the terminal."""
    texts = Page(as_page(document())).texts
    for expected in ("0.243 ± 0.010", "+0.022 to +0.062", "better", "32.4 (30.8 to 36.5)"):
        assert expected in texts
    assert any("too few objects: 30" in text for text in texts) and any("CUDA out of memory" in text for text in texts)


def test_page__names_are_texts():
    """A name with markup is escaped and shown as text."""
    name = '<b>&"x"'
    made = document(name=name, arms=[arm("yolov5-n", *[0.5] * 6), arm(name, *[0.5] * 6)])
    made["differences"] = [difference(name, "AP_S", 0.1, "better")]
    text = as_page(made)
    assert '<b>&"x"' not in text and name in Page(text).texts


def test_page__cards_follow_the_verdict_at_equal_cost():
    """A model better only than the plain baseline, not at equal cost, gets no green card; the card says both."""
    text = as_page(document(**at_equal_cost(verdict="not distinguishable")))
    texts = Page(text).texts
    assert (
        '<div class="card open"><h3>yolov5-spd-n</h3>' in text and '<div class="card better"><h3>yolov5-spd-s' in text
    )
    assert "At equal GFLOPs, against yolov5-n w0.3203:" in texts and "yolov5-spd-n at equal GFLOPs" in texts
    assert '<div class="card better"><h3>yolov5-spd-n</h3>' in as_page(document(**at_equal_cost()))


@pytest.mark.parametrize("value", [None, 0.0])
def test_page__without_anything_to_draw(value):
    """Figures that are all undefined or all 0 still give a valid page."""
    arms = [arm(name, *[value] * 6, seeds=1) | {"latency": None, "gflops": None} for name in ("yolov5-n", "b")]
    text = as_page(document(arms=arms, differences=[difference("b", "AP_S", value, None)], latency=None))
    Page(text)
    assert "AP_S against latency" not in text and "nan" not in text


def places(chart: str, kind: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(rf'<{kind} class="arm\d" cx="([\d.]+)" cy="([\d.]+)"', chart)]


def test_chart__marks_stand_at_their_values():
    """A mark of twice the cost is twice as far from the axis, and one of twice the AP_S twice as high."""
    made = [
        arm("a", *[0.1] * 6, seeds=1),
        *[arm(c, *[None] * 6, seeds=1) for c in "bcd"],
        arm("e", *[0.2] * 6, seeds=1),
    ]
    chart = against_cost(made, [(10,), (1,), None, (1,), (20, 18, 25)], "ms")  # the fifth mark is a circle again
    (x1, y1), (x2, y2) = places(chart, "circle")
    labels = dict(re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([\d.]+)</text>', chart))
    at = {float(value): float(x) for x, value in labels.items()}
    assert x2 - at[0] == pytest.approx(2 * (x1 - at[0]), abs=0.2)
    low, high = map(float, re.findall(r'<line class="arm4" x1="([\d.]+)" x2="([\d.]+)"', chart)[0])
    assert (low - at[0], high - at[0]) == pytest.approx((1.8 * (x1 - at[0]), 2.5 * (x1 - at[0])), abs=0.2)
    zero = float(re.findall(r'y1="([\d.]+)"', chart)[0])  # the lowest rule is drawn first
    assert zero - y2 == pytest.approx(2 * (zero - y1), abs=0.2)


def test_chart__intervals_reach_from_end_to_end():
    """The line of a difference spans its interval on the scale of the axis labels."""
    chart = differences([difference("b", "AP", 0.03, "better")], ["a", "b"])
    x1, x2 = map(float, re.search(r'<line class="arm1" x1="([\d.]+)" x2="([\d.]+)"', chart).groups())
    at = {
        float(value): float(x)
        for x, value in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([-+\d.]+)</text>', chart)
    }
    unit = (max(at.values()) - at[0]) / max(at)
    assert (x1 - at[0], x2 - at[0]) == pytest.approx((0.01 * unit, 0.05 * unit), abs=0.2)


def test_chart__sizes_without_objects_say_so():
    """A size in which no arm has a figure is labelled as none."""
    assert "large: none" in by_size(document()["arms"]) and "small: none" not in by_size(document()["arms"])


def test_marks__tell_arms_apart():
    """Seven arms differ in shape or colour."""
    assert len({swatch(index) for index in range(7)}) == 7


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 0.43), (-0.013, 0.11), (0, 103.4), (0, 1e-5), (-0.2, 0.0)])
def test_ticks__round_and_around(low, high):
    """Ticks are 1, 2 or 5 times a power of ten apart, enclose the range, and number 2 to 8."""
    found = ticks(low, high)
    steps = {f"{b - a:.6e}" for a, b in pairwise(found)}
    assert len(steps) == 1 and steps.pop()[0] in "125"
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 8
