"""Writes docs/results.md from the summaries of contrasts. All its numbers are theirs; what is missing is marked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

from pixelkeep.report.charts import H, W, against_cost, mark
from pixelkeep.report.comparison import interval, percent, signed, size, spread
from pixelkeep.report.evidence import gaps, needed
from pixelkeep.report.overview import OWN_SETTINGS, Point, overview

MISSING = "not run"
SIZES = ("AP", "AP_S", "AP_M", "AP_L")
SHAPED = 1.1  # pixels over cost: above this, the rounding of sides to the stride does not explain the difference
LINE = 22  # height of a line of the legend in units of the drawing
_PUBLISHED = ("spd", "spdconv", "slicesamp", "cad", "lip", "select")
ORIGINS = dict.fromkeys(_PUBLISHED, "published block") | dict.fromkeys(("keep", "fine", "shallow"), "own design")
FORMS = {"full": "Full", "early": "Early training, no verdict"}
# The colours of the comparison pages; grey is for the first arm.
_STYLE = (
    "text{fill:#59636e;font:12px 'Segoe UI',Roboto,'DejaVu Sans',sans-serif}.rule{stroke:#d5dae0}"
    "line[class^=arm]{stroke-width:2.5;stroke-linecap:round}"
    ".arm0{fill:#6b7480;stroke:#6b7480}.arm1{fill:#0072b2;stroke:#0072b2}.arm2{fill:#d55e00;stroke:#d55e00}"
    ".arm3{fill:#009e73;stroke:#009e73}.arm4{fill:#cc79a7;stroke:#cc79a7}.arm5{fill:#b8860b;stroke:#b8860b}"
)


def contrast_section(name: str, question: str, arms: Mapping[str, str], form: str, summary: dict | None) -> str:
    """Return the Markdown section on one form of a contrast.

    Args:
        name: Name of the contrast.
        question: The question that the contrast asks.
        arms: Description of each arm by name, for the table of a contrast that has not been run.
        form: Name of the form, ``full`` or ``early``.
        summary: Summary of the contrast; None if it has not been run.
    """
    parts = [f"### {name}", question]
    if summary is None:
        rows = [[f"`{arm}`", text, *[MISSING] * (len(_HEADER) - 2)] for arm, text in arms.items()]
        return "\n\n".join([*parts, table(_HEADER, rows, 2)])
    done, of = summary["trainings"]["done"], summary["trainings"]["of"]
    notice = f" **{FORMS[form]}.**" if summary["notice"] else ""
    best = f" The best family, by AP_S on dev: `{summary['best']}`." if summary["best"] else ""
    on = f"On {summary['split']}, {summary['images']} images" if summary["images"] else f"On {summary['split']}"
    groups = f" in {summary['groups']} groups" if summary["groups"] else ""
    hours = f" They took {summary['total_s'] / 3600:.1f} hours together." if summary["total_s"] else ""
    parts.append(f"{on}{groups}; {done} of {of} trainings, in {summary['precision']}.{hours}{notice}{best}")
    parts.append(table(_HEADER, [_arm_row(arm, summary["split"]) for arm in summary["arms"]], 2))
    if summary["answers"]:
        parts.append(table(_AGAINST, [_answer_row(answer, summary) for answer in summary["answers"]], 2))
    told = [*gaps(summary), *uneven(summary)]
    told += [f"{summary['closed'][0].upper()}{summary['closed'][1:]}."] if summary["closed"] else []
    if form == "full":
        told += filter(None, map(needed, summary["answers"]))
        told += ["Done: every interval is one point of AP_S to each side, or less."] if summary["done"] else []
    parts += ["\n".join(f"- {sentence}" for sentence in told)] if told else []
    return "\n\n".join([*parts, f"    {summary['command']}"])


def in_short(summaries: Sequence[dict]) -> str:
    """Return one table with the answers of all contrasts that have been run, or a sentence if there are none."""
    rows = [
        [f"[{summary['contrast']}](#{summary['contrast']}), {summary['form']}, {summary['split']}", *row]
        for summary in summaries
        for row in (_answer_row(answer, summary) for answer in summary["answers"])
    ]
    return table(["contrast", *_AGAINST], rows, 3) if rows else "Nothing has been compared yet."


def uneven(summary: dict) -> list[str]:
    """Return a sentence on each arm at equal cost whose images have less padding than its GFLOPs say."""
    return [
        f"`{name}` is not quite a fair rival: its images have another shape than the others', with less padding, so it "
        f"sees {pixels:.2f} times the pixels of `{summary['baseline']}` for {cost:.2f} times its GFLOPs."
        for name, (pixels, cost) in _uneven(summary).items()
    ]


def _uneven(summary: dict) -> dict[str, tuple[float, float]]:
    """Return the arms at equal cost with less padding: how many times the baseline's pixels, and GFLOPs, they take."""
    arms = {arm["name"]: arm for arm in summary["arms"] if arm.get("gflops")}
    base, found = arms.get(summary["baseline"]), {}
    for name, arm in arms.items():
        if base and arm["equal_cost"] and arm["imgsz"] != base["imgsz"]:
            pixels, cost = _pixels(arm, summary) / _pixels(base, summary), arm["gflops"] / base["gflops"]
            if pixels > SHAPED * cost:
                found[name] = pixels, cost
    return found


def _pixels(arm: dict, summary: dict) -> float:
    """Return how many pixels of an arm's input the image fills when letterboxed; the rest is padding."""
    height, width = summary["image_size"]
    size = arm["imgsz"] if isinstance(arm["imgsz"], list) else [arm["imgsz"]] * 2
    return height * width * min(size[0] / height, size[1] / width) ** 2


_HEADER = ["arm", "what it is", "seeds", *SIZES, "GFLOPs", "ms an image", "minutes"]
_AGAINST = ["AP_S of", "less that of", "difference", "95 % interval", "relative", "verdict"]


def _arm_row(arm: dict, split: str) -> list[str]:
    figures, times = arm.get(split), [seconds for seconds in arm["least_s"] if seconds is not None]
    ms = f"{arm['latency']['ms']:.1f}" if arm.get("latency") else MISSING
    cost = [f"{arm['gflops']:.3g}" if arm.get("gflops") else MISSING, ms]
    cost.append(f"{min(times) / 60:.1f}" if times else MISSING)
    seeds = f"{arm['seeds']['done']} of {arm['seeds']['of']}"
    values = [spread(figures[key]) if figures else MISSING for key in SIZES]
    return [f"`{arm['name']}`", what(arm["model"], arm["settings"], arm.get("imgsz")), seeds, *values, *cost]


def what(model: str, settings: Mapping, imgsz: int | list[int] | None = None) -> str:
    """Return a description of an arm: the model, its own settings, and its image size if given."""
    own = "".join(f", {key} {value}" for key, value in settings.items())
    return f"{model}{own}" + (f", {size(imgsz)} px" if imgsz else "")


def _answer_row(answer: dict, summary: dict) -> list[str]:
    verdict = "none: early" if summary["notice"] else answer["verdict"] or "none"
    against = f"`{answer['against']}`" + (", at equal cost" if answer["equal_cost"] else "")
    return [f"`{answer['arm']}`", against, signed(answer["value"]), interval(answer), percent(answer), verdict]


def machines(summaries: Sequence[dict]) -> str:
    """Return a table of the machines and versions of all trainings, with the contrasts that ran on each."""
    found: dict[str, list[str]] = {}
    for summary in summaries:
        for machine in summary["machines"]:
            packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
            gpus = ", ".join(machine["gpus"]) or "no GPU"
            text = f"{gpus}, {machine['cpus']} CPU cores; Python {machine['python']}, {packages}"
            found.setdefault(text, []).append(f"{summary['contrast']} ({summary['form']})")
    rows = [[", ".join(dict.fromkeys(contrasts)), text] for text, contrasts in found.items()]
    return table(["contrast", "machine and versions"], rows, 2) if rows else "Nothing has been run."


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table."""
    rule = [":--" if place < left else "--:" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def plot(arms: Sequence[dict], split: str, notice: str | None) -> str | None:
    """Draw AP_S against GFLOPs of arms as the text of an SVG file; None if there is nothing to show.

    Args:
        arms: Entries of arms from summaries.
        split: Split of the figures, ``dev`` or ``val``.
        notice: Caveat that applies to all figures; None if there is none.
    """
    arms = [arm for arm in arms if arm.get(split) and arm.get("gflops")]
    figures, costs = [{"figures": arm[split]} for arm in arms], [[arm["gflops"]] for arm in arms]
    chart = against_cost(figures, costs, "GFLOPs an image")
    if not chart:
        return None
    height = LINE + H + LINE * len(arms) + 8
    inner = chart.replace("<svg ", f'<svg x="0" y="{LINE}" width="{W}" height="{H}" ', 1)
    legend = ""
    for index, arm in enumerate(arms):
        y = LINE + H + LINE * index + 10
        legend += mark(index, 20, y) + f'<text x="34" y="{y + 4}">{escape(_legend(arm))}</text>'
    note = escape(_note(split, notice))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {height}" width="{W * 2}" height="{height * 2}" '
        f'role="img" aria-label="{note}"><style>{_STYLE}</style><rect width="{W}" height="{height}" fill="#fff"/>'
        f'{inner}<text x="14" y="17">{note}</text>{legend}</svg>\n'
    )


def _note(split: str, notice: str | None) -> str:
    return f"AP_S on {split}" + (f"; {notice}" if notice else "")


def plot_all(split: str, members: Sequence[dict], arms: Sequence[dict]) -> str | None:
    """Draw all arms of several summaries in one figure; None if there is nothing to show.

    Args:
        split, members, arms: An entry of `alike`.
    """
    baseline, padded = members[0]["baseline"], {name for summary in members for name in _uneven(summary)}
    points = []
    for arm in arms:
        if not arm.get("gflops"):
            continue
        name = _short(arm["name"], baseline)
        if arm["settings"]:
            name += f" ({_short(arm['model'], baseline)})"
        kind = OWN_SETTINGS if arm["settings"] else origin(arm["model"])
        odd = arm["name"] in padded
        on_curve = arm["model"] == baseline and not arm["settings"] and not odd
        told = f"{name} (less padding)" if odd else name
        points.append(Point(told, kind, arm["gflops"], arm[split]["AP_S"], on_curve))
    note = f"{_note(split, members[0]['notice'])}. Mean and standard deviation over seeds"
    return overview(points, note, f"{baseline} on other image sizes") if points else None


def _short(name: str, baseline: str) -> str:
    """Return the name of a model without that of the host, which all share; the baseline's is kept."""
    return name if name == baseline else name.removeprefix(f"{baseline.split('-')[0]}-")


def alike(summaries: Sequence[dict]) -> list[tuple[str, list[dict], list[dict]]]:
    """Group summaries that can share a plot; return each group's split, summaries and arms without duplicates.

    Results share a plot if split, number and size of images, settings, precision and baseline are the same. Of an arm
    that several contrasts have, the one with the most seeds is kept.
    """
    found: dict[tuple, list[dict]] = {}
    for summary in summaries:
        for split in ("val", "dev"):
            if any(arm.get(split) for arm in summary["arms"]):
                same = [summary[key] for key in ("settings", "precision", "images", "image_size", "baseline")]
                found.setdefault((split, json.dumps(same, sort_keys=True)), []).append(summary)
    several = []
    for (split, _), members in found.items():
        arms: dict[str, dict] = {}
        for arm in (arm for summary in members for arm in summary["arms"] if arm.get(split)):
            key = _legend(arm)
            if key not in arms or arm["seeds"]["done"] > arms[key]["seeds"]["done"]:
                arms[key] = arm
        several.append((split, members, list(arms.values())))
    return several


def _legend(arm: dict) -> str:
    own = "".join(f", {key} {value}" for key, value in arm["settings"].items())
    told = f"{arm['name']} ({arm['model']})" if arm["name"] != arm["model"] and not arm["equal_cost"] else arm["name"]
    return f"{told}{own}, {origin(arm['model'])}"


def origin(model: str) -> str:
    """Return the origin of a model's design by its name: stock, published block (in a stock network) or own design.

    >>> origin("yolov5-p2-n"), origin("yolov5-spd-p2-n"), origin("yolov5-keep-k3-n"), origin("yolov5-n w0.31835")
    ('stock', 'published block', 'own design', 'stock')
    """
    families = {ORIGINS.get(part) for part in model.split()[0].split("-")[1:]} - {None}
    return families.pop() if families else "stock"
