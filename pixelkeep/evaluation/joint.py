"""Compare one arm with several rivals at once: better than every one of them, or worse than the best of them.

A variant that costs more than the baseline is compared with the baseline and with the baseline at equal compute. Which
of these rivals is the strongest is known only from the same figures that the variant is judged by, so a test against
that one alone would be chosen after the fact. The two claims are therefore

- better than every rival. Its p value is the largest of the single ones, if all differences are above 0
  (intersection-union: whichever rival is truly the best, the variant has beaten it).
- worse than at least one rival, hence than the best of them. Its p value is the smallest of the single ones with a
  difference below 0, times the number of rivals (Bonferroni).

Only one of the two p values can be below 1.

Source: Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 1982 (intersection-union).
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
        stronger: Name of the rival that is shown, chosen by `pixelkeep.evaluation.comparison.STRENGTH`; it decides no
            verdict.
        value: Difference from the stronger rival.
        low, high: Ends of the 95 % interval of that difference taken by itself.
        p, p_holm, verdict, note: As in `Difference`, for all rivals at once.
        objects, objects_needed: As in `Difference`; the larger number where the rivals' numbers differ.
        differences: Differences from each of the rivals, without verdicts.
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
        differences: Differences of one arm from each rival in one metric, measured but not judged.
        stronger: Name of the rival that is shown.
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
    note = f"the interval excludes 0, but not against {', '.join(open_)}" if partly else None
    return replace(joint, p=chance, note=note)


def _chance(differences: Sequence[Difference]) -> float:
    """Return the p value of the one claim that the signs of the differences leave possible."""
    if all(entry.ahead for entry in differences):
        return max(entry.p for entry in differences)
    behind = [entry.p for entry in differences if entry.value < 0]
    return min(1.0, len(differences) * min(behind, default=1.0))
