"""The final tables of classification and segmentation, in 80 columns."""

from __future__ import annotations

import numpy as np

from pixelkeep.evaluation.label_result import LabelProtocol
from pixelkeep.evaluation.labels import ConfusionMatrix, score_classes
from pixelkeep.report.label_tables import task_table

PROTOCOL = LabelProtocol(imgsz=64, precision="fp32", device="cpu", seed=0)


def test_classify__table():
    """The table has the accuracy of each class, marks a class of few images, and shows n/a for one without any."""
    truth = np.repeat([0, 1], [40, 10])
    result = score_classes(truth, np.stack([np.zeros(50, int), np.ones(50, int)], 1), ["cat", "dog", "newt"])
    result.protocol, result.split = PROTOCOL, "val"
    assert task_table(result).splitlines() == [
        "class  images  top-1",
        "-----  ------  -----  -------------------",
        "all        50  0.800",
        "cat        40  1.000",
        "dog        10  0.000  too few images (10)",
        "newt        0    n/a",
        "",
        "Top-5 1.000, as always with five classes or fewer; 50 images (val), imgsz 64,",
        "fp32.",
    ]


def test_semantic__table():
    """The table has each class's share of the pixels, IoU and accuracy; names that are too long are cut."""
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]]))
    result = matrix.score(["land", "water " * 20, "ice"])
    result.protocol, result.split = PROTOCOL, "test"
    lines = task_table(result).splitlines()
    assert lines[2].split() == ["all", "0.583", "0.750"] and lines[3].split() == ["land", "75.00%", "0.667", "0.667"]
    assert lines[5].split() == ["ice", "0.00%", "n/a", "n/a"] and all(len(line) <= 80 for line in lines)
    assert lines[-1] == "Pixels counted at the images' original size; 1 images (test), imgsz 64, fp32."
    result.active_fraction = 0.2312
    assert " ".join(task_table(result).split()).endswith("imgsz 64, fp32, 23.1% of the regions active.")
