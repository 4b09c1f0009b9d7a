"""Writes model cards: what a published network is, what it was trained on, its figures, and where they are lowest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelkeep.report.tables import figure

SIZES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_S")
FEWEST = 10  # with fewer objects than this, a figure says little


@dataclass(frozen=True)
class Card:
    """The data that a card is made from.

    Attributes:
        name: Published name of the network.
        entry: Entry of the network in the manifest.
        figures: Contents of its metrics.json.
        names: Class index to class name.
        limit: Number of detections per image that val keeps by default for the size classes in the figures.
    """

    name: str
    entry: Mapping[str, Any]
    figures: Mapping[str, Any]
    names: Mapping[int, str]
    limit: int


def card_text(card: Card) -> str:
    """Return a card in Markdown; what pictures show of the network's failures is to be added by hand."""
    entry, figures, protocol = card.entry, card.figures, card.figures["protocol"]
    size = protocol["imgsz"]
    parts = [
        f"# {card.name}",
        f"{entry['model']}, {figures['params']:,} parameters, {figures['gflops']:.1f} GFLOPs at {size}; "
        f"{entry['bytes'] / 1e6:.1f} MB in fp16, SHA-256 `{entry['sha256']}`.",
        f"Classes: {', '.join(card.names.values())}.",
        f"    pixelkeep detect --weights {card.name} --source PICTURES",
        "## Trained on",
        f"{entry['data']} ({entry['licence']}). {entry['attribution']}",
        f"    {entry['recipe']}",
        "## Figures",
        f"Split {figures['split']}, {figures['images']} images, {protocol['evaluator']}, at most "
        f"{protocol['max_dets']} detections an image; all of them in [{entry['metrics']}]({entry['metrics']}).",
        f"    {command(card.name, protocol, card.limit)}",
        _table(SIZES, [[figure(figures.get(key)) for key in SIZES]]),
        "## Where it fails",
        _weakest(figures),
        "## Licence",
        "The network and its weights are under AGPL-3.0, as Ultralytics' own; the data under the licence named above.",
    ]
    return "\n\n".join(parts) + "\n"


def command(name: str, protocol: Mapping[str, Any], limit: int) -> str:
    """Return the command that reproduces the figures, with every option that differs from the defaults of ``val``.

    The default limit of detections depends on the size classes: with those of a benchmark it is the benchmark's, such
    as 1,500 an image instead of 300 with ``--bins aitod``.
    """
    size = protocol["imgsz"]
    sides = map(str, size if isinstance(size, list) else [size])
    usual = {"bins": None, "conf": 0.001, "nms_iou": 0.7, "max_dets": limit}
    words = ["pixelkeep val --weights", name, "--data DATA --imgsz", *sides]
    for key, flag in (("bins", "--bins"), ("conf", "--conf"), ("nms_iou", "--iou"), ("max_dets", "--max-det")):
        if protocol.get(key, usual[key]) != usual[key]:
            words += [flag, str(protocol[key])]
    return " ".join(words)


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _weakest(figures: Mapping[str, Any]) -> str:
    """Return tables of the classes and of the sizes, the lowest AP first."""
    classes = [(row["AP"], name, row["gt"]) for name, row in figures["per_class"].items() if row["AP"] is not None]
    sizes = [
        (row["AP"], f"{row['name']}, {_range(row)}", row["gt"]) for row in figures["bins"] if row["AP"] is not None
    ]
    tables = []
    for what, rows in (("class", classes), ("size, square root of the area in pixels", sizes)):
        shown = [
            [name, figure(value), str(count) + (" (few)" if count < FEWEST else "")]
            for value, name, count in sorted(rows)
        ]
        tables.append(_table((what, "AP", "objects"), shown))
    return "\n\n".join(tables)


def _range(row: Mapping[str, Any]) -> str:
    low, high = row["low"], row["high"]
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"
