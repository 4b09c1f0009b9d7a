"""Converting a dataset as a command does: found by name, with progress, and what is wrong with it told."""

from __future__ import annotations

from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.datasets.convert import PROBLEMS, Division, Outcome, convert
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.loading import Split, load_split
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running.console import progress_bar
from pixelkeep.ultra.running.settings import dataset_folder


def convert_data(
    source: str,
    form: str,
    output: Path,
    *,
    link: bool = False,
    division: Division | None = None,
    assignments: list[str] | None = None,
) -> Outcome:
    """Convert a dataset.

    Args:
        source: A dataset YAML, or the name of a bundled one.
        form: yolo, coco or voc.
        output: The folder to write.
        link: Whether images are linked rather than copied.
        division: How to divide its images into train and val anew.
        assignments: ``path=FOLDER``, the dataset's folder.

    Raises:
        PixelkeepError: Anything that cannot be used; nothing has been written then.
    """
    spec = resolve_data(source, dataset_folder(assignments, "convert"), needs=("train",))
    outcome = convert(spec, form, output, link=link, division=division, load=_load)
    for report in outcome.problems:
        if summary := report.summary(spec.root):
            LOGGER.warning(summary)
    if any(report.found for report in outcome.problems):
        LOGGER.info(f"Every case is listed in {outcome.yaml.with_name(PROBLEMS)}")
    return outcome


def _load(spec: DatasetSpec, split: str) -> Split:
    """Read a split, with a progress bar."""
    with progress_bar(f"checking {split} images") as progress:
        return load_split(spec, split, progress)
