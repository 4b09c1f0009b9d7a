"""The evaluator's figures by name: which objects, thresholds and cap they are of, and whether precision or recall."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.coco import ALL, BINS, COCO_CAP, LIMIT, CocoEvaluator, L, M, S
from pixelkeep.evaluation.curves import EVERY, Curves


@dataclass(frozen=True)
class Metric:
    """One figure of the evaluator.

    Attributes:
        name: Name of the figure in `Result`; for size bins, the kind of figure and the name of the bin: ``AP:tiny``.
        area: Area range of the objects.
        cap: Cap on the detections of one class in one image.
        threshold: Position of its only threshold; None for the mean over all thresholds.
        recall: True for an average recall, False for an average precision.
    """

    name: str
    area: AreaRange
    cap: int
    threshold: int | None = None
    recall: bool = False

    def value(self, curves: Curves, areas: Sequence[AreaRange], caps: Sequence[int]) -> float | None:
        """Return the figure from curves over the given areas and caps; None where it is undefined."""
        area, cap = areas.index(self.area), caps.index(self.cap)
        if self.recall:
            return curves.average_recall(area, cap)
        return curves.average_precision(area, cap, EVERY if self.threshold is None else self.threshold)


def read_metrics(names: Iterable[str], evaluator: CocoEvaluator) -> tuple[Metric, ...]:
    """Return the figures with the given names, each once.

    Errors: OptionError for an empty list of names, and for a name that the evaluator has no figure of.
    """
    if isinstance(names, str):
        names = (names,)
    known = {metric.name: metric for metric in _all(evaluator)}
    names = tuple(dict.fromkeys(names))
    if not names:
        raise OptionError(f"metrics is empty; expected one or more of {choices(known, len(known))}")
    for name in names:
        if name not in known:
            raise OptionError(f"metric '{name}'; expected one of {choices(known, len(known))}{nearest(name, known)}")
    return tuple(known[name] for name in names)


def _all(evaluator: CocoEvaluator) -> list[Metric]:
    areas, limit = evaluator.areas, evaluator.caps[LIMIT]
    at50, at75 = (evaluator.similarity.position(threshold) for threshold in (0.5, 0.75))
    graded = at50 is not None
    figures = [Metric("AP", areas[ALL], limit), Metric("AP_100", areas[ALL], evaluator.caps[COCO_CAP])]
    figures += [Metric(f"AP_{areas[size].name}", areas[size], limit) for size in (S, M, L)]
    figures += [Metric("AR", areas[ALL], limit, recall=True)]
    figures += [Metric(f"AR_{areas[size].name}", areas[size], limit, recall=True) for size in (S, M, L)]
    if graded:
        figures += [Metric("AP50", areas[ALL], limit, at50), Metric("AP75", areas[ALL], limit, at75)]
        figures += [Metric("AP50_S", areas[S], limit, at50)]
    for size in areas[BINS:]:
        figures += [Metric(f"AP:{size.name}", size, limit), Metric(f"AR:{size.name}", size, limit, recall=True)]
        figures += [Metric(f"AP50:{size.name}", size, limit, at50)] if graded else []
    return figures
