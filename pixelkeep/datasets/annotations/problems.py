"""Collect the problems of a dataset while it is read, to be summed up on screen and listed in full in one file.

One rule holds for every format. An image that cannot be decoded, or whose labels cannot all be understood, is left out
as a whole: training on an image with an object missing teaches that the object is background. What can be mended
without guessing is mended. A split that would lose more than half of its images is refused, because then the mistake
does not lie in single files.
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.errors import DataError

LEFT_OUT, MENDED, NOTED = "left out", "mended", "noted"
COLUMNS = ("split", "effect", "problem", "file", "line", "detail")
WIDTH = 80  # line width of a summary, in characters
REFUSED_ABOVE = 0.5  # share of a split's images that may be left out; with more, the split is refused


@dataclass(frozen=True)
class Problem:
    """One problem of a dataset.

    Attributes:
        effect: What was done about it: ``left out`` (the image), ``mended`` or ``noted``.
        kind: Fixed wording of what is wrong, so that cases can be counted, e.g. ``class number unknown``.
        file: The file in which the problem is.
        line: Line of the problem in ``file``, from 1; None if it concerns the file as a whole.
        detail: What was found and what would be right.
    """

    effect: str
    kind: str
    file: Path
    line: int | None
    detail: str

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else str(self.file)
        return f"{where}: {self.detail}" if self.detail else where


class Problems:
    """The problems of one split.

    Args:
        split: train, val or test.
        strict: Whether to raise an error at the first image that would otherwise be left out.

    Attributes:
        split: train, val or test.
        found: All problems, in the order of the files.
        left_out: The images that are left out.
        images: Number of images that the split lists.
    """

    def __init__(self, split: str, strict: bool = False):
        self.split = split
        self.strict = strict
        self.found: list[Problem] = []
        self.left_out: set[Path] = set()
        self.images = 0

    def leave_out(self, image: Path, kind: str, file: Path, detail: str, line: int | None = None) -> None:
        """Record why ``image`` is left out.

        Raises:
            DataError: The problem itself, if ``strict`` is set.
        """
        problem = Problem(LEFT_OUT, kind, file, line, detail)
        if self.strict:
            raise DataError(str(problem))
        self.left_out.add(image)
        self.found.append(problem)

    def mend(self, kind: str, file: Path, detail: str, line: int | None = None) -> None:
        """Record something that was mended."""
        self.found.append(Problem(MENDED, kind, file, line, detail))

    def note(self, kind: str, file: Path, detail: str = "") -> None:
        """Record something that has no effect but may be unintended."""
        self.found.append(Problem(NOTED, kind, file, None, detail))

    def refuse_if_systematic(self, where: object) -> None:
        """Refuse a split if too many of its images are left out.

        Args:
            where: What the message names as the place of the problem, such as the dataset's file.

        Raises:
            DataError: More than half of the split's images are left out.
        """
        if len(self.left_out) > REFUSED_ABOVE * self.images:
            first = next(problem for problem in self.found if problem.effect == LEFT_OUT)
            raise DataError(
                f"{where}: {len(self.left_out)} of {self.images} images of split '{self.split}' cannot be used; "
                f"the first: {first}"
            )

    def summary(self, root: Path) -> str:
        """Return a summary of a few lines, each kind of problem with its count and first case; '' without problems.

        Args:
            root: Folder to which the paths below it are shown relative.
        """
        heads = {
            LEFT_OUT: f"{self.split}: {len(self.left_out)} of {self.images} images left out",
            MENDED: f"{self.split}: mended",
            NOTED: f"{self.split}: noted",
        }
        lines = []
        for effect, head in heads.items():
            groups = self._by_kind(effect)
            lines += [head] * bool(groups)
            for kind, problems in groups.items():
                lines.append(f"{len(problems):>7}  {kind}{', the first:' if len(problems) > 1 else ':'}")
                lines.append(_indented(str(problems[0]).replace(f"{root}/", "")))
        return "\n".join(lines)

    def _by_kind(self, effect: str) -> dict[str, list[Problem]]:
        groups: dict[str, list[Problem]] = {}
        for problem in self.found:
            if problem.effect == effect:
                groups.setdefault(problem.kind, []).append(problem)
        return groups


def _indented(text: str) -> str:
    indent = " " * 9
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def to_csv(reports: Iterable[Problems]) -> str:
    """Return a CSV text with a header and one line per problem."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        for p in report.found:
            file = str(p.file).encode("utf-8", "backslashreplace").decode()
            writer.writerow([report.split, p.effect, p.kind, file, p.line or "", p.detail])
    return text.getvalue()
