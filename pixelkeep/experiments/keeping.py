"""Copies the small files of a contrast that are worth keeping to a folder that can be put under version control.

``FORM/CONTRAST`` gets the summary, which includes the versions, the comparisons on dev and on val, and the settings,
epochs and figures of each training. Detections and checkpoints are not copied, except for the weights of each arm's
best seed if these are wanted. Paths of the machine are removed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pixelkeep import assets
from pixelkeep.experiments.evidence import ON_VAL, Begun, Place
from pixelkeep.experiments.grid import Cell
from pixelkeep.ultra.running import runs
from pixelkeep.writing import write_text

COMPARISON = ("comparison.json", "comparison.md", "comparison.html")
OF_RUNS = ("metrics.json", "results.csv", "settings.yaml", "model.yaml")  # the summary has the versions


def keep(begun: Begun, summary: dict, out: Path, place: Place, *, weights: bool) -> Path:
    """Copy what is worth keeping of a contrast, and return the folder it was copied to.

    Args:
        begun: The contrast with its trainings.
        summary: Summary of the contrast from :func:`pixelkeep.experiments.summary.summarize`.
        out: Folder of all kept results.
        place: Where the contrast was run.
        weights: Whether to copy the weights of each arm's best seed on dev too.
    """
    folder = out / begun.form.name / begun.contrast.name
    with runs.storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        cells = [cell for cell in begun.grid.cells if cell.done]
        machine = _machine(cells)
        runs.write_json(folder / "summary.json", json.loads(portable(json.dumps(summary | machine), place)))
        for source, target in ((begun.grid.folder, folder / "dev"), (begun.grid.folder / ON_VAL, folder / "val")):
            _copy(source, target, COMPARISON, place)
        for cell in cells:
            target = folder / "runs" / _name(cell) / f"seed{cell.seed}"
            _copy(cell.folder, target, OF_RUNS, place)
            _copy(cell.folder / ON_VAL, target / "val", ("metrics.json",), place)
        for cell in _best(cells) if weights else ():
            shutil.copyfile(cell.folder / "weights" / "best.pt", folder / f"{_name(cell)}-seed{cell.seed}.pt")
    return folder


def _name(cell: Cell) -> str:
    return cell.arm.replace(" ", "-")


def _copy(source: Path, target: Path, names: tuple[str, ...], place: Place) -> None:
    for name in names:
        if (source / name).is_file():
            write_text(target / name, portable((source / name).read_text(encoding="utf-8"), place))


def portable(text: str, place: Place) -> str:
    """Return a text with the machine's paths made portable.

    Paths in the evidence's folder start with ``evidence``, those in the working directory or the checkout with ``.``,
    those in the asset folder with ``$PIXELKEEP_HOME``, and those in the folder given by ``--path`` with its name.
    """
    given = (place.root, "evidence"), (Path.cwd(), "."), (Path(__file__).resolve().parents[2], ".")
    given += ((assets.home(), "$PIXELKEEP_HOME"),)
    if place.path:
        given += ((Path(place.path).resolve(), Path(place.path).name), (Path(place.path), Path(place.path).name))
    for path, short in sorted(given, key=lambda pair: -len(str(pair[0]))):
        if len(path.parts) > 1:
            text = text.replace(str(path), short)
    return text


def _best(cells: list[Cell]) -> list[Cell]:
    """Return for each arm the training with the highest AP_S on dev."""
    best: dict[str, tuple[float, Cell]] = {}
    for cell in cells:
        found = json.loads((cell.folder / "metrics.json").read_text(encoding="utf-8"))["AP_S"] or 0.0
        if cell.arm not in best or found > best[cell.arm][0]:
            best[cell.arm] = found, cell
    return [cell for _, cell in best.values()]


def _machine(cells: list[Cell]) -> dict:
    """Return the hardware and versions that the trainings ran with, without duplicates."""
    found = []
    for cell in cells:
        told = json.loads((cell.folder / "environment.json").read_text(encoding="utf-8"))
        told.pop("command", None)
        if told not in found:
            found.append(told)
    return {"machines": found}
