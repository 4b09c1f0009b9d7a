"""Plots a histogram of object sizes in the network's input and in the images, with the cells of the head's levels."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

MARKS = (8, 16, 32)  # sizes in pixels that are marked in any case
STEPS = 4  # bars for each doubling of the size
_SHOWN, _ORIGINAL, _CELL, _GOAL = "#0072B2", "#444444", "#D55E00", "#009E73"  # Okabe and Ito's colours


def size_plot(shown: np.ndarray, original: np.ndarray, strides: Sequence[int], goal: float, title: str) -> bytes:
    """Plot the histogram and return it as a PNG.

    Args:
        shown: (n,) square roots of the objects' areas in pixels of the network's input, n at least 1.
        original: (n,) the same in pixels of the images.
        strides: Strides of the head's levels.
        goal: Size in network pixels that objects should have.
        title: Title of the plot.
    """
    from matplotlib.figure import Figure  # slow to import

    low = np.floor(np.log2(max(min(shown.min(), original.min(), 4), 0.5)))
    high = np.ceil(np.log2(max(shown.max(), original.max(), 64)))
    edges = 2 ** np.linspace(low, high, round((high - low) * STEPS) + 1)
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.hist(np.maximum(shown, edges[0]), edges, color=_SHOWN, alpha=0.75, label="in the network's input")
    kept = np.maximum(original, edges[0])
    axes.hist(kept, edges, histtype="step", color=_ORIGINAL, linewidth=1.4, label="in the images")
    axes.set_xscale("log", base=2)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.16)
    for mark in sorted({*MARKS, *strides}):
        cell = mark in strides
        axes.axvline(mark, color=_CELL if cell else "#999999", linestyle="-" if cell else ":", linewidth=1.2)
        level = f"P{round(np.log2(mark))} cell" if cell else ""
        axes.text(mark, top * 1.15, f" {level}\n {mark}", va="top", fontsize=8, color=_CELL if cell else "#777777")
    axes.axvline(goal, color=_GOAL, linestyle="--", linewidth=1.4, label=f"{goal:g} px, what objects should measure")
    ticks = [2**power for power in range(int(low), int(high) + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("square root of the object's area, pixels")
    axes.set_ylabel("objects")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.9), fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
