"""Compare detectors, each trained with several seeds, on the same images: figures, intervals and verdicts.

An arm is a model trained S times. The difference between an arm's mean over seeds and the baseline's gets an interval
from `inference`, based on resamples of the images by `bootstrap`, and a verdict from `verdicts`. An arm can also be
compared with several rivals at once, by `joint`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.bins import Bins
from pixelkeep.evaluation.bootstrap import Run, areas_of, draw, portions, resample
from pixelkeep.evaluation.coco import AnyDetections, CocoEvaluator
from pixelkeep.evaluation.curves import accumulate
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruth
from pixelkeep.evaluation.inference import LEVEL, Sample
from pixelkeep.evaluation.joint import Joint, join
from pixelkeep.evaluation.matching import count_mask, match
from pixelkeep.evaluation.metrics import Metric, read_metrics
from pixelkeep.evaluation.reading import is_id
from pixelkeep.evaluation.verdicts import Difference, judge, measure

STRENGTH = ("AP_S", "AP")  # the stronger of several rivals has the higher mean AP_S or, where that is equal, AP


@dataclass(frozen=True)
class ArmFigures:
    """One arm: its number of runs, and per metric their mean and sample standard deviation, None where undefined."""

    name: str
    seeds: int
    mean: dict[str, float | None]
    spread: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """The figures of all arms and their differences from the baseline.

    Attributes:
        baseline: Name of the arm that the others are compared with.
        metrics: Names of the metrics, each once.
        arms: Figures of all arms.
        differences: Differences of all arms from the baseline, except the baseline itself and arms that serve as
            rivals. Those of one arm stand together, in the order of the metrics.
        joints: Comparisons of each arm that has rivals with all of its rivals at once, in the same order.
        images: Number of images.
        groups: Number of groups that the images are drawn in.
        resamples: Number of resamples of the bootstrap.
        seed: Seed of the bootstrap.
        level: Confidence level of the intervals.
        gt_sha256: Hash of the ground truth.
    """

    baseline: str
    metrics: tuple[str, ...]
    arms: tuple[ArmFigures, ...]
    differences: tuple[Difference, ...]
    joints: tuple[Joint, ...]
    images: int
    groups: int
    resamples: int
    seed: int
    level: float
    gt_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries and lists, ready for JSON; undefined figures are None."""
        document = asdict(self)
        document["metrics"], document["arms"] = list(self.metrics), list(document["arms"])
        document["differences"] = _listed(document["differences"])
        document["joints"] = [{**entry, "differences": _listed(entry["differences"])} for entry in document["joints"]]
        return document


def _listed(differences: Sequence[dict]) -> list[dict]:
    return [{**entry, "seeds": list(entry["seeds"])} for entry in differences]


def compare_arms(
    truth: GroundTruth,
    arms: Mapping[str, Sequence[AnyDetections]],
    baseline: str,
    *,
    rivals: Mapping[str, Sequence[str]] | None = None,
    paired: Collection[str] = (),
    metrics: Sequence[str] = ("AP", "AP_S"),
    groups: Mapping[int, str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    max_dets: int | None = None,
    bins: Bins | Sequence[AreaRange] | str | None = None,
    match: str = "iou",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare every arm with the baseline.

    Args:
        truth: COCO document, or the path of one.
        arms: By name of the arm, the detections of each of its trained runs in the images of ``truth``.
        baseline: Name of the arm that the others are compared with.
        rivals: By name of the arm, the arms that it is compared with at once, such as the baseline at equal cost. A
            rival other than the baseline gets figures but no verdict of its own, because every further verdict would
            cost the others statistical power.
        paired: Arms whose runs are the baseline's trainings, one for one, scored in another way, such as with tiles.
        metrics: Names of figures, see `read_metrics`.
        groups: By image id, the name of the group that the image is drawn with, such as its video or flight; None
            draws each image by itself.
        resamples: Number of resamples of the images, 100 or more.
        seed: Seed of the resampling, 0 or more; the same seed gives the same numbers.
        max_dets, bins, match: As in `CocoEvaluator`.
        progress: Function called with the number of steps done and the total number of steps.

    Errors: DataError for detections or a ground truth that cannot be used, OptionError for any other argument.
    """
    rivals = rivals or {}
    _check(arms, baseline, resamples, seed)
    _check_rivals(rivals, arms, baseline)
    _check_paired(paired, arms, baseline)
    evaluator = CocoEvaluator(truth, max_dets=max_dets, bins=bins, match=match)
    chosen = read_metrics(metrics, evaluator)
    group = _group_numbers(evaluator.truth, groups)
    samples = _samples(evaluator, arms, chosen, group, resamples, seed, progress)
    counts = {metric.name: _count(evaluator.truth, metric.area, group) for metric in chosen}

    def differ(arm: str, other: str, metric: str) -> Difference:
        both = samples[arm, metric], samples[other, metric]
        return measure((arm, other, metric), *both, *counts[metric], paired=arm in paired and other == baseline)

    names = [metric.name for metric in chosen]
    serving = {baseline, *(rival for several in rivals.values() for rival in several)}
    differences = [differ(arm, baseline, metric) for arm in arms if arm not in serving for metric in names]
    joints = [
        join([differ(arm, rival, metric) for rival in rivals[arm]], _stronger(rivals[arm], metric, samples))
        for arm in arms
        if arm in rivals
        for metric in names
    ]
    judged = judge([*differences, *joints])
    return Comparison(
        baseline=baseline,
        metrics=tuple(names),
        arms=tuple(_arm(name, chosen, samples) for name in arms),
        differences=tuple(judged[: len(differences)]),
        joints=tuple(judged[len(differences) :]),
        images=len(group),
        groups=int(group.max()) + 1,
        resamples=int(resamples),
        seed=int(seed),
        level=LEVEL,
        gt_sha256=evaluator.sha256,
    )


def _stronger(rivals: Sequence[str], metric: str, samples: Mapping[tuple[str, str], Sample]) -> str:
    """Return the rival with the highest mean by `STRENGTH`, or by ``metric`` if neither of these was asked for."""
    by = [key for key in STRENGTH if (rivals[0], key) in samples] or [metric]
    means = {rival: [samples[rival, key].figures.mean() for key in by] for rival in rivals}
    return max(rivals, key=lambda rival: [-math.inf if math.isnan(mean) else mean for mean in means[rival]])


def _check(arms: Mapping[str, Sequence[AnyDetections]], baseline: str, resamples: int, seed: int) -> None:
    if baseline not in arms:
        raise OptionError(f"baseline '{baseline}'; expected one of {choices(arms)}{nearest(baseline, arms)}")
    if len(arms) < 2:
        raise OptionError(f"there is one arm, '{baseline}'; expected another to compare it with")
    for name, runs in arms.items():
        if isinstance(runs, Detections | str | os.PathLike):
            raise OptionError(f"arm '{name}' is one set of detections; expected a list of them, one for each seed")
        if not len(runs):
            raise OptionError(f"arm '{name}' has no detections; expected those of one trained run or more")
    for name, value, least in (("resamples", resamples, 100), ("seed", seed, 0)):
        if not (is_id(value) and value >= least):
            raise OptionError(f"{name} is {value!r}; expected an integer, {least} or more")


def _check_rivals(rivals: Mapping[str, Sequence[str]], arms: Mapping[str, object], baseline: str) -> None:
    for name, several in rivals.items():
        odd = [rival for rival in (name, *several) if rival not in arms]
        if odd:
            raise OptionError(f"rivals: '{odd[0]}' is not among {choices(arms)}{nearest(odd[0], arms)}")
        if not several or name in several or name == baseline:
            raise OptionError(f"rivals of '{name}' are {choices(several) or 'none'}; expected other arms")


def _check_paired(paired: Collection[str], arms: Mapping[str, Sequence[AnyDetections]], baseline: str) -> None:
    for name in paired:
        if name not in arms or len(arms[name]) != len(arms[baseline]):
            runs = f"has {len(arms[name])} runs" if name in arms else "is not an arm"
            raise OptionError(f"paired: '{name}' {runs}; expected {len(arms[baseline])}, as '{baseline}' has")


def _group_numbers(truth: TruthArrays, groups: Mapping[int, str] | None) -> np.ndarray:
    """Return (I,) the group number of each image."""
    ids = truth.image_ids.tolist()
    if groups is None:
        return np.arange(len(ids))
    for problem, odd in (("lacks", set(ids) - set(groups)), ("names", set(groups) - set(ids))):
        if odd:
            raise OptionError(f"groups {problem} image {choices(sorted(odd))}; expected a group for each of the images")
    return np.unique([str(groups[key]) for key in ids], return_inverse=True)[1]


def _count(truth: TruthArrays, area: AreaRange, group: np.ndarray) -> tuple[int, int]:
    """Return how many objects of the size there are, and how many groups hold them."""
    counted = count_mask(truth, [area])[:, 0]
    return int(counted.sum()), len(np.unique(group[truth.group[counted] % len(group)]))


def _samples(
    evaluator: CocoEvaluator,
    arms: Mapping[str, Sequence[AnyDetections]],
    metrics: Sequence[Metric],
    group: np.ndarray,
    resamples: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> dict[tuple[str, str], Sample]:
    """Return the sample of each arm in each metric, keyed by the names of arm and metric."""
    scored = [_score(evaluator, detections, metrics) for runs in arms.values() for detections in runs]
    runs, figures = [run for run, _ in scored], np.array([values for _, values in scored], np.float64)  # (R, metrics)
    parts = portions(evaluator.truth, runs, resamples)
    tick = _Ticker(progress, len(parts) * len(evaluator.truth.category_ids))
    drawn = [resample(evaluator.truth, runs, metrics, draw(group, *part, seed), tick) for part in parts]
    resampled = np.concatenate(drawn, axis=2)  # (R, metrics, B)
    borders = np.cumsum([0, *(len(runs) for runs in arms.values())])
    return {
        (name, metric.name): Sample(figures[start:end, j], resampled[start:end, j])
        for name, start, end in zip(arms, borders, borders[1:], strict=False)
        for j, metric in enumerate(metrics)
    }


class _Ticker:
    """Counts steps and reports them to a caller's progress function."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __call__(self) -> None:
        self._done += 1
        if self._progress:
            self._progress(self._done, self._total)


def _score(
    evaluator: CocoEvaluator, detections: AnyDetections, metrics: Sequence[Metric]
) -> tuple[Run, list[float | None]]:
    """Match once and return the run that resampling needs, and the metrics on the original images."""
    areas, caps = areas_of(metrics), tuple(dict.fromkeys(metric.cap for metric in metrics))
    found = DetectionArrays.from_detections(evaluator.prepare(detections), evaluator.truth, max(evaluator.caps))
    outcome = match(evaluator.truth, found, areas, evaluator.similarity)
    curves = accumulate(evaluator.truth, found, outcome, areas, caps)
    return Run.of(evaluator.truth, found, outcome), [metric.value(curves, areas, caps) for metric in metrics]


def _arm(name: str, metrics: Sequence[Metric], samples: dict[tuple[str, str], Sample]) -> ArmFigures:
    figures = {metric.name: samples[name, metric.name].figures for metric in metrics}
    spread = {key: _defined(values.std(ddof=1)) if len(values) > 1 else None for key, values in figures.items()}
    seeds = len(next(iter(figures.values())))
    return ArmFigures(name, seeds, {key: _defined(values.mean()) for key, values in figures.items()}, spread)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
