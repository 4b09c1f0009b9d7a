"""Draws small charts as inline SVG. Their colours are classes of the page's style, for phones, paper and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

W, H = 340, 230  # size in units of the drawing, about pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 12, 40
SHAPES = 4


def swatch(index: int) -> str:
    """Return the mark of an arm for a legend, as an SVG of its own."""
    return f'<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{mark(index, 7, 7)}</svg>'


def mark(index: int, x: float, y: float, r: float = 5) -> str:
    """Return the mark of an arm at a point: a shape and a colour, either of which identifies the arm."""
    kind = f'class="arm{index % 6}"'
    shape = index % SHAPES
    if shape == 0:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    if shape == 1:
        return (
            f'<rect {kind} x="{x - r * 0.9:.1f}" y="{y - r * 0.9:.1f}" width="{r * 1.8:.1f}" height="{r * 1.8:.1f}"/>'
        )
    corners = [(0, -1.2), (1.2, 0.9), (-1.2, 0.9)] if shape == 2 else [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)]
    points = " ".join(f"{x + dx * r:.1f},{y + dy * r:.1f}" for dx, dy in corners)
    return f'<polygon {kind} points="{points}"/>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return evenly spaced round values that cover the range from low to high."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


class Frame:
    """Axes of a chart, which turn values into positions."""

    def __init__(
        self, xs: Sequence[float], ys: Sequence[float], height: float = H, left: float = LEFT, width: float = W
    ) -> None:
        self.xs, self.ys, self.height, self.left, self.width = xs, ys, height, left, width

    def x(self, value: float) -> float:
        return self.left + (value - self.xs[0]) / (self.xs[-1] - self.xs[0]) * (self.width - self.left - RIGHT)

    def y(self, value: float) -> float:
        return self.height - BOTTOM - (value - self.ys[0]) / (self.ys[-1] - self.ys[0]) * (self.height - TOP - BOTTOM)

    def rules(self) -> str:
        """Return the horizontal grid lines with their values."""
        return "".join(
            f'<line class="rule" x1="{self.left}" x2="{self.width - RIGHT}" y1="{self.y(v):.1f}" y2="{self.y(v):.1f}"/>'
            f'<text x="{self.left - 5}" y="{self.y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
            for v in self.ys
        )

    def bar(self, x: float, low: float, high: float, index: int) -> str:
        """Return a vertical error bar."""
        return (
            f'<line class="arm{index % 6}" x1="{x:.1f}" x2="{x:.1f}" y1="{self.y(low):.1f}" y2="{self.y(high):.1f}"/>'
        )


def _svg(label: str, body: str, height: float = H) -> str:
    name = escape(label, quote=True)
    return f'<svg class="chart" role="img" aria-label="{name}" viewBox="0 0 {W} {height}">{body}</svg>'


def ends(figures: dict) -> tuple[float, float]:
    """Return the two ends of an error bar: the mean less and plus the spread over seeds."""
    spread = figures["spread"] or 0.0
    return figures["mean"] - spread, figures["mean"] + spread


def by_size(arms: list[dict]) -> str:
    """Draw the AP of small, medium and large objects for each arm, with the spread over seeds."""
    keys = (("AP_S", "small"), ("AP_M", "medium"), ("AP_L", "large"))
    reached = [
        end
        for arm in arms
        for key, _ in keys
        if arm["figures"][key]["mean"] is not None
        for end in ends(arm["figures"][key])
    ]
    frame = Frame((0, len(keys)), ticks(0, max(reached, default=1.0) or 1.0))
    body = frame.rules()
    for column, (key, name) in enumerate(keys):
        known = any(arm["figures"][key]["mean"] is not None for arm in arms)
        shown = name if known else f"{name}: none"
        body += f'<text x="{frame.x(column + 0.5):.1f}" y="{H - BOTTOM + 20}" text-anchor="middle">{shown}</text>'
        for index, arm in enumerate(arms):
            figures, x = arm["figures"][key], frame.x(column + (index + 1) / (len(arms) + 1))
            if figures["mean"] is not None:
                body += frame.bar(x, *ends(figures), index) + mark(index, x, frame.y(figures["mean"]))
    return _svg("AP by object size", body)


def against_cost(arms: list[dict], costs: Sequence[Sequence[float] | None], unit: str) -> str:
    """Draw the AP_S of each arm against its cost.

    Args:
        arms: The arms, each with ``figures``.
        costs: The cost of each arm, with or without the two ends of its spread after it; None if unknown.
        unit: Unit of the cost.

    Returns:
        The chart; empty if there is nothing to show.
    """
    shown = [
        (index, cost, arm["figures"]["AP_S"])
        for index, (arm, cost) in enumerate(zip(arms, costs, strict=True))
        if cost is not None and arm["figures"]["AP_S"]["mean"] is not None
    ]
    if not shown:
        return ""
    reached = [end for _, _, figures in shown for end in ends(figures)]
    xs = ticks(0, max(max(cost) for _, cost, _ in shown) * 1.05, 4)
    frame = Frame(xs, ticks(0, max(reached) or 1.0))
    body = frame.rules()
    for v in xs:
        body += f'<text x="{frame.x(v):.1f}" y="{H - BOTTOM + 16}" text-anchor="middle">{v:g}</text>'
    body += f'<text x="{(LEFT + W - RIGHT) / 2}" y="{H - 6}" text-anchor="middle">{escape(unit)}</text>'
    for index, cost, figures in shown:
        x, y, low, high = frame.x(cost[0]), frame.y(figures["mean"]), frame.x(min(cost)), frame.x(max(cost))
        body += f'<line class="arm{index % 6}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        body += frame.bar(x, *ends(figures), index) + mark(index, x, y)
    return _svg(f"AP_S against {unit}", body)


def differences(entries: list[dict], order: Sequence[str]) -> str:
    """Draw the differences from the baseline with their intervals, one row each; empty if there are none.

    Args:
        entries: Differences as in a comparison's document.
        order: Names of all arms, in the order of their marks.
    """
    shown = [d for d in entries if d["low"] is not None]
    if not shown:
        return ""
    row, top = 40, 4
    height = top + row * len(shown) + BOTTOM
    xs = ticks(min(0.0, *(d["low"] for d in shown)), max(0.0, *(d["high"] for d in shown)), 4)
    frame = Frame(xs, (0, 1), height, left=20)
    bottom = height - BOTTOM + 4
    body = "".join(
        f'<line class="{"zero" if v == 0 else "rule"}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{f"{v:+g}" if v else 0}</text>'
        for v, x in zip(xs, map(frame.x, xs), strict=True)
    )
    for place, d in enumerate(shown):
        index, y = order.index(d["arm"]), top + row * place + 28
        name = d["arm"] if len(d["arm"]) <= 34 else f"{d['arm'][:33]}…"
        body += f'<text class="over" x="{frame.left}" y="{y - 11}">{escape(name)} {d["metric"]}</text>'
        low, high = frame.x(d["low"]), frame.x(d["high"])
        body += f'<line class="arm{index % 6}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
        body += mark(index, frame.x(d["value"]), y)
    return _svg("Differences from the baseline with 95 % intervals", body, height)
