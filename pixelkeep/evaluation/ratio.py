"""How much better in percent: the ratio of two arms' figures less 1, with its interval.

The interval holds every ratio r for which the interval that `inference` gives to the difference between the arm and r
times the baseline contains 0 (Fieller, "Some Problems in Interval Estimation", Journal of the Royal Statistical Society
B 1954). What makes an image hard for both arms cancels as it does in the difference, and seeds are counted alike. The
interval of the ratio leaves out 0 % exactly when that of the difference leaves out 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelkeep.evaluation.inference import Sample, estimate_difference

MOST = 64.0  # search limit, times the ratio: if the images cannot rule out a baseline of 0, there is no largest ratio
STEPS = 40  # bisection steps when searching for an end of the interval


@dataclass(frozen=True)
class Ratio:
    """A relative difference: 0.13 for 13 % more.

    Attributes:
        value: Relative difference of the means over seeds.
        low, high: Ends of the interval at `pixelkeep.evaluation.inference.LEVEL`; ``high`` is None if the interval has
            no upper end.
    """

    value: float
    low: float
    high: float | None


def relative(arm: Sample, baseline: Sample, units: int, *, paired: bool = False) -> Ratio | None:
    """Return how much more ``arm`` has than ``baseline``; None where the baseline is 0 or a figure is undefined.

    Args:
        arm, baseline, units, paired: As in `pixelkeep.evaluation.inference.estimate_difference`.
    """
    over, under = float(arm.figures.mean()), float(baseline.figures.mean())
    if not (over > 0 and under > 0):
        return None
    ratio = over / under

    def holds(times: float) -> bool:
        scaled = Sample(baseline.figures * times, baseline.resampled * times)
        found = estimate_difference(arm, scaled, units, paired=paired)
        return found.low <= 0 <= found.high

    low = 0.0 if holds(0.0) else _edge(ratio, 0.0, holds)
    high = None if holds(MOST * ratio) else _edge(ratio, MOST * ratio, holds)
    return Ratio(ratio - 1, low - 1, None if high is None else high - 1)


def _edge(inside: float, outside: float, holds) -> float:
    """Return the end of the interval that lies between a ratio ``inside`` it and a ratio ``outside`` it."""
    for _ in range(STEPS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside
