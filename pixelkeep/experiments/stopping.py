"""When a contrast is done: its interval is at most one point to each side, or no more seeds would make it so.

The variance of a difference is V = I + E, with I that of the images alone and E what seeds add, which falls with their
number; :mod:`pixelkeep.evaluation.inference` has the formulas. From an interval's half-width, that of the images alone
and the spread over seeds follow I and E, hence the half-width at any number of seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pixelkeep.evaluation.inference import LEVEL
from pixelkeep.evaluation.student import quantile

ENOUGH = 0.01  # half-width: one point of AP_S
MOST = 50  # seeds that are looked at
STEPS = 2000  # to which the variance is told apart


@dataclass(frozen=True)
class Progress:
    """How far the interval of one difference is.

    Attributes:
        half: Its half-width; None where there is none.
        images: That of the images alone, below which seeds cannot bring it.
        seeds: How many of each arm it would take in all; None where no number does, or it cannot be told.
    """

    half: float | None
    images: float | None
    seeds: int | None

    @property
    def done(self) -> bool:
        return self.half is not None and self.half <= ENOUGH


def progress(difference: dict, arm: Sequence[float], baseline: Sequence[float], units: int) -> Progress:
    """Return how far an interval is.

    Args:
        difference: As in a comparison's document: ``low``, ``high``, and ``images``, the half-width of images alone.
        arm, baseline: The figures of both arms' seeds.
        units: Images, or groups of them, that carry the figure.
    """
    images = difference["images"]
    if difference["low"] is None or images is None or units < 2:
        return Progress(None, None, None)
    half, there = (difference["high"] - difference["low"]) / 2, min(len(arm), len(baseline))
    if there < 2:  # of the images alone: how far seeds lie apart is not known
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
    """Whether val is scored now, decided on dev alone, and why."""

    now: bool
    why: str


def decide(answers: Sequence[dict], there: int, *, fixed: bool) -> Decision:
    """Decide on dev whether the seeds are enough for val to be scored, as it is scored but once.

    Args:
        answers: On dev; see :mod:`pixelkeep.experiments.summary`.
        there: Seeds of each arm.
        fixed: Whether the user has given their number, or insists.
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
        f"val stays closed: on dev it takes about {wanted} seeds of each arm to bring to ±{ENOUGH} what seeds can "
        f"bring there; --seeds {wanted} trains them first, --seeds {there} scores val with those that are there",
    )


def half_width(variance: float, images: float, units: int, spreads: Sequence[tuple[float, int]]) -> float:
    """Return the half-width of an interval.

    Args:
        variance: Of the difference.
        images: The part of it that images alone cause.
        units: As in :func:`progress`.
        spreads: Of both arms the variance over seeds, and their number.
    """
    squares = images**2 / (units - 1) + sum((spread / seeds) ** 2 / (seeds - 1) for spread, seeds in spreads)
    least = min(units - 1, *(seeds - 1 for _, seeds in spreads))
    freedom = max(variance**2 / squares, least) if squares > 0 else least
    return quantile(LEVEL, freedom) * math.sqrt(variance)


def _variance(half: float, images: float, units: int, spreads: Sequence[tuple[float, int]]) -> float:
    """Return the variance that has this half-width: the largest there can be, as fewer degrees of freedom need less.

    It lies between that of the images and their sum with what the seeds add at most.
    """
    most = images + sum(spread / seeds for spread, seeds in spreads)
    steps = (most + (images - most) * step / STEPS for step in range(STEPS))
    close = (variance for variance in steps if half_width(variance, images, units, spreads) <= half * (1 + 1e-9))
    return next(close, images)
