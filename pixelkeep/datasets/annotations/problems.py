"""What is wrong with a dataset, collected while it is read, told in one summary and listed whole in one file.

One rule for every format: an image that cannot be decoded, or whose labels cannot all be understood, is left out as a
whole, since training on an image with an object missing teaches that the object is background. What can be mended
without guessing is mended. A split of which more than half would be left out is refused: then the mistake is not in
single files.
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
WIDTH = 80  # of a summary, in characters
REFUSED_ABOVE = 0.5  # share of a split's images


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        effect: ``left out`` (the image), ``mended`` or ``noted``.
        kind: What is wrong, in words that can be counted, e.g. ``class number unknown``.
        file: The file it is in.
        line: Its line in ``file``, from 1; None for the file as a whole.
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
        strict: Whether the first image that would be left out is an error instead.

    Attributes:
        split: train, val or test.
        found: All of them, in the order of the files.
        left_out: The images that are left out.
        images: How many images the split lists.
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
            DataError: The problem itself, where these are strict.
        """
        problem = Problem(LEFT_OUT, kind, file, line, detail)
        if self.strict:
            raise DataError(str(problem))
        self.left_out.add(image)
        self.found.append(problem)

    def mend(self, kind: str, file: Path, detail: str, line: int | None = None) -> None:
        """Record what was put right."""
        self.found.append(Problem(MENDED, kind, file, line, detail))

    def note(self, kind: str, file: Path, detail: str = "") -> None:
        """Record what changes nothing but may not be meant."""
        self.found.append(Problem(NOTED, kind, file, None, detail))

    def refuse_if_systematic(self, where: object) -> None:
        """Refuse a split of which too little is left.

        Args:
            where: What the message names, such as the dataset's file.

        Raises:
            DataError: More than half of its images are left out.
        """
        if len(self.left_out) > REFUSED_ABOVE * self.images:
            first = next(problem for problem in self.found if problem.effect == LEFT_OUT)
            raise DataError(
                f"{where}: {len(self.left_out)} of {self.images} images of split '{self.split}' cannot be used; "
                f"the first: {first}"
            )

    def summary(self, root: Path) -> str:
        """Return a few lines for people: each kind of problem with its first case; '' for none.

        Args:
            root: Paths below it are shown relative to it.
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
    """Return every problem as a line of CSV, under a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        for p in report.found:
            file = str(p.file).encode("utf-8", "backslashreplace").decode()
            writer.writerow([report.split, p.effect, p.kind, file, p.line or "", p.detail])
    return text.getvalue()
