"""Write docs/results.md and its plots from the files that scripts/evidence.py has put into docs/results/.

    python scripts/results.py            # writes the files
    python scripts/results.py --check    # exit status 1 if one differs from what it would write

No number on the page is typed by hand, and contrasts that have not been run are marked as such.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.errors import DataError, PixelkeepError  # noqa: E402
from pixelkeep.report.results import FORMS, alike, contrast_section, in_short, machines, plot, plot_all, table, what  # noqa: E402

HEAD = """# Results

This page shows what the variants bring on HIT-UAV, and at which cost. `python scripts/results.py` writes it from the
files in [results/](results/), which `scripts/evidence.py` puts there. "{missing}" stands where nothing has been
trained.
"""
PROTOCOL = """## Protocol

- **Contrasts** are written down in [configs/contrasts/](../configs/contrasts) before they are run: the question, the
  arms, the baseline, data, settings and seeds. They are run in the order of their names.
- **Data**: HIT-UAV, infrared images from a drone ([data/hituav.yaml](../data/hituav.yaml); CC BY 4.0). The splits are
  divided by day or night and by altitude, so that no flight is in two of them. Two thirds of the objects are small.
- **dev** is cut out of train by the same groups (`DevSplit`, seed 0) and holds about a fifth of its images. Networks
  train on the rest; epochs, models and settings are chosen on dev.
- **val** is scored once per contrast, and `results/ledger.json` records when. Before that, dev decides how many seeds
  the contrast needs: if more seeds would bring its intervals to one point, val stays closed until they are trained or
  their number is given explicitly. `scripts/evidence.py` refuses to train for a second look.
- **Intervals** are 95 % intervals over images and seeds ([statistics.md](statistics.md)). Images are resampled in
  groups of the same day or night, altitude and camera angle, {groups} on val and on dev. Grouping by day or night and
  altitude alone would leave three groups on val, from which no number of seeds makes a verdict. Images of one altitude
  at two angles therefore count as independent, which they are not quite.
- **A contrast is done** when every interval of AP_S reaches at most one point to each side, whatever it says. Where
  the images alone leave more than that, no number of seeds helps, and the page says so.
- **Relative** is a difference in percent of the figure it is compared with, with its 95 % interval.
- **Full** contrasts train on images as they are, 512x640, for 100 epochs with three seeds. **Early** contrasts train
  at 320 pixels for 8 epochs with two or three seeds and are scored on dev, in bf16 on CPUs that have it. They show that
  everything runs and what early training looks like; they give no verdict.
- **Columns**: AP is computed by pycocotools. GFLOPs and milliseconds are those of the fused network and one image, as
  in [compare.md](compare.md). Minutes are those of one training at the speed of its fastest epoch over all seeds,
  validation included, so that other work on the machine counts for little. A training that several contrasts share is
  run once, with the --jobs of the first of them, so minutes are comparable only within the trainings of one command.
- A training that fails twice is named, and the other trainings are judged without it.
"""


def generate(results: Path, contrasts: Path) -> dict[Path, str]:
    """Return the contents of the page and its plots, by their paths below docs/.

    Args:
        results: Folder of the kept results, docs/results.
        contrasts: Folder of the contrasts' YAML files.
    """
    from pixelkeep.experiments.contrasts import read_contrasts
    from pixelkeep.experiments.summary import SCHEMA

    found = {}
    for path in sorted(results.glob("*/*/summary.json")):
        summary = found[path.parent.parent.name, path.parent.name] = _read(path, dict)
        if summary.get("schema") != SCHEMA:
            raise DataError(f"{path}: of another version; run scripts/evidence.py with --out once more")
    groups = sorted({str(summary["groups"]) for summary in found.values() if summary["groups"]})
    files: dict[Path, str] = {}
    parts = [HEAD.format(missing="not run").strip(), "## In short", in_short(list(found.values()))]
    parts.append(PROTOCOL.format(groups=" or ".join(groups) or "21").strip())
    for form, title in sorted(FORMS.items(), key=lambda item: not any(of == item[0] for of, _ in found)):
        parts.append(f"## {title}")  # what has been run comes before what has not
        whole, drawn = _whole(form, [summary for (of, _), summary in found.items() if of == form])
        parts, files = parts + whole, files | drawn
        for contrast in read_contrasts(contrasts):
            arms = {arm.name: what(arm.model, arm.settings) for arm in contrast.arms}
            summary = found.get((form, contrast.name))
            parts.append(contrast_section(contrast.name, contrast.question, arms, form, summary))
            if summary and (drawing := plot(summary["arms"], summary["split"], summary["notice"])):
                image = Path("images") / f"results-{form}-{contrast.name}.svg"
                files[image] = drawing
                parts.append(f"![AP_S against GFLOPs of {contrast.name}]({image.as_posix()})")
            parts += _gallery(results / form / contrast.name / "gallery", results.parent)
    parts += ["## Machines", machines(list(found.values())), "## When val was scored", _ledger(results / "ledger.json")]
    return {Path("results.md"): "\n\n".join(parts) + "\n"} | files


def _read(path: Path, kind: type) -> dict | list:
    """Return the content of a kept JSON file.

    Raises:
        DataError: The file is no JSON, or its top level is not of ``kind``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        found = error
    if not isinstance(found, kind):
        raise DataError(f"{path}: damaged; restore it from version control, or run scripts/evidence.py once more")
    return found


def _whole(form: str, summaries: list[dict]) -> tuple[list[str], dict[Path, str]]:
    """Return the Markdown that shows a form's contrasts in one figure per split and settings, and the figures."""
    parts, files = [], {}
    for split, members, arms in alike(summaries):
        if drawing := plot_all(split, members, arms):
            number = sum(f"-{split}" in path.stem for path in files) + 1
            image = Path("images") / f"results-{form}-{split}{'' if number == 1 else f'-{number}'}.svg"
            files[image] = drawing
            names = ", ".join(summary["contrast"] for summary in members)
            parts += [
                f"All that was trained alike, on {split} ({names}):",
                f"![AP_S against GFLOPs]({image.as_posix()})",
            ]
    return parts, files


def _gallery(folder: Path, docs: Path) -> list[str]:
    """Return the Markdown of what ``scripts/gallery.py`` has drawn into a folder; empty if it has drawn nothing."""
    if not (folder / "gallery.json").is_file():
        return []
    told = _read(folder / "gallery.json", dict)
    sides = f"{told['baseline']} (left) and {told['other']} (right)"
    counted = "errors on objects under 32x32 pixels" if told["small"] else "errors"
    first = (
        f"The images on which {sides} differ most in {counted}, each drawn at the confidences of its own best F1. "
        "Those where the right one makes fewer errors come first."
    )
    pictures = [
        f"![{entry['picture']}: {entry['errors_less']:+d}]({(folder / entry['picture']).relative_to(docs).as_posix()})"
        for entry in told["images"]
    ]
    return [first, f"    {told['command']}", *pictures]


def _ledger(file: Path) -> str:
    if not file.is_file():
        return "For no contrast yet. What is published in weights/ has figures on val of its own."
    rows = [
        [e["contrast"], e["form"], e["when"], str(len(e["trainings"])), "yes" if e["again"] else "no", e["why"]]
        for e in _read(file, list)
    ]
    return table(["contrast", "form", "when", "trainings", "not for the first time", "decided before"], rows, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit status 1 if a file differs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the documents")
    options = parser.parse_args()
    try:
        with session():
            files = generate(options.docs / "results", ROOT / "configs" / "contrasts")
    except PixelkeepError as error:
        print(f"results: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    stale = []
    for path, text in files.items():
        file = options.docs / path
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            stale.append(path.as_posix())
            if not options.check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    print(f"{'differ' if options.check else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
