"""Divide images into training and validation by groups, so that images that belong together stay on one side.

Neighbouring frames of a video, or tiles of one picture, are almost the same image. A validation on such neighbours of
training images measures memory.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.errors import DataError, OptionError


def split_by_group(
    records: Sequence[ImageRecord], share: float, seed: int = 0, pattern: str | None = None
) -> tuple[list[ImageRecord], list[ImageRecord], int]:
    """Divide records into two parts without splitting groups; equal file names and seeds give equal parts.

    Args:
        records: The images to divide.
        share: Share of the images that go into the first part, between 0 and 1.
        seed: Seed that decides which groups go where.
        pattern: Regular expression to search for in file names; the text of its first group names the image's group.
            None puts each image into a group of its own.

    Returns:
        The two parts, each in the order of ``records``, and the number of groups.

    Raises:
        OptionError: The share or the pattern cannot be used.
        DataError: The pattern does not match a file name, or there are fewer than two groups.
    """
    if not 0 < share < 1:
        raise OptionError(f"--split {share:g}: the share of the training images must be between 0 and 1, such as 0.8")
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(_keys(records, pattern)):
        groups.setdefault(key, []).append(place)
    if len(groups) < 2:
        raise DataError(f"{len(records)} images in {len(groups)} group: nothing to divide; give another --group")
    keys = sorted(groups)
    random.Random(seed).shuffle(keys)
    target, first = share * len(records), set()
    for key in keys[:-1]:  # the last group always goes to the second part, which is therefore never empty
        if abs(len(first) + len(groups[key]) - target) <= abs(len(first) - target):
            first.update(groups[key])
    first = first or set(groups[keys[0]])
    parts = ([r for place, r in enumerate(records) if (place in first) == side] for side in (True, False))
    return *parts, len(groups)


def _keys(records: Sequence[ImageRecord], pattern: str | None) -> list[str]:
    """Return the group of each record."""
    if pattern is None:
        return [str(record.path) for record in records]
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise OptionError(f"--group {pattern}: not a regular expression ({error})") from error
    if not expression.groups:
        raise OptionError(f"--group {pattern}: needs a group in brackets, such as '(.*)_[0-9]+'")
    keys = []
    for record in records:
        match = expression.search(record.path.name)
        if match is None or match[1] is None:
            raise DataError(f"{record.path}: --group {pattern} does not match its name; every image needs a group")
        keys.append(match[1])
    return keys
