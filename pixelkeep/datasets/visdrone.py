"""VisDrone-DET: a folder with images/ and annotations/, one text file per image.

A row is ``x,y,width,height,score,category,truncation,occlusion``. Categories 1 to 10 are classes 0 to 9. Category 0
(ignored regions), category 11 (others) and rows with score 0 are not judged in VisDrone's evaluation, so they become
regions to ignore here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.assembling import REGION, Read, Rows, Source, assemble
from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.definitions.spec import DatasetSpec, images_below
from pixelkeep.datasets.images.inspection import inspect_all
from pixelkeep.errors import DataError

COLUMNS = "x,y,width,height,score,category,truncation,occlusion"
IGNORED_REGIONS, OTHERS = 0, 11

Row = tuple[int, int, tuple[float, ...]]  # line number, label number, and x1 y1 x2 y2 in pixels


class _RowError(DataError):
    """A row that cannot be understood, with the kind of problem (a fixed wording that can be counted) and a detail."""

    def __init__(self, kind: str, detail: str):
        super().__init__(detail)
        self.kind = kind


def read_visdrone(
    spec: DatasetSpec, split: str, problems: Problems, progress: Callable[[int, int], None] | None = None
) -> list[Read]:
    """Return the usable records of a split, with label numbers as classes; record the rest in ``problems``."""
    sources, groups = [], []
    for folder in spec.sources(split):
        pictures = folder / "images"
        for image in images_below(pictures):
            file = (folder / "annotations" / image.relative_to(pictures)).with_suffix(".txt")
            source = Source(image, file)
            sources.append(source)
            groups.append(_read(file, source))
    problems.images = len(sources)
    facts = inspect_all([source.image for source in sources], spec.channels, spec.stretch, progress)
    flat = [(place, *row) for place, rows in enumerate(groups) for row in rows]
    rows = Rows(
        owner=np.array([place for place, *_ in flat], np.int64),
        boxes=np.array([box for *_, box in flat], np.float64).reshape(-1, 4),
        labels=np.array([label for _, _, label, _ in flat], np.int64),
        where=lambda row: (flat[row][1], ""),
    )
    return assemble(sources, rows, spec, facts, problems)


def _read(file: Path, source: Source) -> list[Row]:
    """Return the rows of an annotation file; add what is wrong with the file to ``source.wrong``."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        source.wrong.append((None, "annotation file unreadable", str(reason)))
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append((number, *_parse(line)))
        except _RowError as error:
            source.wrong.append((number, error.kind, str(error)))
    return [] if source.wrong else rows


def _parse(line: str) -> tuple[int, tuple[float, ...]]:
    """Return the label number and the corners of a row."""
    texts = line.strip().rstrip(",").split(",")
    if len(texts) != len(COLUMNS.split(",")):
        raise _RowError("label with a wrong number of columns", f"{len(texts)} columns; they must be {COLUMNS}")
    try:
        x, y, width, height, score, category, *_ = map(int, texts)
    except ValueError:
        raise _RowError("label not numbers", f"'{line.strip()[:60]}' is not {COLUMNS} in whole numbers") from None
    if not IGNORED_REGIONS <= category <= OTHERS:
        raise _RowError("class number unknown", f"category {category}; it must be 0 to {OTHERS}")
    region = score == 0 or category in (IGNORED_REGIONS, OTHERS)
    return REGION if region else category - 1, (x, y, x + width, y + height)
