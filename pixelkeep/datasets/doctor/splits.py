"""Check what splits must not share (groups of images) and what they must have in common (classes)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pixelkeep.errors import OptionError

Members = Mapping[str, Sequence[Path]]  # the images of each split


def shared_groups(members: Members, pattern: str) -> tuple[dict[str, dict[str, int]], int]:
    """Find the groups of images that occur in several splits.

    Args:
        members: The images of each split.
        pattern: Regular expression to search for in file names. An image's group is named by the text of the pattern's
            first group, or by the whole match if the pattern has no group.

    Returns:
        For each shared group its number of images by split, and the number of file names that do not match.

    Raises:
        OptionError: The pattern is not a regular expression, or it matches no file name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise OptionError(f"--group '{pattern}': not a regular expression ({error})") from error
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    unmatched = 0
    for split, images in members.items():
        for image in images:
            if text := expression.search(image.name):
                found[text[min(1, expression.groups)]][split] += 1
            else:
                unmatched += 1
    if not found:
        example = next(image.name for images in members.values() for image in images)
        raise OptionError(f"--group '{pattern}': matches no file name, such as {example}")
    return {name: dict(counts) for name, counts in sorted(found.items()) if len(counts) > 1}, unmatched


def lopsided_classes(counts: Mapping[str, Mapping[str, int]]) -> dict[str, list[str]]:
    """Return the splits without an object of a class, for each class that some split lacks.

    Args:
        counts: For each split the number of objects of each class.
    """
    names = next(iter(counts.values())) if counts else ()
    without = {name: [split for split, found in counts.items() if not found[name]] for name in names}
    return {name: splits for name, splits in without.items() if splits}
