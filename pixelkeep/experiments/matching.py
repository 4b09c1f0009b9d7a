"""Gives the baseline as much compute as a variant: makes it wider, or its images larger, until it costs the same.

A variant that costs more than the baseline is usually better, and so would be a wider baseline or one on larger images.
Both are therefore searched for each variant, by counted GFLOPs or by measured latency, until the cost is equal within
`TOLERANCE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pixelkeep.experiments.sizes import Size, size_steps
from pixelkeep.experiments.widths import Step, alternatives, scale_of, widen, width_steps
from pixelkeep.ultra.costs.multiples import Compute, Latency, Network

TOLERANCE = 0.03  # largest relative difference from the variant's cost
WIDTH, SIZE = "width", "imgsz"  # kinds of arms, by what is changed in the baseline
REACH = 1.5  # widths and areas are tried up to this many times the variant's multiple of the cost
SETTLED = 3  # number of candidates that are measured once more
T = TypeVar("T")


@dataclass(frozen=True)
class Arm:
    """The baseline with another width or on images of another size.

    Attributes:
        name: Name of the arm, such as ``yolov5-n w0.3203`` or ``yolov5-n 768x800``.
        definition: Model definition.
        size: Height and width of the images in pixels.
        step: Width multiple and channels; None if they are the baseline's.
    """

    name: str
    definition: dict
    size: Size
    step: Step | None

    @property
    def network(self) -> Network:
        return self.definition, self.size

    @property
    def kind(self) -> str:
        return SIZE if self.step is None else WIDTH

    def to_dict(self) -> dict:
        """Return what :meth:`Baseline.remake` needs to rebuild the arm, ready for JSON."""
        if self.step is None:
            return {SIZE: list(self.size)}
        return {WIDTH: self.step.width, "channels": {str(key): value for key, value in self.step.channels.items()}}


@dataclass(frozen=True)
class Baseline:
    """The baseline as it is trained.

    Attributes:
        name: Name of the model.
        definition: Model definition.
        size: Height and width of the images in pixels.
        stride: Number of pixels that the sides of the images are multiples of.
        wide: Whether most images of the dataset are wider than high.
    """

    name: str
    definition: dict
    size: Size
    stride: int
    wide: bool

    @property
    def network(self) -> Network:
        return self.definition, self.size

    def of_width(self, step: Step) -> Arm:
        """Return the baseline with the width and channels of a step."""
        return Arm(f"{self.name} w{step.width:g}", widen(self.definition, step), self.size, step)

    def of_size(self, size: Size) -> Arm:
        """Return the baseline on images of a size."""
        return Arm(f"{self.name} {size[0]}x{size[1]}", self.definition, size, None)

    def remake(self, entry: dict) -> Arm:
        """Return the arm that an entry from :meth:`Arm.to_dict` describes."""
        if SIZE in entry:
            return self.of_size((entry[SIZE][0], entry[SIZE][1]))
        return self.of_width(Step(entry[WIDTH], {int(key): value for key, value in entry["channels"].items()}))


def near(ratio: float) -> bool:
    """Return whether a cost, as a multiple of the variant's, counts as equal."""
    return abs(ratio - 1) <= TOLERANCE


def distance(ratio: float) -> float:
    """Return how far a cost, as a multiple of the variant's, is from 1; twice as much is as far as half."""
    return abs(math.log(ratio))


def match(baseline: Baseline, cost: Compute | Latency, known: Iterable[Arm]) -> tuple[float, list[tuple[Arm, float]]]:
    """Search for the width and the image size at which the baseline costs as much as a variant.

    Args:
        baseline: The baseline to change.
        cost: Returns the cost of a network as a multiple of the variant's cost.
        known: Arms of the baseline that other variants have. Those that cost as much as this variant too are reused.

    Returns:
        The baseline's own multiple, and the arms to train, each with its multiple. There are no arms if the baseline
        itself costs as much, and none of a kind if nothing of that kind is nearer to the variant's cost than the
        baseline.
    """
    (own,) = cost.settle([baseline.network])
    if near(own):
        return own, []
    search, known, found = _Search(baseline, cost, 1 / own), list(known), []
    for kind, candidates in ((WIDTH, search.widths), (SIZE, search.sizes)):
        there = [(arm, cost.ratio(arm.network)) for arm in known if arm.kind == kind]
        serving = [(arm, ratio) for arm, ratio in there if ratio is not None and near(ratio)]
        best = search.best(serving or candidates())
        if best and distance(best[1]) < distance(own):
            found.append(best)
    return own, found


class _Search:
    """Searches the baseline's widths and image sizes for ``times`` its cost."""

    def __init__(self, baseline: Baseline, cost: Compute | Latency, times: float) -> None:
        self._baseline, self._cost = baseline, cost
        self._reach = REACH * max(1.0, times)
        self._serves = (lambda growth: growth >= 1) if times > 1 else (lambda growth: growth <= 1)

    def widths(self) -> list[tuple[Arm, float]]:
        """Bisect the widths, and return those tried, each with its multiple."""
        made: dict[float, Arm] = {}

        def ratio(step: Step) -> float | None:
            for other in alternatives(step):
                made[step.width] = self._baseline.of_width(other)
                if (found := self._cost.ratio(made[step.width].network)) is not None:
                    return found
            return None

        width = scale_of(self._baseline.definition)[2]
        steps = width_steps(self._baseline.definition, width * self._reach)
        steps = [step for step in steps if self._serves(step.width / width)]
        return [(made[steps[place].width], found) for place, found in nearest(steps, ratio).items()]

    def sizes(self) -> list[tuple[Arm, float]]:
        """Bisect the image sizes of the baseline's shape, and return those tried, each with its multiple.

        Another shape would be no fair rival. For images twice as wide as high, for example, a rectangle has less
        padding than a square, so that the network sees more of the images' pixels for as much compute.
        """
        base = self._baseline
        steps = size_steps(base.size, base.stride, self._reach, wide=base.wide)
        arms = [base.of_size(size) for size in steps if self._serves(math.prod(size) / math.prod(base.size))]
        tried = nearest(arms, lambda arm: self._cost.ratio(arm.network))
        return [(arms[place], ratio) for place, ratio in tried.items()]

    def best(self, tried: list[tuple[Arm, float]]) -> tuple[Arm, float] | None:
        """Measure the nearest few arms anew and return the nearest with its multiple; None if none could be tried."""
        few = [arm for arm, _ in sorted(tried, key=lambda entry: distance(entry[1]))[:SETTLED]]
        if not few:
            return None
        ratios = self._cost.settle([arm.network for arm in few])
        return min(zip(few, ratios, strict=True), key=lambda entry: distance(entry[1]))


def nearest(steps: Sequence[T], ratio: Callable[[T], float | None]) -> dict[int, float]:
    """Bisect steps of growing cost to a multiple of 1, and return by index the multiples of the steps that were tried.

    The two steps around 1 are among them. A step that cannot be built has no cost and is skipped.

    Args:
        steps: The steps in order of their cost.
        ratio: Returns the multiple of a step; None if it cannot be built.
    """
    tried: dict[int, float | None] = {}
    low, high = -1, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        for place in sorted(range(low + 1, high), key=lambda place: abs(place - middle)):
            tried[place] = tried[place] if place in tried else ratio(steps[place])
            if tried[place] is not None:
                break
        else:
            break
        low, high = (place, high) if tried[place] < 1 else (low, place)
    return {place: found for place, found in tried.items() if found is not None}
