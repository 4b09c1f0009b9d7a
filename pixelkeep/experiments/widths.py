"""Makes a model wider or narrower by a real number, in steps small enough to hit a cost.

Ultralytics multiplies the channels of every row by the width multiple and rounds them up to a multiple of 8. Channel
numbers are mostly powers of two, so many rows are rounded up at the same width: yolov8-n goes from 1.39 to 1.60 times
its compute between the widths 0.3125 and 0.3126. The steps here are those that a growing multiple passes through, but
taken one number of channels at a time, the largest first. Each is a multiple of 8, and all are within 8 of the
multiple. If the widest rows cannot be built so, as attention needs channels that its heads divide, only these stay
narrower.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

ROUND = 8  # Ultralytics' make_divisible
DIGITS = 5  # decimals of a width, enough to tell any two steps apart
NARROWER = 4  # times 8 channels: how far the widest rows may stay behind


@dataclass(frozen=True)
class Step:
    """A width multiple and, by the number of channels in the definition, the channels that such rows get."""

    width: float
    channels: dict[int, int]


def scale_of(definition: dict) -> tuple[str, float, float, float]:
    """Return a definition's scale letter, depth multiple, width multiple and largest number of channels."""
    scales = definition.get("scales")
    if not scales:
        return "w", definition.get("depth_multiple", 1.0), definition.get("width_multiple", 1.0), math.inf
    letter = definition.get("scale") or next(iter(scales))
    return letter, *scales[letter]


def width_steps(definition: dict, most: float) -> list[Step]:
    """Return the steps from the narrowest to the width ``most``; the definition's own width is among them."""
    cap = scale_of(definition)[3]
    numbers = sorted({min(row[3][0], cap) for row in _rows(definition) if _is_scaled(row)}, reverse=True)
    rises: dict[float, list[int]] = defaultdict(list)  # at width 8 m / c, rows of c go from 8 m to 8 (m + 1)
    for number in numbers:
        for m in range(1, math.ceil(most * number / ROUND) + 1):
            rises[ROUND * m / number].append(number)
    widths, steps = sorted(rises), []
    channels = dict.fromkeys(numbers, ROUND)
    for low, high in pairwise(widths):
        for place, number in enumerate(rises[low], 1):
            channels[number] += ROUND
            width = low + place / len(rises[low]) * (high - low)
            steps.append(Step(math.floor(width * 10**DIGITS) / 10**DIGITS, dict(channels)))
    return [step for step in steps if step.width <= most]


def alternatives(step: Step) -> Iterator[Step]:
    """Yield the step, then steps whose widest rows have fewer and fewer channels."""
    widest = max(step.channels, default=0)
    for less in range(NARROWER + 1 if widest else 1):
        channels = step.channels.get(widest, 0) - less * ROUND
        if channels > 0 or not widest:
            yield Step(step.width, {**step.channels, widest: channels} if widest else {})


def widen(definition: dict, step: Step) -> dict:
    """Return the definition with the width and channels of a step.

    The definition has one scale, with the step's width. Rows that rounding would make wider than the step are defined
    with fewer channels.
    """
    letter, depth, _, cap = scale_of(definition)

    def row(given: list) -> list:
        if not _is_scaled(given):
            return given
        number = min(given[3][0], cap)
        wanted = step.channels[number]
        own = given[3][0]
        if _rounded(number * step.width) != wanted:
            own = math.floor(wanted / step.width)
        return [*given[:3], [own, *given[3][1:]], *given[4:]]

    left_out = ("yaml_file", "depth_multiple", "width_multiple")
    kept = {key: value for key, value in definition.items() if key not in left_out}
    largest = max(step.channels, default=0) if math.isinf(cap) else cap
    scales = {"scales": {letter: [depth, step.width, largest]}, "scale": letter}
    return {**kept, **scales, **{part: [row(r) for r in definition[part]] for part in ("backbone", "head")}}


def _rounded(channels: float) -> int:
    return math.ceil(channels / ROUND) * ROUND


def _rows(definition: dict) -> list[list]:
    return [*definition["backbone"], *definition["head"]]


def _is_scaled(row: list) -> bool:
    """Return whether the first argument of a row is a number of channels; smaller numbers are sizes or dimensions."""
    first = row[3][0] if len(row) > 3 and isinstance(row[3], list) and row[3] else None
    return isinstance(first, int) and not isinstance(first, bool) and first >= ROUND
