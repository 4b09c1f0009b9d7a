"""Turn the annotations of a split, as its files give them, into image records, with one rule for whatever is wrong.

The readers of COCO, VOC and VisDrone fill one table with the annotations of a split. The whole table is checked here
at once, so that half a million rows cost no more than a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.extras import apply_extras
from pixelkeep.datasets.annotations.mending import OVER_THE_BORDER, drop_repeated, is_over, set_aside, snap
from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.annotations.record import ImageRecord, box_areas
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.inspection import Facts

REGION = -1  # in place of a label number: the rectangle is a region in which nothing is judged
SLACK = 1e-6  # relative difference up to which an annotated area counts as equal to the area of its box

Read = tuple[ImageRecord, Path]  # a record and its annotation file


@dataclass
class Source:
    """One image of a split and its annotation file.

    Attributes:
        image: The image file.
        file: The file that holds the image's annotations.
        size: Width and height in pixels as the annotations state them; None or 0 where they state none.
        id: The image's id in a COCO file.
        wrong: Problems that were found while reading and do not depend on the boxes, each as line, kind and detail.
    """

    image: Path
    file: Path
    size: tuple[float | None, float | None] = (None, None)
    id: int | None = None
    wrong: list[tuple[int | None, str, str]] = field(default_factory=list)


@dataclass
class Rows:
    """The annotations of a split.

    Attributes:
        owner: Int (n,), for each annotation the position of its image among the sources, in non-decreasing order.
        boxes: Float64 (n, 4), x1 y1 x2 y2 in pixels.
        labels: Int (n,), the label number of each annotation; `REGION` for a region to ignore.
        where: Function that returns for a row its line in the file (None if it has none) and its name in messages.
        areas: Float64 (n,), annotated areas; NaN where the area of the box is to be used. None if that holds for all.
        difficult: Bool (n,), objects that an evaluation leaves out; None if there are none.
        ids: Int (n,), annotation ids; None if the annotations have none.
    """

    owner: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    where: Callable[[int], tuple[int | None, str]]
    areas: np.ndarray | None = None
    difficult: np.ndarray | None = None
    ids: np.ndarray | None = None


def assemble(
    sources: Sequence[Source], rows: Rows, spec: DatasetSpec, facts: dict[Path, Facts], problems: Problems
) -> list[Read]:
    """Return the records of the images that can be used, and record in ``problems`` what is wrong with the others."""
    boxes = snap(np.asarray(rows.boxes, np.float64).reshape(-1, 4))
    usable = np.array([_is_usable(source, facts[source.image], problems) for source in sources], bool)
    sizes = np.array([(facts[s.image].width, facts[s.image].height) for s in sources], np.float64).reshape(-1, 2)
    owner, limits = rows.owner, np.tile(sizes[rows.owner], 2)  # (n, 4): width, height, width, height
    ignored = (rows.labels == REGION) | (spec.classes()[rows.labels] < 0)
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    outside = (boxes[:, :2] >= limits[:, :2]).any(1) | (boxes[:, 2:] <= 0).any(1)
    for row in np.flatnonzero((flat | outside) & ~ignored & usable[owner]).tolist():
        _leave_out(sources[owner[row]], rows.where(row), boxes[row], bool(flat[row]), problems)
    left_out = np.array([source.image in problems.left_out for source in sources], bool)
    kept = ~(flat | outside) & ~left_out[owner]
    _tell_of_regions(sources, owner[(flat | outside) & ignored & ~left_out[owner]], problems)
    clipped = np.clip(boxes, 0, limits)
    _tell_of_borders(sources, owner, kept & is_over(boxes, clipped), problems)
    table = Rows(owner[kept], clipped[kept], rows.labels[kept], rows.where, _areas(boxes, clipped, rows.areas)[kept])
    table.difficult = None if rows.difficult is None else rows.difficult[kept]
    table.ids = None if rows.ids is None else rows.ids[kept]
    bounds = np.searchsorted(table.owner, np.arange(len(sources) + 1))
    return [
        (_record(source, facts[source.image], table, slice(*bounds[i : i + 2])), source.file)
        for i, source in enumerate(sources)
        if not left_out[i]
    ]


def complete(reads: Sequence[Read], spec: DatasetSpec, split: str, problems: Problems) -> list[ImageRecord]:
    """Return records with the extras of their split applied, repeated objects dropped and ignored classes as regions.

    Args:
        reads: Records whose classes are label numbers, each with its annotation file.
        spec: The dataset definition.
        split: train, val or test.
        problems: Collects the objects that were given twice. The extras may also name the images it has left out.
    """
    records = [record for record, _ in reads]
    if split in spec.extras:
        records = apply_extras(records, spec.root, spec.extras[split], left_out=problems.left_out)
    records = [drop_repeated(record, file, problems) for record, (_, file) in zip(records, reads, strict=True)]
    return [set_aside(record, spec.classes()) for record in records] if spec.ignore else records


def _is_usable(source: Source, facts: Facts, problems: Problems) -> bool:
    """Return whether boxes can be placed on an image, and record what is wrong with it."""
    if facts.reason:
        detail = f"{facts.reason}; its annotations are in {source.file}"
        problems.leave_out(source.image, "image unusable", source.image, detail)
        return False
    for given, found in zip(source.size, (facts.width, facts.height), strict=True):
        if given and given != found:
            shown = "x".join(f"{side:g}" if side else "?" for side in source.size)
            detail = f"{source.image.name}: {shown} pixels in the annotations, but {facts.width}x{facts.height} in fact"
            problems.leave_out(source.image, "image of another size", source.file, detail)
            return False
    if facts.frames:
        problems.mend("several frames or pages, the first is used", source.image, "")
    for line, kind, detail in source.wrong:
        problems.leave_out(source.image, kind, source.file, detail, line)
    return True


def _leave_out(source: Source, where: tuple[int | None, str], box: np.ndarray, flat: bool, problems: Problems) -> None:
    line, words = where
    x1, y1, x2, y2 = box.tolist()
    name = f"{words} of {source.image.name}" if words else source.image.name
    if flat:
        kind, detail = "label without a size", f"width {x2 - x1:g} and height {y2 - y1:g}; both must be above 0"
    else:
        kind, detail = "label outside the image", f"corners {x1:g}, {y1:g}, {x2:g}, {y2:g} in pixels"
    problems.leave_out(source.image, kind, source.file, f"{name}: {detail}", line)


def _tell_of_regions(sources: Sequence[Source], owners: np.ndarray, problems: Problems) -> None:
    for place in np.unique(owners).tolist():
        kind = "regions to ignore without a size, or outside the image, left out"
        problems.mend(kind, sources[place].file, f"{(owners == place).sum()} of {sources[place].image.name}")


def _tell_of_borders(sources: Sequence[Source], owner: np.ndarray, over: np.ndarray, problems: Problems) -> None:
    places, counts = np.unique(owner[over], return_counts=True)
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        total = np.searchsorted(owner, place, "right") - np.searchsorted(owner, place)
        problems.mend(OVER_THE_BORDER, sources[place].file, f"{count} of {total} of {sources[place].image.name}")


def _areas(boxes: np.ndarray, clipped: np.ndarray, areas: np.ndarray | None) -> np.ndarray:
    """Return areas (n,) as annotated, but the clipped box's area where none is given or it was the uncut box's area."""
    own = box_areas(clipped)
    if areas is None:
        return own
    cut = (boxes != clipped).any(1) & np.isclose(areas, box_areas(boxes), rtol=SLACK, atol=SLACK)
    return np.where(np.isnan(areas) | cut, own, areas)


def _record(source: Source, facts: Facts, rows: Rows, own: slice) -> ImageRecord:
    labels, boxes = rows.labels[own], rows.boxes[own]
    objects, regions = labels != REGION, labels == REGION
    return ImageRecord(
        source.image,
        facts.width,
        facts.height,
        boxes[objects],
        labels[objects],
        rows.areas[own][objects],
        None if rows.difficult is None else rows.difficult[own][objects],
        boxes[regions],
        image_id=source.id,
        ids=None if rows.ids is None else rows.ids[own][objects],
        region_ids=None if rows.ids is None else rows.ids[own][regions],
    )
