"""The baseline given as much compute as a variant: made wider, and on larger images, until it costs the same.

A variant that costs more than the baseline is usually better, as a wider baseline or one on larger images would be. For
each variant both are looked for, by counted GFLOPs or by measured latency, until they cost as much within `TOLERANCE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pixelkeep.experiments.sizes import Size, size_steps
from pixelkeep.experiments.widths import Step, alternatives, scale_of, widen, width_steps
from pixelkeep.ultra.costs.multiples import Compute, Latency, Network

TOLERANCE = 0.03  # of the variant's cost
WIDTH, SIZE = "width", "imgsz"  # what is changed
REACH = 1.5  # times the multiple that the variant costs: how far width and pixels are tried
SETTLED = 3  # candidates that are measured once more
T = TypeVar("T")


@dataclass(frozen=True)
class Arm:
    """What the baseline becomes.

    Attributes:
        name: ``yolov5-n w0.3203`` or ``yolov5-n 768x800``.
        definition: Of its model.
        size: Height and width of its images.
        step: The width multiple and its channels; None where they are the baseline's.
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
        """Return what makes it out of the baseline, ready for JSON; see :meth:`Baseline.remake`."""
        if self.step is None:
            return {SIZE: list(self.size)}
        return {WIDTH: self.step.width, "channels": {str(key): value for key, value in self.step.channels.items()}}


@dataclass(frozen=True)
class Baseline:
    """The baseline as it is trained.

    Attributes:
        name, definition: Of the model.
        size, stride: Of its images, and what their sides are multiples of.
        wide: Whether most images are wider than high.
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
        """Return it with the channels of a step."""
        return Arm(f"{self.name} w{step.width:g}", widen(self.definition, step), self.size, step)

    def of_size(self, size: Size) -> Arm:
        """Return it on images of a size."""
        return Arm(f"{self.name} {size[0]}x{size[1]}", self.definition, size, None)

    def remake(self, entry: dict) -> Arm:
        """Return the arm that :meth:`Arm.to_dict` describes."""
        if SIZE in entry:
            return self.of_size((entry[SIZE][0], entry[SIZE][1]))
        return self.of_width(Step(entry[WIDTH], {int(key): value for key, value in entry["channels"].items()}))


def near(ratio: float) -> bool:
    """Whether a cost is equal, for all that is promised."""
    return abs(ratio - 1) <= TOLERANCE


def distance(ratio: float) -> float:
    """Return how far a cost is from the variant's; twice as much is as far as half."""
    return abs(math.log(ratio))


def match(baseline: Baseline, cost: Compute | Latency, known: Iterable[Arm]) -> tuple[float, list[tuple[Arm, float]]]:
    """Look for what the baseline becomes to cost as much as a variant.

    Args:
        baseline: What is changed.
        cost: Tells what a network costs in multiples of the variant's cost.
        known: Arms of the baseline that other variants have; where one costs as much as this variant too, it serves.

    Returns:
        The baseline's own multiple, and the arms to train with theirs: none where the baseline costs as much itself,
        and none of a kind of which nothing comes nearer to the variant's cost than the baseline.
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
    """Looks through the baseline's widths and sizes for ``times`` its cost."""

    def __init__(self, baseline: Baseline, cost: Compute | Latency, times: float) -> None:
        self._baseline, self._cost = baseline, cost
        self._reach = REACH * max(1.0, times)
        self._serves = (lambda growth: growth >= 1) if times > 1 else (lambda growth: growth <= 1)

    def widths(self) -> list[tuple[Arm, float]]:
        """Return the widths that were tried."""
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
        """Return the image sizes that were tried, all of the baseline's shape.

        Another shape would be no fair rival: on images twice as wide as high, say, a rectangle has less padding than a
        square, so that it sees more pixels of them for as much compute.
        """
        base = self._baseline
        steps = size_steps(base.size, base.stride, self._reach, wide=base.wide)
        arms = [base.of_size(size) for size in steps if self._serves(math.prod(size) / math.prod(base.size))]
        tried = nearest(arms, lambda arm: self._cost.ratio(arm.network))
        return [(arms[place], ratio) for place, ratio in tried.items()]

    def best(self, tried: list[tuple[Arm, float]]) -> tuple[Arm, float] | None:
        """Return the one that costs as much, of the nearest few measured anew; None where nothing could be tried."""
        few = [arm for arm, _ in sorted(tried, key=lambda entry: distance(entry[1]))[:SETTLED]]
        if not few:
            return None
        ratios = self._cost.settle([arm.network for arm in few])
        return min(zip(few, ratios, strict=True), key=lambda entry: distance(entry[1]))


def nearest(steps: Sequence[T], ratio: Callable[[T], float | None]) -> dict[int, float]:
    """Bisect steps whose cost grows, and return the multiples of those that were tried, by their places.

    The two around 1 are among them. A step without a cost, as it cannot be built, is passed over.
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
