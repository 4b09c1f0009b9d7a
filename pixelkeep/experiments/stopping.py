"""Decides when a contrast is done: its interval is at most one point to each side, or more seeds would not help.

The variance of a difference is V = I + E. I is the variance of the images alone; E is what the seeds add, and falls
with their number. :mod:`pixelkeep.evaluation.inference` has the formulas. I and E follow from the half-width of an
interval, the half-width of the images alone and the spread over seeds. They give the half-width at any number of seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pixelkeep.evaluation.inference import LEVEL
from pixelkeep.evaluation.student import quantile

ENOUGH = 0.01  # half-width of an interval that is narrow enough: one point of AP_S
MOST = 50  # largest number of seeds that is tried
STEPS = 2000  # resolution of the search for the variance


@dataclass(frozen=True)
class Progress:
    """How far the interval of one difference is from being narrow enough.

    Attributes:
        half: Half-width of the interval; None if there is none.
        images: Half-width from the images alone, below which no number of seeds brings the interval; None if unknown.
        seeds: Total number of seeds of each arm needed for a half-width of `ENOUGH`; None if no number up to `MOST`
            suffices, or if it cannot be told.
    """

    half: float | None
    images: float | None
    seeds: int | None

    @property
    def done(self) -> bool:
        return self.half is not None and self.half <= ENOUGH


def progress(difference: dict, arm: Sequence[float], baseline: Sequence[float], units: int) -> Progress:
    """Return how far the interval of a difference is from being narrow enough.

    Args:
        difference: Entry of a comparison's document with ``low``, ``high``, and ``images``, the half-width from the
            images alone.
        arm, baseline: Figures of the two arms, one for each seed.
        units: Number of images, or of groups of images if these are resampled.
    """
    images = difference["images"]
    if difference["low"] is None or images is None or units < 2:
        return Progress(None, None, None)
    half, there = (difference["high"] - difference["low"]) / 2, min(len(arm), len(baseline))
    if there < 2:  # the interval covers the images alone, as the spread over seeds is unknown
        return Progress(None, images, None)
    if half <= ENOUGH or images > ENOUGH:
        return Progress(half, images, there if half <= ENOUGH else None)
    spreads = [(statistics.variance(figures), len(figures)) for figures in (arm, baseline)]
    fixed = (images / quantile(LEVEL, units - 1)) ** 2
    added = _variance(half, fixed, units, spreads) - fixed
    now = statistics.harmonic_mean([len(arm), len(baseline)])
    for seeds in range(there + 1, MOST + 1):
        variance = fixed + added * now / seeds
        if half_width(variance, fixed, units, [(spread, seeds) for spread, _ in spreads]) <= ENOUGH:
            return Progress(half, images, seeds)
    return Progress(half, images, None)


@dataclass(frozen=True)
class Decision:
    """The decision, made on dev alone, whether val is scored now, and its reason."""

    now: bool
    why: str


def decide(answers: Sequence[dict], there: int, *, fixed: bool) -> Decision:
    """Decide on dev whether there are enough seeds to score val, which is scored only once.

    Args:
        answers: Answers on dev from :func:`pixelkeep.experiments.summary.answers_of`.
        there: Number of seeds of each arm.
        fixed: Whether the user has given the number of seeds, or insists on scoring val.
    """
    open_ = [answer for answer in answers if not answer["done"]]
    wanted = max((answer["seeds"] or 0 for answer in open_), default=0)
    if not open_:
        return Decision(True, f"on dev every interval is ±{ENOUGH} or less")
    if fixed:
        return Decision(True, f"it was asked for with {there} seeds")
    if there < 2:
        return Decision(True, "with one seed there is no telling how many it takes")
    if not wanted:
        return Decision(True, f"on dev no number of seeds brings the intervals that are left to ±{ENOUGH}")
    return Decision(
        False,
        f"val stays closed: on dev it takes about {wanted} seeds of each arm to bring to ±{ENOUGH} every interval that "
        f"seeds can bring there; --seeds {wanted} trains them first, --seeds {there} scores val with those that "
        "are there",
    )


def half_width(variance: float, images: float, units: int, spreads: Sequence[tuple[float, int]]) -> float:
    """Return the half-width of the interval of a difference.

    Args:
        variance: Variance of the difference.
        images: The part of the variance that the images alone cause.
        units: As in :func:`progress`.
        spreads: For both arms, the variance over seeds and the number of seeds.
    """
    squares = images**2 / (units - 1) + sum((spread / seeds) ** 2 / (seeds - 1) for spread, seeds in spreads)
    least = min(units - 1, *(seeds - 1 for _, seeds in spreads))
    freedom = max(variance**2 / squares, least) if squares > 0 else least
    return quantile(LEVEL, freedom) * math.sqrt(variance)


def _variance(half: float, images: float, units: int, spreads: Sequence[tuple[float, int]]) -> float:
    """Return the largest variance that gives this half-width; a smaller one with fewer degrees of freedom would too.

    The variance lies between that of the images alone and the sum of that and the most that the seeds can add.
    """
    most = images + sum(spread / seeds for spread, seeds in spreads)
    steps = (most + (images - most) * step / STEPS for step in range(STEPS))
    close = (variance for variance in steps if half_width(variance, images, units, spreads) <= half * (1 + 1e-9))
    return next(close, images)
