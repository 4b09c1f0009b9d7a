"""Texts on contrasts for the terminal and docs/results.md: from the summaries alone, with all gaps named."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from copy import deepcopy

import pytest

from pixelkeep.report.evidence import as_text, needed
from pixelkeep.report.results import MISSING, alike, contrast_section, machines, plot, uneven, what


def figures(mean: float) -> dict:
    keys = ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR_S")
    return {key: {"mean": mean, "spread": 0.004, "values": [mean, mean]} for key in keys}


def arm(name: str, mean: float | None, gflops: float | None, **others: object) -> dict:
    there = mean is not None
    latency = {"ms": 4.25, "low": 4.0, "high": 4.5, "ratio": 1.0} if there else None
    entry = {"name": name, "model": name, "settings": {}, "equal_cost": False, "imgsz": 640, "params": 2e6}
    entry |= {"gflops": gflops, "latency": latency, "least_s": [120.0, 180.0] if there else [None, None]}
    return entry | {"seeds": {"done": 2 * there, "of": 2}, "val": figures(mean) if there else None} | others


ANSWER = {
    "arm": "yolov5-spd-n", "against": "yolov5-n", "value": 0.03, "low": 0.022, "high": 0.038, "verdict": "better",
    "relative": {"value": 0.1, "low": 0.07, "high": 0.131},
    "note": None, "half": 0.008, "images": 0.006, "seeds": 2, "enough": 0.01, "done": True, "equal_cost": False,
}  # fmt: skip
SUMMARY = {
    "contrast": "1-plain", "question": "Does it?", "form": "full", "notice": None, "split": "val", "asked": "val",
    "best": None, "baseline": "yolov5-n", "trainings": {"done": 4, "of": 6}, "done": False, "answers": [ANSWER],
    "arms": [arm("yolov5-n", 0.30, 7.7), arm("yolov5-spd-n", 0.33, 12.0), arm("yolov5-n w0.31", None, None)],
    "failed": [], "left_out": {}, "closed": None, "precision": "fp32", "image_size": [512, 640], "total_s": 7260,
    "images": 311, "groups": 21, "command": "python scripts/evidence.py 1-plain", "latency": None,
    "machines": [{"python": "3.11", "cpus": 16, "gpus": ["H200"], "packages": {"torch": "2.11", "polars": None}}],
}  # fmt: skip


def changed(**changes: object) -> dict:
    return deepcopy(SUMMARY) | changes


def test_text__figures_answers_and_gaps():
    """Trained arms have their figures and minutes, others say "not run", and lines fit 80 columns."""
    text = as_text([SUMMARY], {"3-recipe": "waits for 1-plain"})
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if line.startswith("yolov5-spd-n ") and "12" in line)
    assert row.split() == "yolov5-spd-n 2/2 0.330 ± 0.004 0.330 ± 0.004 12 2.0".split()
    assert text.count(MISSING) == 3 and "3-recipe: not run, waits for 1-plain" in text
    assert "+0.030  +0.022 to +0.038  better\n" in text
    assert "yolov5-spd-n against yolov5-n +10 % (+7 to +13)." in " ".join(text.split())
    assert "1-plain: 2 trainings to go; the same command goes on." in text


def test_text__done_is_said():
    """A finished contrast says that it is done and does not ask for more seeds."""
    text = as_text([changed(done=True, trainings={"done": 6, "of": 6})], {})
    assert "1-plain is done" in " ".join(text.split()) and "seeds of each" not in text


def test_text__early_gives_no_verdict():
    """Early training shows its figures and never a verdict, whatever the summary holds."""
    early = changed(form="early", notice="early training, no verdict")
    text = as_text([early], {})
    assert "better" not in text and text.count("early training, no verdict") == 2
    section = contrast_section("1-plain", "Does it?", {}, "early", early)
    assert "better" not in section and "none: early" in section and "Early training, no verdict" in section


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"done": False, "half": 0.02, "seeds": 7}, "±0.020; about 7 seeds of each in all would bring it to ±0.01."),
        ({"done": False, "half": 0.03, "images": 0.015, "seeds": None}, "the images alone leave ±0.015; no number"),
        ({"done": False, "half": None, "images": 0.005, "seeds": None}, "with one seed there is no telling"),
        ({"done": False, "half": None, "images": None, "seeds": None}, "no interval yet"),
        ({"done": False, "half": 0.05, "seeds": None}, "more seeds than are worth training"),
    ],
)
def test_needed__what_an_interval_lacks(changes, told):
    """The text says what would bring an interval to one point, or that nothing would."""
    said = needed(ANSWER | changes)
    assert said is None if told is None else told in said


def test_section__not_run():
    """In the section of a contrast without results, every figure says "not run"."""
    section = contrast_section(
        "2-blocks", "Do they?", {"a": "yolov5-n", "b": what("yolov5-n", {"nwd": 0.5})}, "full", None
    )
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert [row.count(MISSING) for row in rows] == [8, 8] and "yolov5-n, nwd 0.5" in rows[1]
    assert not any(character.isdigit() for character in rows[0].replace("yolov5", ""))


def test_section__every_number_is_the_summarys():
    """The section's figures are the summary's, cell by cell."""
    section = contrast_section("1-plain", "Does it?", {}, "full", SUMMARY)
    row = next(line for line in section.splitlines() if line.startswith("| `yolov5-spd-n` | yolov5-spd-n"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["`yolov5-spd-n`", "yolov5-spd-n, 640 px", "2 of 2", *["0.330 ± 0.004"] * 4, "12", "4.2", "2.0"]
    assert "| `yolov5-spd-n` | `yolov5-n` | +0.030 | +0.022 to +0.038 | +10 % (+7 to +13) | better |" in section
    assert "    python scripts/evidence.py 1-plain" in section and "On val, 311 images in 21 groups" in section
    assert "4 of 6 trainings, in fp32. They took 2.0 hours together." in section


def test_machines__each_once():
    """Contrasts that ran on one machine share its row; packages that are missing are not named."""
    text = machines([SUMMARY, changed(contrast="2-blocks")])
    assert text.count("H200") == 1 and "1-plain (full), 2-blocks (full)" in text and "polars" not in text
    assert machines([]) == "Nothing has been run."


def test_gaps__what_is_missing_is_named():
    """Failed trainings, arms left out and a closed val split are named in the text and the section."""
    holes = changed(
        failed=[{"training": "a seed 1", "reason": "no room"}], left_out={"p2": "there is no x-p2-n"}, asked="test",
        closed="val stays closed: more seeds",
    )  # fmt: skip
    for text in (as_text([holes], {}), contrast_section("1-plain", "Does it?", {}, "full", holes)):
        said = " ".join(text.split())
        assert "a seed 1 failed, and is missing: no room." in said and "p2 is left out: there is no x-p2-n." in said
        assert "al stays closed: more seeds." in said
    assert "1 trainings to go" in " ".join(as_text([holes], {}).split())  # one of the two missing trainings has failed


def test_uneven__a_rectangle_beside_squares_is_told():
    """An arm with less padding is reported: 640x512 images have 1.89 times the pixels in 352x480 as in 320x320."""
    arms = [arm("yolov5-n", 0.3, 1.766, imgsz=320), arm("yolov5-n 352x480", 0.3, 2.915, imgsz=[352, 480])]
    arms[1]["equal_cost"] = True
    (told,) = uneven(changed(arms=arms))
    assert "1.89 times the pixels of `yolov5-n` for 1.65 times its GFLOPs" in told
    arms[1] |= {"imgsz": [416, 416], "gflops": 1.766 * 1.69}
    assert uneven(changed(arms=arms)) == []
    arms[1] |= {"imgsz": 320, "gflops": 1.1}  # narrower, on the same images
    assert uneven(changed(arms=arms)) == []


def test_alike__figures_share_a_figure_where_all_is_the_same():
    """Contrasts of the same split, settings and precision share a figure with each arm once; others stand alone."""
    facts = {"settings": {"imgsz": 320}, "form": "full"}
    one = changed(**facts)
    two = changed(contrast="5-others", arms=[arm("yolov5-n", 0.30, 7.7), arm("yolo11-n", 0.31, 6.5)], **facts)
    other = changed(contrast="9-other", precision="bf16", **facts)
    (split, members, arms), (_, alone, _) = alike([one, two, other])
    assert split == "val" and [entry["contrast"] for entry in members] == ["1-plain", "5-others"]
    assert [entry["name"] for entry in arms] == ["yolov5-n", "yolov5-spd-n", "yolo11-n"] and alone == [other]
    more = changed(contrast="7-more", **facts)
    more["arms"][0]["seeds"] = {"done": 9, "of": 9}
    for several in ([one, more], [more, one]):
        ((_, _, arms),) = alike(several)
        assert arms[0]["seeds"]["done"] == 9  # the figures of the most seeds


def test_plot__a_mark_for_each_arm_that_is_there():
    """The drawing is valid XML with a mark and a name for each trained arm, placed higher for a higher AP_S."""
    root = ET.fromstring(plot(SUMMARY["arms"], "val", None))
    space = "{http://www.w3.org/2000/svg}"
    inner = root.find(f"{space}svg")
    circle, square = inner.find(f"{space}circle"), inner.find(f"{space}rect")
    assert float(square.get("y")) < float(circle.get("cy")) and float(square.get("x")) > float(circle.get("cx"))
    names = [text.text for text in root.findall(f"{space}text")]
    assert names == ["AP_S on val", "yolov5-n, stock", "yolov5-spd-n, published block"]
    assert plot([arm("yolov5-n", None, None)], "val", None) is None
