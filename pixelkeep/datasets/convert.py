"""Convert a dataset from any format into another, with the same images and annotations, completely or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.datasets.annotations.problems import Problems, to_csv
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.annotations.splitting import split_by_group
from pixelkeep.datasets.definitions.forms import COCO
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.loading import Split, load_split
from pixelkeep.datasets.saving import WRITTEN, save_split, save_yaml
from pixelkeep.errors import DataError, OptionError, choices, nearest
from pixelkeep.writing import write_text

YAML, PROBLEMS = "data.yaml", "data_problems.csv"


@dataclass(frozen=True)
class Division:
    """How to redistribute the images of train and val; test stays as it is.

    Attributes:
        share: Share of these images that go to train.
        seed: Seed that decides which images go to train.
        group: The pattern of :func:`pixelkeep.datasets.annotations.splitting.split_by_group`.
    """

    share: float
    seed: int = 0
    group: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a conversion.

    Attributes:
        yaml: The YAML file of the written dataset.
        splits: The written records of each split.
        problems: The problems of each split of the source.
        groups: Number of groups that were divided; None if the splits were kept.
    """

    yaml: Path
    splits: dict[str, list[ImageRecord]]
    problems: list[Problems]
    groups: int | None

    def to_dict(self) -> dict:
        """Return the path of the YAML and the counts as a dictionary for JSON."""
        return {
            "yaml": str(self.yaml),
            "groups": self.groups,
            "splits": {split: _counts(records) for split, records in self.splits.items()},
            "left_out": {report.split: len(report.left_out) for report in self.problems},
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the counts of each split as a table, as its header and its rows."""
        rows = [
            [split, *(f"{count:,}" for count in _counts(records).values())] for split, records in self.splits.items()
        ]
        return ["split", "images", "objects", "regions"], rows


def convert(
    spec: DatasetSpec,
    form: str,
    output: Path,
    *,
    link: bool = False,
    division: Division | None = None,
    load: Callable[[DatasetSpec, str], Split] = load_split,
) -> Outcome:
    """Write a dataset in another format into a new folder.

    Args:
        spec: The definition of the dataset to convert.
        form: The format to write: yolo, coco or voc.
        output: The folder to write, new or empty.
        link: Whether to link images rather than copy them.
        division: How to redistribute the images over train and val; None to keep the splits.
        load: Function that reads a split.

    Raises:
        OptionError: The format or the division cannot be used.
        DataError: The dataset cannot be read or cannot be written in that format, or ``output`` is not empty.
    """
    if form not in WRITTEN:
        raise OptionError(f"--to {form}: not one of {choices(WRITTEN)}{nearest(form, WRITTEN)}")
    output = Path(output).resolve()
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise DataError(f"{output}: already exists and is not empty; give a new folder")
    loaded = {split: load(spec, split) for split in spec.splits}
    splits, groups = _divided(loaded, division)
    problems = [split.problems for split in loaded.values()]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent, ignore_cleanup_errors=True) as made:
        whole = Path(made) / output.name
        _write(whole, spec, form, splits, link)
        if any(report.found for report in problems):
            write_text(whole / PROBLEMS, to_csv(problems))
        if output.is_dir():
            output.rmdir()
        whole.rename(output)
    return Outcome(output / YAML, splits, problems, groups)


def _divided(loaded: dict[str, Split], division: Division | None) -> tuple[dict[str, list[ImageRecord]], int | None]:
    """Return the records of each split to write, without repeated images, and the number of groups."""
    splits = {name: list({record.path: record for record in split.records}.values()) for name, split in loaded.items()}
    if division is None:
        return splits, None
    pool = {record.path: record for name in ("train", "val") for record in splits.pop(name, [])}
    records = sorted(pool.values(), key=lambda record: str(record.path))
    train, val, groups = split_by_group(records, division.share, division.seed, division.group)
    return {"train": train, "val": val, **splits}, groups


def _write(root: Path, spec: DatasetSpec, form: str, splits: dict[str, list[ImageRecord]], link: bool) -> None:
    for split, records in splits.items():
        save_split(form, root, split, records, spec.names, link, spec.category_ids)
    others = dict(spec.others)
    if spec.category_ids and form != COCO:  # COCO files hold the ids themselves
        others["category_ids"] = list(spec.category_ids)
    if spec.channels != 3:
        others["channels"] = spec.channels
    if spec.stretch:
        others["stretch"] = list(spec.stretch)
    save_yaml(root / YAML, tuple(splits), spec.names, form, others)


def _counts(records: list[ImageRecord]) -> dict[str, int]:
    return {
        "images": len(records),
        "objects": sum(len(record.boxes) for record in records),
        "regions": sum(len(record.regions) for record in records),
    }
