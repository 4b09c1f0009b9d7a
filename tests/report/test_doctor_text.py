"""The doctor's document as text (worst first, 80 columns, n/a for what is undefined) and its pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pixelkeep.datasets.doctor.report import size_facts
from pixelkeep.report.doctor import doctor_text
from pixelkeep.report.pair_sheet import MOST, pair_sheet
from pixelkeep.report.size_plot import size_plot

LONG = "a very long sentence about what is wrong with " + "images/train/" + "x" * 20 + ".png, again and again and again"


def document(**changes) -> dict:
    original = np.array([5.0, 9, 20, 40])
    split = {
        "images": 1234567,
        "left_out": 1,
        "background": 0,
        "objects": 4,
        "per_image": {"median": 2.5, "max": 12345},
        "classes": {f"class {i} {'n' * 60}": i for i in range(30)},
    }
    return {
        "findings": [{"level": "error", "text": LONG}, {"level": "note", "text": "small"}],
        "advice": [{"kind": "image size", "text": LONG, "why": LONG}],
        "splits": {"train": split, "val": split, "test": split},
        "sizes": size_facts(original, original / 2, (4, 8, 16, 32), 6),
        "anchors": {"unassigned": 3, "share": 0.5},
        "augmentation": {"limit": 2, "views": 0.1, "scale": 0.5, "unscaled": 0},
        "density": {"densest": 10, "limit": 300},
        "duplicates": {"count": 0},
        "validation": None,
        **changes,
    }


def validation() -> dict:
    kinds = {"missed": 1000, "badly_placed": 2000, "wrong_class": 3000}
    rows = [
        {"low": 0, "high": 8, "objects": 100000, "above_goal": 1.0, "recall": None, **kinds},
        {"low": 96, "high": None, "objects": 5, "above_goal": 0.5, "recall": 0.25, **kinds},
    ]
    return {"weights": "w.pt", "sizes": rows}


def test_text__fits_and_puts_the_worst_first():
    """The text has findings, advice, validation and numbers in this order, within 80 columns."""
    text = doctor_text(document(validation=validation()))
    assert max(map(len, text.splitlines())) <= 80
    heads = [text.index(head) for head in ("WHAT IS WRONG", "ADVICE", "VALIDATION", "NUMBERS")]
    assert heads == sorted(heads)
    assert text.index("!! a very long") < text.index("-  small")


def test_text__shows_the_rarest_classes_and_n_a():
    """Among many classes those with the fewest objects are shown; undefined figures are n/a."""
    text = doctor_text(document(validation=validation()))
    assert "class 0 " in text and "class 25" not in text and "and 10 classes with more objects" in text
    assert "n/a" in text
    assert "Nothing was found." in doctor_text(document(findings=[]))


def test_pair_sheet__shows_both_pictures():
    """Both pictures of each pair are shown, for no more pairs than there is room for."""
    colours = {"a.png": (0, 0, 255), "b.png": (255, 0, 0)}  # BGR

    def read(path: Path) -> np.ndarray:
        return np.full((100, 200, 3), colours[path.name], np.uint8)

    pairs = [(Path("a.png"), Path("b.png"), "3 bits")] * (MOST + 5)
    sheet = np.asarray(pair_sheet(pairs, read, "note"))
    one = np.asarray(pair_sheet(pairs[:1], read, "note"))
    red, blue = (np.abs(one.astype(int) - rgb).sum(2) < 30 for rgb in ((255, 0, 0), (0, 0, 255)))
    assert red.sum() == blue.sum() == 300 * 150
    assert (np.abs(sheet.astype(int) - (255, 0, 0)).sum(2) < 30).sum() == MOST * 300 * 150


def test_size_plot__is_a_picture_with_marks():
    """A PNG with the cells' orange and the goal's green."""
    sides = np.random.default_rng(0).lognormal(3, 0.7, 500)
    picture = np.asarray(Image.open(io.BytesIO(size_plot(sides / 2, sides, (8, 16, 32), 12, "t"))).convert("RGB"))
    for rgb in ((213, 94, 0), (0, 158, 115)):
        assert (np.abs(picture.astype(int) - rgb).sum(2) < 12).sum() > 100
