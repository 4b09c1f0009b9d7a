"""Writes the doctor's document as text for the terminal: what is wrong, then advice, then the numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from pixelkeep.report.tables import WIDTH, text_table

SIGNS = {"error": "!!", "warning": "! ", "note": "- "}
CLASSES = 20  # most rows in the table of classes


def doctor_text(document: Mapping[str, Any]) -> str:
    """Return the document as text, at most 80 columns wide.

    Args:
        document: The doctor's document, described in docs/doctor.md.
    """
    parts = [
        _findings(document["findings"]),
        _advice(document["advice"]),
        _splits(document["splits"]),
        _classes(document["splits"]),
        _sizes(document["sizes"]),
        _limits(document),
    ]
    if document["validation"]:
        parts.insert(2, _validation(document["validation"], document["sizes"]["goal"]))
    return "\n\n".join(parts)


def _findings(findings: list[dict]) -> str:
    if not findings:
        return "WHAT IS WRONG\nNothing was found."
    lines = [_wrapped(f"{SIGNS[finding['level']]} {finding['text']}", "   ") for finding in findings]
    return "\n".join(["WHAT IS WRONG  (!! spoils figures or training, ! loses objects, - note)", *lines])


def _advice(advice: list[dict]) -> str:
    lines = []
    for item in advice:
        lines.append(_wrapped(f"{item['kind']:<11} {item['text']}", " " * 12))
        lines.append(_wrapped(f"{'':<11} because {item['why']}", " " * 12))
    return "\n".join(["ADVICE", *lines])


def _splits(splits: Mapping[str, dict]) -> str:
    header = ["split", "images", "left out", "background", "objects", "median an image", "most"]
    rows = [
        [
            name,
            f"{own['images']:,}",
            f"{own['left_out']:,}",
            f"{own['background']:,}",
            f"{own['objects']:,}",
            f"{own['per_image']['median']:g}",
            f"{own['per_image']['max']:,}",
        ]
        for name, own in splits.items()
    ]
    return f"NUMBERS\n{text_table(header, rows)}"


def _classes(splits: Mapping[str, dict]) -> str:
    names = sorted(next(iter(splits.values()))["classes"], key=lambda name: _total(splits, name))
    hidden = len(names) - CLASSES  # the classes with the fewest objects are shown
    rows = [[_cut(name), *(f"{own['classes'][name]:,}" for own in splits.values())] for name in names[:CLASSES]]
    more = f"\nand {hidden} classes with more objects" if hidden > 0 else ""
    return text_table(["class", *splits], rows) + more


def _total(splits: Mapping[str, dict], name: str) -> int:
    return sum(own["classes"][name] for own in splits.values())


def _sizes(sizes: Mapping[str, Any]) -> str:
    """Return tables of object sizes: percentiles and shares in image and network pixels, and bins of image pixels."""
    percentiles = list(sizes["original"]["percentiles"])
    spread = text_table(
        ["side, sqrt(area), px", *(f"{p} %" for p in percentiles)],
        [
            [what, *(f"{sizes[key]['percentiles'][p]:.1f}" for p in percentiles)]
            for what, key in (("in the images", "original"), ("in the network", "network"))
        ],
    )
    limits = list(sizes["network"]["under"])
    shares = text_table(
        ["share of objects", *(f"< {limit} px" for limit in limits)],
        [
            [what, *(_percent(sizes[key]["under"].get(limit)) for limit in limits)]
            for what, key in (("in the images", "original"), ("in the network", "network"))
        ],
    )
    bins = text_table(
        ["in the images, px", "objects", f">= {sizes['goal']:g} px in the network"],
        [[_span(row), f"{row['objects']:,}", _percent(row["above_goal"])] for row in sizes["bins"]],
    )
    return f"{spread}\n\n{shares}\n\n{bins}"


def _limits(document: Mapping[str, Any]) -> str:
    anchors, lost, density = (document[key] for key in ("anchors", "augmentation", "density"))
    lines = [
        f"train objects without an anchor at best: {anchors['unassigned']:,} ({anchors['share']:.1%})",
        f"views of train objects with a side of {lost['limit']:g} px or less: {lost['views']:.1%} at scale "
        f"{lost['scale']:g}, {lost['unscaled']:.1%} without scaling",
        f"objects of the densest image: {density['densest']:,}; our limit of detections {density['limit']:,}, "
        "Ultralytics' 300, COCO's 100",
        f"near-duplicate pairs across splits: {document['duplicates']['count']:,}",
    ]
    return "\n".join(_wrapped(line, "  ") for line in lines)


def _validation(validation: Mapping[str, Any], goal: float) -> str:
    header = ["in the images, px", "objects", f">= {goal:g} px", "recall", "missed", "badly placed", "wrong class"]
    rows = [
        [
            _span(row),
            f"{row['objects']:,}",
            _percent(row["above_goal"]),
            _percent(row["recall"]),
            *(f"{row[kind]:,}" for kind in ("missed", "badly_placed", "wrong_class")),
        ]
        for row in validation["sizes"]
    ]
    return f"VALIDATION  {validation['weights']}\n{text_table(header, rows)}"


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.1%}"


def _span(row: Mapping[str, Any]) -> str:
    return f"{row['low']:g}-" if row["high"] is None else f"{row['low']:g}-{row['high']:g}"


def _cut(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
