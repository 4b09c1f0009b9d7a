"""A comparison in the terminal and in Markdown has every figure in its cell and n/a for undefined ones."""

from __future__ import annotations

import pytest
from comparing import FIGURES, arm, at_equal_cost, difference, document

from pixelkeep.report.comparison import as_markdown, as_text, notes, tables


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_text__figures_with_their_spread():
    """Means and their spread over seeds have three digits; undefined figures are n/a."""
    text = as_text(document())
    assert ["yolov5-spd-n", "3", *"0.341 ± 0.010 0.581 ± 0.010 0.243 ± 0.010".split()] in rows(text)
    assert ["yolov5-spd-n", *"0.411 ± 0.010 n/a 0.372 ± 0.010".split()] in rows(text)
    assert "812 small, 301 medium and 0 large objects" in " ".join(text.split())


def test_text__cost():
    """The table has parameters in millions, GFLOPs, latency with its middle half, and its ratio to the baseline's."""
    assert ["yolov5-spd-n", "640", "4.05", "11.5", "32.4", "(30.8", "to", "36.5)", "1.62"] in rows(as_text(document()))
    made = document(latency=None)
    for entry in made["arms"]:
        entry |= {"latency": None, "params": None, "gflops": None}
    assert ["yolov5-n", "640", "n/a", "n/a", "n/a", "n/a"] in rows(as_text(made))
    assert "Latency" not in as_text(made) and "above 1 is slower" not in as_text(made)
    assert "x time: times as long as the baseline takes, above 1 is slower." in " ".join(as_text(document()).split())


def test_text__differences_with_verdicts():
    """A difference has its sign, interval and verdict; without a verdict a note says why."""
    text = as_text(document())
    assert ["yolov5-spd-n", "AP_S", "+0.042", "+0.022", "to", "+0.062", "better"] in rows(text)
    assert "yolov5-slicesamp-up-n AP_S: too few objects: 30 leave it uncertain" in text
    shown = ["yolov5-slicesamp-up-n", "AP_S", "+0.007", "-0.013", "to", "+0.027", "too", "few", "objects"]
    assert shown in rows(text)  # the table gives the reason as well as the note
    assert "missing: yolov5-spd-s seed 2 failed: OutOfMemoryError: CUDA out of memory" in text


def test_text__a_single_seed():
    """With one seed there is no spread, and "images only" in place of a verdict."""
    figures = [arm(name, *[0.5] * 6, seeds=1) for name in ("yolov5-n", "yolov5-s")]
    of = [difference("yolov5-s", key, 0.01, None, seeds=[1, 1], note="images only: so") for key in ("AP", "AP_S")]
    made = document(arms=figures, differences=of, failed=[])
    assert ["yolov5-s", "1", "0.500", "0.500", "0.500"] in rows(as_text(made))
    assert ["yolov5-s", "AP", "+0.010", "-0.010", "to", "+0.030", "images", "only"] in rows(as_text(made))
    assert notes(made) == ["images only: so"]  # the note is given once, as it is the same for all


def test_text__undefined_difference():
    """A difference in a size without objects is n/a and has no verdict."""
    made = document(differences=[difference("yolov5-spd-n", "AP_S", None, None, note="no objects")])
    assert ["yolov5-spd-n", "AP_S", "n/a", "n/a", "no", "verdict"] in rows(as_text(made))


@pytest.mark.parametrize("name", ["yolov5-slicesamp-up-n", "x" * 60])
def test_text__fits_the_terminal(name):
    """Long names are cut in the terminal but not in Markdown."""
    made = document(arms=[arm(name, *[0.5] * 6, cost=40), *document()["arms"]], differences=[])
    made["differences"] = [difference(name, "AP_S", -0.1, "not distinguishable")]
    assert max(map(len, as_text(made).splitlines())) <= 80
    assert name in as_markdown(made)


def test_markdown__tables_hold_the_same():
    """Markdown has the same tables as the terminal, and markup in names is escaped."""
    text = as_markdown(document(name="a|b_c"))
    assert "| yolov5-spd-n | AP\\_S | +0.042 | +0.022 to +0.062 | better |" in text
    assert text.startswith("# Comparison: a\\|b\\_c\n")
    for table in text.split("## ")[1:]:
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_groups__are_told():
    """The number of groups and their pattern are named if groups are resampled."""
    assert "120 images (val) in 9 groups by cam_" in " ".join(as_text(document(groups=9, group="cam_")).split())
    assert set(FIGURES) == set(document()["arms"][0]["figures"])


def test_equal_cost__table_by_variant():
    """Each rival has its difference, and the stronger one a star and the verdict; sizes and ratios are shown."""
    made = document(**at_equal_cost())
    found = rows(as_text(made))
    assert ["yolov5-spd-n", "at", "equal", "GFLOPs"] in found
    assert ["yolov5-n", "w0.3203", "*", "AP_S", "+0.021", "+0.001", "to", "+0.041", "better"] in found
    assert ["yolov5-n", "AP_S", "+0.042", "+0.022", "to", "+0.062"] in found  # no verdict, as it is not the stronger
    assert ["yolov5-n", "1280x1248", "1280x1248", "4.00", "11.4", "32.0", "(30.4", "to", "36.0)", "1.60"] in found
    told = "yolov5-spd-n has 1.62 times the GFLOPs of yolov5-n; relative to yolov5-spd-n: "
    assert f"{told}yolov5-n w0.3203 1.00, yolov5-n 1280x1248 1.09" in notes(made)
    assert "| yolov5-n w0.3203 \\* | AP\\_S | +0.021 | +0.001 to +0.041 | better |" in as_markdown(made)


def test_equal_cost__of_a_single_seed():
    """Where a rival has one seed, the table says "images only" in place of a verdict."""
    made = at_equal_cost(verdict=None)
    made["equal_cost"][0]["note"] = "images only: so"
    text = as_text(document(**made))
    assert text.count("  images only\n") == 1


def test_equal_cost__what_is_missing():
    """Notes name missing arms, a kind of rival that does not exist, and weights that fit no other width."""
    made = document(**at_equal_cost(), settings={"pretrained": "/best.pt"})
    entry = made["equal"]["variants"]["yolov5-spd-n"]
    del entry["arms"]["yolov5-n 1280x1248"]
    made["arms"] = made["arms"][:4]
    told = notes(made)
    assert "no image size of yolov5-n comes nearer to the GFLOPs of yolov5-spd-n than yolov5-n itself" in told
    assert "yolov5-spd-n has no verdict at equal GFLOPs, for want of yolov5-n w0.3203" in told
    assert any("the pretrained weights fit no other width" in note for note in told)


def test_equal_cost__fits_the_terminal():
    """Long names are cut in the middle, so that scale, width and image size stay visible."""
    long = "yolov5-slicesamp-up-of-mine-n"
    made = document(**at_equal_cost(long))
    for joint in made["equal_cost"]:
        for entry in joint["differences"]:
            entry["baseline"] = entry["baseline"].replace("yolov5", "yolov5-with-a-long-name")
        joint |= {"stronger": joint["stronger"].replace("yolov5", "yolov5-with-a-long-name")}
        joint |= {"verdict": "not distinguishable"}
    text = as_text(made)
    tables = text.split("\n\n")
    assert max(map(len, text.splitlines())) <= 80
    (table,) = [each for each in tables if "at equal GFLOPs\n" in each]
    assert table.count("0.3203 *") == 2 and table.count("…") == 6


def test_cost__active_regions_where_a_model_adapts():
    """If a model adapts, a column shows its share of active regions and is blank for the others; else there is none."""
    made = document()
    (cost,) = (table for table in tables(made) if table.title == "Cost")
    assert cost.header[-1] == "x time"
    made["arms"][1]["active_fraction"] = 0.2312
    (cost,) = (table for table in tables(made) if table.title == "Cost")
    assert cost.header[-1] == "active" and [row[-1] for row in cost.rows] == ["", "23.1%", "", ""]
    assert max(map(len, as_text(made).splitlines())) <= 80


def test_verdicts__are_aligned_as_words():
    """Verdicts are aligned left, in the terminal and in Markdown, and figures right."""
    text = as_text(document())
    (table,) = [part.splitlines() for part in text.split("\n\n") if part.startswith("Against")]
    place = table[1].index("verdict")
    assert {line[place - 1] for line in table[1:]} == {" "} and " " not in {line[place] for line in table[1:]}
    assert len({line[place:] for line in table[3:]}) > 1  # verdicts of several lengths
    against = as_markdown(document()).split("## Against")[1]
    assert "| :-- | :-- | --: | --: | :-- |" in against.split("## ")[0]
