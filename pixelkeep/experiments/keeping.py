"""What of a contrast is worth keeping, copied to where it can be put under version control: all of it small.

``FORM/CONTRAST`` gets the summary, the comparisons on dev and on val, and for each training its settings, versions,
epochs and figures. Detections and checkpoints stay behind, but for the best seed's weights where these are wanted.
Paths of the machine are taken out.
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
OF_RUNS = ("metrics.json", "results.csv", "settings.yaml", "model.yaml")  # versions are in the summary


def keep(begun: Begun, summary: dict, out: Path, place: Place, *, weights: bool) -> Path:
    """Copy what is worth keeping, and return its folder.

    Args:
        begun: The contrast.
        summary: What :func:`pixelkeep.experiments.summary.summarize` says of it.
        out: The folder of all results.
        place: Where they were made.
        weights: Whether the weights of each arm's best seed on dev go along.
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
    """Return a text without the machine's paths: those in the evidence's folder start there, others where one works."""
    given = (place.root, "evidence"), (Path.cwd(), "."), (Path(__file__).resolve().parents[2], ".")
    given += ((assets.home(), "$PIXELKEEP_HOME"),)
    if place.path:
        given += ((Path(place.path).resolve(), Path(place.path).name), (Path(place.path), Path(place.path).name))
    for path, short in sorted(given, key=lambda pair: -len(str(pair[0]))):
        if len(path.parts) > 1:
            text = text.replace(str(path), short)
    return text


def _best(cells: list[Cell]) -> list[Cell]:
    """Return the training of each arm with the highest AP_S on dev."""
    best: dict[str, tuple[float, Cell]] = {}
    for cell in cells:
        found = json.loads((cell.folder / "metrics.json").read_text(encoding="utf-8"))["AP_S"] or 0.0
        if cell.arm not in best or found > best[cell.arm][0]:
            best[cell.arm] = found, cell
    return [cell for _, cell in best.values()]


def _machine(cells: list[Cell]) -> dict:
    """Return the hardware and versions of the trainings, each once."""
    found = []
    for cell in cells:
        told = json.loads((cell.folder / "environment.json").read_text(encoding="utf-8"))
        told.pop("command", None)
        if told not in found:
            found.append(told)
    return {"machines": found}
