"""Figures split by a part of the file name, such as altitude, time of day or camera."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from pixelkeep.errors import OptionError
from pixelkeep.evaluation.coco import LIMIT, CocoEvaluator
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.result import By, PartFigures


class Breakdown:
    """Sorts images by what a regular expression finds in their names.

    An image's value is the text of the first named group, else of the first group, else of the whole match. A pattern
    with a slash is searched in the path below the dataset's folder, any other pattern in the file's name alone.

    Args:
        pattern: A regular expression in the syntax of Python's ``re``.

    Errors: OptionError for a pattern that is not a regular expression.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._expression = re.compile(pattern)
        except re.error as error:
            raise OptionError(f"by '{pattern}' is not a regular expression: {error}") from error
        self.pattern = pattern
        self.name = next(iter(self._expression.groupindex), None)

    def value(self, file: str) -> str | None:
        """Return the value of a file name; None where the pattern does not match."""
        match = self._expression.search(file if "/" in self.pattern else PurePosixPath(file).name)
        if match is None:
            return None
        return match[self.name or min(1, self._expression.groups)]

    def split(self, files: Iterable[str]) -> tuple[dict[str, list[int]], int]:
        """Return the positions of the files by value, in order of the values, and how many files do not match.

        Errors: OptionError when no file matches.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        files, unmatched = list(files), 0
        for index, file in enumerate(files):
            value = self.value(file)
            if value is None:
                unmatched += 1
            else:
                groups[value].append(index)
        if not groups:
            raise OptionError(f"by '{self.pattern}' matches none of {len(files)} file names, such as {files[0]}")
        return {value: groups[value] for value in sorted(groups, key=_in_order)}, unmatched


def break_down(whole: CocoEvaluator, detections: Detections, breakdown: Breakdown) -> By:
    """Return the figures of each value, from an evaluation of its images alone.

    The limit of detections and the match are those of the evaluator ``whole``.

    Errors: OptionError when no file name matches.
    """
    images = whole.source["images"]
    groups, unmatched = breakdown.split(image.get("file_name", "") for image in images)
    objects = defaultdict(list)
    for annotation in whole.source["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    values = {}
    for value, positions in groups.items():
        ids = [images[position]["id"] for position in positions]
        part = {
            "images": [images[position] for position in positions],
            "categories": whole.source["categories"],
            "annotations": [annotation for number in ids for annotation in objects[number]],
        }
        evaluator = CocoEvaluator(
            part, max_dets=whole.caps[LIMIT], bins=replace(whole.bins, ranges=()), match=whole.similarity.name
        )
        result = evaluator.evaluate(detections.subset(np.isin(detections.image_ids, ids)))
        values[value] = PartFigures(
            images=len(ids), AP=result.AP, AP50=result.AP50, AP_S=result.AP_S, counts=result.counts
        )
    return By(regex=breakdown.pattern, name=breakdown.name, unmatched=unmatched, values=values)


def _in_order(value: str) -> tuple[bool, float, str]:
    """Return a sort key that puts numbers first, by size, and other texts after them."""
    return (False, float(value), value) if value.isdecimal() else (True, 0.0, value)
