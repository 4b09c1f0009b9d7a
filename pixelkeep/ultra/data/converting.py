"""Dataset conversion for the command line: find the dataset by name, show progress, report problems in the data."""

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
    """Convert a dataset to another annotation format.

    Args:
        source: Path of a dataset YAML, or the name of a bundled one.
        form: Format to write: yolo, coco or voc.
        output: The folder to write.
        link: Whether images are linked rather than copied.
        division: How to redistribute the images over train and val; None to keep the splits.
        assignments: ``path=FOLDER``, which sets the dataset's folder.

    Raises:
        PixelkeepError: An argument or the data cannot be used; nothing has been written in that case.
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
    """Read a split while showing a progress bar."""
    with progress_bar(f"checking {split} images") as progress:
        return load_split(spec, split, progress)
