"""Better, worse, not distinguishable, or no verdict: what the difference between two detectors supports.

The verdicts of one comparison, over all arms and metrics, are corrected together by Holm's method at 0.05. No verdict
is given

- with a single seed in an arm. How much training runs differ is then unknown, and the interval covers the images alone.
  Where both arms are that one training, scored differently, there is a verdict on that training;
- with fewer than `FEWEST` images, or groups of images, that hold objects of the size in question, whatever they show;
- where no significant difference is found and the images alone leave the difference uncertain by more than
  `RESOLUTION`, which more seeds do not cure. The half-width falls with the square root of the number of objects, so the
  number needed is that of the objects times (half-width / RESOLUTION) squared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pixelkeep.evaluation.inference import LEVEL, Sample, estimate_difference, holm
from pixelkeep.evaluation.ratio import Ratio, relative

BETTER, WORSE, SAME = "better", "worse", "not distinguishable"
RESOLUTION = 0.02  # two points, the size of what papers call an improvement
FEWEST = 10  # so many agree by chance with probability 2 / 2**10, which even 25 verdicts at once do not make likely
ONE_SEED = (
    "images only: the interval leaves out how much training runs differ; a verdict takes two or more seeds of both arms"
)

ONE_TRAINING = "of this one training: the interval leaves out how far others would differ"


class Question(Protocol):
    """The question that `judge` answers: a `Difference`, or a `pixelkeep.evaluation.joint.Joint` of several."""

    p: float | None
    p_holm: float | None
    verdict: str | None
    note: str | None
    objects: int
    objects_needed: int | None

    @property
    def ahead(self) -> bool:
        """Whether a verdict would be "better" rather than "worse"."""


Asked = TypeVar("Asked", bound=Question)


@dataclass(frozen=True)
class Difference:
    """The difference of one arm from the baseline in one metric.

    Attributes:
        arm, baseline, metric: Names of the arm, the baseline and the metric.
        value: Difference of the means over seeds, arm minus baseline; None where the metric is undefined.
        low, high: Ends of the 95 % interval of this difference taken by itself.
        p, p_holm: Probability of such a difference between arms that are alike, by itself and corrected for all
            verdicts of the comparison; None if no verdict can be given.
        verdict: "better", "worse", "not distinguishable", or None.
        note: Reason why there is no verdict, or a caveat about the verdict; None if there is neither.
        seeds: Number of runs of the arm and of the baseline.
        objects: Number of ground-truth objects that count in the metric.
        objects_needed: Number of objects with which the images would leave an uncertainty of no more than `RESOLUTION`,
            or with which `FEWEST` images would hold objects; None if there are enough.
        images: Half-width of the interval that the images alone would leave, however many seeds; None without interval.
        relative: The difference as a share of the baseline's figure, with its interval; None if there is none.
        paired: Whether the runs of both arms are of the same trainings.
    """

    arm: str
    baseline: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    verdict: str | None
    note: str | None
    seeds: tuple[int, int]
    objects: int
    objects_needed: int | None
    images: float | None = None
    relative: Ratio | None = None
    paired: bool = False

    @property
    def ahead(self) -> bool:
        return self.value is not None and self.value > 0


def measure(
    names: tuple[str, str, str], arm: Sample, baseline: Sample, objects: int, units: int, *, paired: bool = False
) -> Difference:
    """Return a difference without a verdict: with its p if `judge` can give one, else with the reason noted.

    Args:
        names: Names of the arm, the baseline and the metric.
        arm, baseline: Samples of the two arms.
        objects: Number of objects that count in the metric.
        units: Number of images, or groups of images, that hold these objects.
        paired: Whether the runs of both arms are of the same trainings, in the same order.
    """
    seeds = (arm.seeds, baseline.seeds)
    blank = Difference(*names, *[None] * 7, seeds=seeds, objects=objects, objects_needed=None, paired=paired)
    if not objects:
        return replace(blank, note="no objects of this size, so the figure is undefined")
    if units < 2:
        return replace(_too_few(blank, units), value=float(arm.figures.mean() - baseline.figures.mean()))
    found = estimate_difference(arm, baseline, units, paired=paired)
    ends = {"value": found.value, "low": found.low, "high": found.high, "images": found.images}
    measured = replace(blank, **ends, relative=relative(arm, baseline, units, paired=paired))
    if units < FEWEST:
        return _too_few(measured, units)
    if found.images > RESOLUTION:
        measured = replace(measured, objects_needed=math.ceil(objects * (found.images / RESOLUTION) ** 2))
    if found.p is None:
        return replace(measured, note=ONE_SEED)
    return replace(measured, p=found.p, note=ONE_TRAINING if paired and arm.seeds == 1 else None)


def judge(asked: Sequence[Asked]) -> list[Asked]:
    """Return all questions of one comparison with their verdicts."""
    family = [entry.p for entry in asked if entry.p is not None]
    corrected = iter(holm(family))
    return [entry if entry.p is None else _verdict(entry, next(corrected), len(family)) for entry in asked]


def _too_few(difference: Difference, units: int) -> Difference:
    needed = math.ceil(difference.objects * FEWEST / units)
    note = (
        f"too few objects: {difference.objects} in {units} images or groups; a verdict takes {FEWEST} of "
        f"these, about {needed} objects at this density"
    )
    return replace(difference, note=note, objects_needed=needed)


def _verdict(entry: Asked, p_holm: float, family: int) -> Asked:
    entry = replace(entry, p_holm=p_holm)
    if p_holm <= 1 - LEVEL:
        return replace(entry, verdict=BETTER if entry.ahead else WORSE)
    if entry.objects_needed:
        note = (
            f"too few objects: {entry.objects} leave the difference uncertain by more than {RESOLUTION:g}, however "
            f"many seeds; about {entry.objects_needed} would bring it down to that"
        )
        return replace(entry, note=_noted(note, entry))
    if entry.p <= 1 - LEVEL:
        note = f"the interval excludes 0, but one of {family} may do so by chance"
        return replace(entry, verdict=SAME, note=_noted(note, entry))
    return replace(entry, verdict=SAME)


def _noted(note: str, entry: Asked) -> str:
    """Return the note with the caveat about a single training appended if it applies to the entry."""
    return f"{note}; {entry.note}" if entry.note == ONE_TRAINING else note
