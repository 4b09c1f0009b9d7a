"""What a comparison comes to: its document, page and tables, from the runs of a grid that are there."""

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

TOLD = ("epochs", "batch", "optimizer", "lr0", "best", "pretrained", "fraction", "classes")  # of what runs share


@dataclass(frozen=True)
class Outcome:
    """What has been compared; ``print`` shows the tables that the command ends with.

    Attributes:
        document: All of it, as ``--json`` prints it and ``comparison.json`` holds it.
        folder: Where that, its page and the run folders are.
        failed: Which trainings failed, with their reasons.
    """

    document: dict
    folder: Path
    failed: dict[Cell, str]

    def __str__(self) -> str:
        return self.table

    @property
    def table(self) -> str:
        """The tables and notes as text, at most 80 columns wide."""
        return as_text(self.document)

    @property
    def page(self) -> Path:
        """The report as one HTML file."""
        return self.folder / "comparison.html"

    @property
    def verdicts(self) -> dict[tuple[str, str], str | None]:
        """By arm and metric whether it is better than the baseline, worse or not distinguishable; None: no verdict."""
        return {(d["arm"], d["metric"]): d["verdict"] for d in self.document["differences"]}

    @property
    def verdicts_at_equal_cost(self) -> dict[tuple[str, str], str | None]:
        """The same against all that the baseline becomes at the arm's cost; empty where that was not asked for."""
        return {(d["arm"], d["metric"]): d["verdict"] for d in self.document["equal_cost"]}

    def to_dict(self) -> dict:
        """Return the document."""
        return self.document

    def require_all(self) -> None:
        """Raise OptionError if a training failed: the comparison is there, and something is left to do."""
        if self.failed:
            cell, reason = next(iter(self.failed.items()))
            more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
            raise OptionError(f"{cell}{more} failed: {reason}; the same command tries again what is missing")


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
    """Compare what of a grid is there.

    Args:
        grid: The trainings.
        group: The expression that ``groups`` were found by.
        groups: By image id what it is drawn with; None to draw each image by itself.
        failed: Trainings that failed, each with its reason.
        truth: The ground truth that the runs were scored on, in COCO form; by default that of the trainings.
        scored: Where a cell's figures are; by default in its own folder, those of its training.
        folder: Where the comparison is written; the grid's by default.

    Raises:
        DataError: There is nothing to compare.
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
    """Return what the report tells of the settings."""
    return {key: settings[key] for key in TOLD if settings.get(key) is not None}


def _require_two(arms: Arms, baseline: str, failed: dict[Cell, str]) -> None:
    """Raise DataError where there is nothing to compare, with the first reason."""
    empty = [name for name, members in arms.items() if not members]
    if baseline in empty or len(arms) - len(empty) < 2:
        arm = baseline if baseline in empty else empty[0]
        found = next(((cell, reason) for cell, reason in failed.items() if cell.arm == arm), None)
        if found is None:
            raise DataError(f"nothing to compare yet: no training of {arm} is done")
        cell, reason = found
        raise DataError(f"nothing to compare: all trainings of {cell.arm} failed, first {cell}: {reason}")


def write(folder: Path, document: dict) -> dict:
    """Write the document, its text and its page; return the document with the folder's name in it."""
    document = {"name": folder.name, **document}
    with runs.storage(folder):
        runs.write_json(folder / "comparison.json", document)
        write_text(folder / "comparison.md", as_markdown(document))
        write_text(folder / "comparison.html", as_page(document))
    return document
