"""Writes the outcome of a comparison, its document, page and tables, from the finished runs of a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.errors import DataError, OptionError
from pixelkeep.experiments.arms import Arms, check_alike, read_run
from pixelkeep.experiments.document import describe
from pixelkeep.experiments.grid import Cell, Grid
from pixelkeep.report.comparison import as_markdown, as_text
from pixelkeep.report.html import as_page
from pixelkeep.ultra.running import runs
from pixelkeep.writing import write_text

TOLD = ("epochs", "batch", "optimizer", "lr0", "best", "pretrained", "fraction", "classes")  # what the report shows


@dataclass(frozen=True)
class Outcome:
    """The outcome of a comparison; ``print`` shows the tables that the command ends with.

    Attributes:
        document: Everything, as ``--json`` prints it and ``comparison.json`` holds it.
        folder: Folder of ``comparison.json`` and the report's page, and of the run folders if models were trained.
        failed: The trainings that failed, each with its reason.
    """

    document: dict
    folder: Path
    failed: dict[Cell, str]

    def __str__(self) -> str:
        return self.table

    @property
    def table(self) -> str:
        """Tables and notes as text, at most 80 columns wide."""
        return as_text(self.document)

    @property
    def page(self) -> Path:
        """Path of the report, one HTML file."""
        return self.folder / "comparison.html"

    @property
    def verdicts(self) -> dict[tuple[str, str], str | None]:
        """Verdict by arm and metric: better than the baseline, worse or not distinguishable; None for no verdict."""
        return {(d["arm"], d["metric"]): d["verdict"] for d in self.document["differences"]}

    @property
    def verdicts_at_equal_cost(self) -> dict[tuple[str, str], str | None]:
        """Verdict by arm and metric against all of the baseline's arms at the arm's cost; empty if not asked for."""
        return {(d["arm"], d["metric"]): d["verdict"] for d in self.document["equal_cost"]}

    def to_dict(self) -> dict:
        """Return the document."""
        return self.document

    def require_all(self) -> None:
        """Raise OptionError if a training failed: the comparison is written, but not of everything asked for."""
        if self.failed:
            cell, reason = next(iter(self.failed.items()))
            more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
            raise OptionError(f"{cell}{more} failed: {reason}; the same command retries what is missing")


def judge(
    grid: Grid,
    group: str | None,
    groups: dict | None,
    failed: dict[Cell, str],
    *,
    truth: dict | None = None,
    scored: Callable[[Cell], Path] | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Compare the finished runs of a grid, write the comparison and return it.

    Args:
        grid: The trainings.
        group: Regular expression that ``groups`` were found by.
        groups: By image id, the name of the group that the image is resampled with; None to resample each image by
            itself.
        failed: Trainings that failed, each with its reason.
        truth: Ground truth that the runs were scored on, in COCO form; by default that of the trainings.
        scored: Returns the folder with a cell's figures; by default the cell's own, with those of its training.
        folder: Folder to write the comparison to; the grid's by default.

    Raises:
        DataError: The baseline or all other arms have no finished run.
        OptionError: The figures cannot be compared.
    """
    where, truth, folder = scored or (lambda cell: cell.folder), truth or grid.truth, folder or grid.folder
    arms: Arms = {cell.arm: [] for cell in grid.cells}
    sizes = {}
    for cell in grid.cells:
        place = where(cell)
        if runs.is_finished(place):
            arms[cell.arm].append(read_run(place))
            if cell.imgsz:
                sizes[place] = list(cell.imgsz)
    own = {name: members for name, members in arms.items() if not (grid.equal and name in grid.equal.arms)}
    _require_two(own, grid.baseline, failed)
    present = {name: members for name, members in arms.items() if members}
    check_alike([run for members in present.values() for run in members], sizes)
    facts = group, groups, shared_settings(grid.settings), grid.settings.get("device")
    document = describe(present, grid.baseline, truth, *facts, grid.equal)
    own = {cell.arm: cell.own for cell in grid.cells}
    document["arms"] = [arm | {"own": own[arm["name"]]} for arm in document["arms"]]
    document["failed"] = [{"arm": c.arm, "seed": c.seed, "reason": reason} for c, reason in failed.items()]
    return Outcome(write(folder, document), folder, failed)


def shared_settings(settings: dict) -> dict:
    """Return the settings that the report shows."""
    return {key: settings[key] for key in TOLD if settings.get(key) is not None}


def _require_two(arms: Arms, baseline: str, failed: dict[Cell, str]) -> None:
    """Raise DataError, with the first failure, unless the baseline and another arm have runs."""
    empty = [name for name, members in arms.items() if not members]
    if baseline in empty or len(arms) - len(empty) < 2:
        arm = baseline if baseline in empty else empty[0]
        found = next(((cell, reason) for cell, reason in failed.items() if cell.arm == arm), None)
        if found is None:
            raise DataError(f"nothing to compare yet: no training of {arm} is done")
        cell, reason = found
        raise DataError(f"nothing to compare: all trainings of {cell.arm} failed, first {cell}: {reason}")


def write(folder: Path, document: dict) -> dict:
    """Write the document as JSON, Markdown and HTML; return it with the folder's name added."""
    document = {"name": folder.name, **document}
    with runs.storage(folder):
        runs.write_json(folder / "comparison.json", document)
        write_text(folder / "comparison.md", as_markdown(document))
        write_text(folder / "comparison.html", as_page(document))
    return document
