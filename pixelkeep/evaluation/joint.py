"""One arm against several others at once: better than every one of them, or worse than the best of them.

A variant that costs more than the baseline is set against the baseline and against what the baseline becomes with as
much compute. Which of these rivals is the strongest shows itself in the same figures that the variant is judged by, so
a test against that one alone would be picked after the fact. The two claims are therefore

- better: than every rival. Its p value is the largest of the single ones, where all differences are above 0
  (intersection-union: whichever rival is truly the best, the variant has beaten it).
- worse: than at least one rival, hence than the best of them. Its p value is the smallest of the single ones with a
  difference below 0, times the number of rivals (Bonferroni).

Only one of the two can be below 1. Source: Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling",
Technometrics 1982 (intersection-union).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pixelkeep.evaluation.inference import LEVEL
from pixelkeep.evaluation.verdicts import Difference


@dataclass(frozen=True)
class Joint:
    """One arm against several rivals in one metric.

    Attributes:
        stronger: The rival that is shown: see `pixelkeep.evaluation.comparison.STRENGTH`. It decides no verdict.
        value, low, high: Difference from the stronger, and its 95 % interval by itself.
        p, p_holm, verdict, note: As of a `Difference`, of all rivals at once.
        objects, objects_needed: As of a `Difference`; the larger number where the rivals' differ.
        differences: From each of the rivals, without verdicts.
    """

    arm: str
    metric: str
    stronger: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    verdict: str | None
    note: str | None
    objects: int
    objects_needed: int | None
    differences: tuple[Difference, ...]

    @property
    def ahead(self) -> bool:
        return all(entry.ahead for entry in self.differences)


def join(differences: Sequence[Difference], stronger: str) -> Joint:
    """Return the question that `judge` answers for all rivals at once.

    Args:
        differences: Of one arm in one metric, from each rival, measured and not judged.
        stronger: The rival that is shown.
    """
    shown = next(entry for entry in differences if entry.baseline == stronger)
    needed = max((entry.objects_needed or 0 for entry in differences), default=0) or None
    ends = (shown.value, shown.low, shown.high)
    joint = Joint(
        shown.arm, shown.metric, stronger, *ends, *[None] * 4, shown.objects, needed, differences=tuple(differences)
    )
    unknown = next((entry for entry in differences if entry.p is None), None)
    if unknown:
        return replace(joint, note=unknown.note)
    chance = _chance(differences)
    open_ = [entry.baseline for entry in differences if entry.p > 1 - LEVEL or entry.ahead != shown.ahead]
    partly = shown.p <= 1 - LEVEL < chance and open_
    note = f"the interval leaves out 0, but not so against {', '.join(open_)}" if partly else None
    return replace(joint, p=chance, note=note)


def _chance(differences: Sequence[Difference]) -> float:
    """Return the p value of the one claim that the differences leave open."""
    if all(entry.ahead for entry in differences):
        return max(entry.p for entry in differences)
    behind = [entry.p for entry in differences if entry.value < 0]
    return min(1.0, len(differences) * min(behind, default=1.0))
