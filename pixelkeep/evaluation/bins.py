"""Finer size classes, chosen by a benchmark's name or by their borders, and the other rules of that benchmark.

Sources: Wang et al., "Tiny Object Detection in Aerial Images", ICPR 2020, for AI-TOD's classes, and its evaluation code
for the 1,500 detections; Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021, and the VisDrone
toolkit (``dropObjectsInIgr.m``, ``calcAccuracy.m``) for VisDrone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pixelkeep.errors import OptionError, nearest
from pixelkeep.evaluation.areas import AITOD_BINS, AreaRange

VISDRONE_BINS = (AreaRange("small", 0, 32), AreaRange("medium", 32, 96), AreaRange("large", 96, 1e5))


@dataclass(frozen=True)
class Bins:
    """Size classes to report besides S, M and L.

    Attributes:
        name: Name of the bins in the protocol of a result; None if no bins were asked for.
        ranges: Area ranges of the size classes.
        max_dets: The benchmark's limit of detections; None for the evaluator's own limit.
        clears_regions: Whether objects and detections that lie half inside regions to ignore are dropped before
            evaluation. If so, the limit of detections holds for all classes of an image together.
    """

    name: str | None
    ranges: tuple[AreaRange, ...]
    max_dets: int | None = None
    clears_regions: bool = False


DEFAULT = Bins(None, AITOD_BINS)
PRESETS = {
    "aitod": Bins("aitod", AITOD_BINS, max_dets=1500),
    "visdrone": Bins("visdrone", VISDRONE_BINS, max_dets=500, clears_regions=True),
}


def read_bins(bins: Bins | Sequence[AreaRange] | str | None) -> Bins:
    """Return size classes from a benchmark's name, from borders in pixels such as ``0,8,16,32,96``, or from ranges.

    Errors: OptionError for other names, for fewer than two borders, and for borders that do not rise
    from 0 or above to 1e5 at most.
    """
    if bins is None or isinstance(bins, Bins):
        return DEFAULT if bins is None else bins
    if isinstance(bins, str):
        return PRESETS.get(bins) or _from_borders(bins)
    return _named(tuple(bins))


def _from_borders(text: str) -> Bins:
    try:
        borders = [float(part) for part in text.split(",")]
    except ValueError:
        borders = []
    if len(borders) < 2 or not all(0 <= low < high <= 1e5 for low, high in pairwise(borders)):
        raise OptionError(
            f"bins '{text}'; expected aitod, visdrone, or rising sides in pixels such as 0,8,16,32,96"
            f"{nearest(text, PRESETS)}"
        )
    return _named(tuple(AreaRange(f"{low:g}-{high:g}", low, high) for low, high in pairwise(borders)))


def _named(ranges: tuple[AreaRange, ...]) -> Bins:
    return Bins(",".join(f"{r.low:g}-{r.high:g}" for r in ranges) or None, ranges)
