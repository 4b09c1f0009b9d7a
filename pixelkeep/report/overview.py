"""Draws all arms that were trained alike in one figure, AP_S against GFLOPs, each mark with its name beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product

from pixelkeep.report.charts import BOTTOM, LEFT, RIGHT, Frame, ends, mark, ticks

WIDTH, HEIGHT, HEAD = 760, 440, 52  # units of the drawing; of the head, which holds the note and the legend
OWN_SETTINGS = "with the recipe, or a part of it"
KINDS = ("stock", "published block", "own design", OWN_SETTINGS)  # in the order of their marks
LETTER, LINE = 6.8, 13.0  # width and height of a letter in units; fonts differ a little
AROUND = (0, 180, 45, -45, 135, -135, 90, -90, 20, -20, 160, -160)  # directions of a label from its mark, in degrees
AWAY = (10, 18, 28, 40, 54, 70)  # distances of a label from its mark, the nearest first
LED = 18  # distance from which a line leads from the mark to its label
_STYLE = (
    "text{fill:#59636e;font:12px 'Segoe UI',Roboto,'DejaVu Sans',sans-serif}.rule{stroke:#d5dae0}"
    "line[class^=arm]{stroke-width:2;stroke-linecap:round;opacity:.55}"
    ".sizes{fill:none;stroke:#6b7480;stroke-width:1.5;stroke-dasharray:5 4}"
    ".arm0{fill:#6b7480;stroke:#6b7480}.arm1{fill:#0072b2;stroke:#0072b2}.arm2{fill:#d55e00;stroke:#d55e00}"
    ".arm3{fill:#009e73;stroke:#009e73}"
)
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """An arm in the figure.

    Attributes:
        name: Name to write beside its mark.
        kind: One of `KINDS`.
        cost: GFLOPs of one image.
        figures: AP_S with ``mean`` and ``spread`` over seeds.
        on_curve: Whether the dashed line of the baseline on other image sizes goes through it.
    """

    name: str
    kind: str
    cost: float
    figures: dict
    on_curve: bool = False


def overview(points: Sequence[Point], note: str, curve: str) -> str:
    """Return the figure as the text of an SVG file.

    Args:
        points: The arms, at least one.
        note: Which figures these are, and a caveat that applies to all of them.
        curve: What the dashed line shows; it is drawn through three or more points.
    """
    xs = ticks(0, max(point.cost for point in points) * 1.05, 6)
    ys = ticks(0, max(high for point in points for high in ends(point.figures)) or 1.0)
    frame = Frame(xs, ys, HEIGHT, width=WIDTH)
    body = frame.rules() + "".join(
        f'<text x="{frame.x(v):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{v:g}</text>' for v in xs
    )
    body += f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">GFLOPs an image</text>'
    line = sorted((frame.x(p.cost), frame.y(p.figures["mean"])) for p in points if p.on_curve)
    drawn = len(line) > 2
    if drawn:
        body += f'<polyline class="sizes" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>'
    for point in points:
        body += frame.bar(frame.x(point.cost), *ends(point.figures), KINDS.index(point.kind))
    for point in points:
        body += mark(KINDS.index(point.kind), frame.x(point.cost), frame.y(point.figures["mean"]))
    body += _names(points, frame)
    head = _legend([kind for kind in KINDS if any(point.kind == kind for point in points)], curve if drawn else None)
    told, height = escape(note), HEAD + HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{told}"><style>{_STYLE}</style><rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="14" y="18">{told}</text>{head}<g transform="translate(0 {HEAD})">{body}</g></svg>\n'
    )


def _legend(kinds: Sequence[str], curve: str | None) -> str:
    body, x = "", 20.0
    for kind in kinds:
        body += mark(KINDS.index(kind), x, 38) + f'<text x="{x + 10:.1f}" y="42">{kind}</text>'
        x += 30 + 6 * len(kind)  # small letters are narrower than figures
    if curve:
        body += f'<line class="sizes" x1="{x:.1f}" x2="{x + 24:.1f}" y1="38" y2="38"/>'
        body += f'<text x="{x + 30:.1f}" y="42">{escape(curve)}</text>'
    return body


def _names(points: Sequence[Point], frame: Frame) -> str:
    """Draw each name where it covers least: other marks, their error bars, and the names that stand already."""
    taken: list[Box] = []
    for point in points:
        x, y = frame.x(point.cost), frame.y(point.figures["mean"])
        low, high = ends(point.figures)
        taken += [(x - 6, y - 6, x + 6, y + 6), (x - 2, frame.y(high), x + 2, frame.y(low))]
    body = ""
    for point in sorted(points, key=lambda p: (p.figures["mean"], p.cost), reverse=True):
        x, y = frame.x(point.cost), frame.y(point.figures["mean"])
        away, anchor, box = min(_places(x, y, point.name), key=lambda each: _covered(each[2], taken) + each[0])
        taken.append(box)
        if away >= LED:
            near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
            body += f'<line class="rule" x1="{x:.1f}" y1="{y:.1f}" x2="{near[0]:.1f}" y2="{near[1]:.1f}"/>'
        at = {"start": box[0], "middle": (box[0] + box[2]) / 2, "end": box[2]}[anchor]
        body += f'<text x="{at:.1f}" y="{box[3] - 3:.1f}" text-anchor="{anchor}">{escape(point.name)}</text>'
    return body


def _places(x: float, y: float, name: str) -> Iterator[tuple[float, str, Box]]:
    """Yield the places for a name beside a mark: the distance, where the name is anchored, and its box."""
    width = LETTER * len(name)
    for away, degrees in product(AWAY, AROUND):
        dx, dy = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
        anchor, share = ("middle", 0.5) if abs(dx) < 0.5 else ("start", 0.0) if dx > 0 else ("end", 1.0)
        left, top = x + away * dx - share * width, y + away * dy - LINE / 2
        yield away, anchor, (left, top, left + width, top + LINE)


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Return how much of what stands already a box covers, in square units, and of the outside of the figure."""
    left, top, right, bottom = box
    outside = max(0.0, LEFT - left) + max(0.0, right - WIDTH) + max(0.0, bottom - HEIGHT + BOTTOM) + max(0.0, -top)
    shared = sum(
        max(0.0, min(right, r) - max(left, lft)) * max(0.0, min(bottom, b) - max(top, t)) for lft, t, r, b in taken
    )
    return shared + 100 * outside
