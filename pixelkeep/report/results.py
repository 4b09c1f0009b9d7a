"""docs/results.md from the summaries of contrasts: every number in it is theirs, and what is not there says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from pixelkeep.report.charts import H, W, against_cost, mark
from pixelkeep.report.comparison import interval, signed, size, spread
from pixelkeep.report.evidence import needed

MISSING = "not run"
SIZES = ("AP", "AP_S", "AP_M", "AP_L")
LINE = 22  # units of the drawing, height of a line of the legend
FORMS = {"full": "Full", "early": "Early training, no verdict"}
# The colours of the pages; grey for the baseline.
_STYLE = (
    "text{fill:#59636e;font:12px 'Segoe UI',Roboto,'DejaVu Sans',sans-serif}.rule{stroke:#d5dae0}"
    "line[class^=arm]{stroke-width:2.5;stroke-linecap:round}"
    ".arm0{fill:#6b7480;stroke:#6b7480}.arm1{fill:#0072b2;stroke:#0072b2}.arm2{fill:#d55e00;stroke:#d55e00}"
    ".arm3{fill:#009e73;stroke:#009e73}.arm4{fill:#cc79a7;stroke:#cc79a7}.arm5{fill:#b8860b;stroke:#b8860b}"
)


def contrast_section(name: str, question: str, arms: Mapping[str, str], form: str, summary: dict | None) -> str:
    """Return what is said of one contrast in one form.

    Args:
        name, question: As it was written down.
        arms: By name what its arms are, for a table of what has not been run.
        form: full or early.
        summary: Of what has been run; None for nothing.
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
    parts.append(f"{on}{groups}; {done} of {of} trainings.{notice}{best}")
    parts.append(table(_HEADER, [_arm_row(arm, summary["split"]) for arm in summary["arms"]], 2))
    if summary["answers"]:
        parts.append(table(_AGAINST, [_answer_row(answer, summary) for answer in summary["answers"]], 2))
    if form == "full":
        told = [*filter(None, map(needed, summary["answers"]))]
        told += ["Done: every interval is one point of AP_S to each side, or less."] if summary["done"] else []
        parts += ["\n".join(f"- {sentence}" for sentence in told)] if told else []
    return "\n\n".join([*parts, f"    {summary['command']}"])


_HEADER = ["arm", "what it is", "seeds", *SIZES, "GFLOPs", "ms an image", "minutes"]
_AGAINST = ["AP_S of", "less that of", "difference", "95 % interval", "verdict"]


def _arm_row(arm: dict, split: str) -> list[str]:
    figures, times = arm.get(split), [seconds for seconds in arm["least_s"] if seconds is not None]
    ms = f"{arm['latency']['ms']:.1f}" if arm.get("latency") else MISSING
    cost = [f"{arm['gflops']:.3g}" if arm.get("gflops") else MISSING, ms]
    cost.append(f"{min(times) / 60:.1f}" if times else MISSING)
    seeds = f"{arm['seeds']['done']} of {arm['seeds']['of']}"
    values = [spread(figures[key]) if figures else MISSING for key in SIZES]
    return [f"`{arm['name']}`", what(arm["model"], arm["settings"], arm.get("imgsz")), seeds, *values, *cost]


def what(model: str, settings: Mapping, imgsz: int | list[int] | None = None) -> str:
    """Return a model with the settings that it has of its own, and its image size."""
    own = "".join(f", {key} {value}" for key, value in settings.items())
    return f"{model}{own}" + (f", {size(imgsz)} px" if imgsz else "")


def _answer_row(answer: dict, summary: dict) -> list[str]:
    verdict = "none: early" if summary["notice"] else answer["verdict"] or "none"
    against = f"`{answer['against']}`" + (", at equal cost" if answer["equal_cost"] else "")
    return [f"`{answer['arm']}`", against, signed(answer["value"]), interval(answer), verdict]


def machines(summaries: Sequence[dict]) -> str:
    """Return hardware and versions of all trainings, each once."""
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


def plot(summary: dict) -> str | None:
    """Return AP_S against GFLOPs of a contrast's arms as an SVG file; None where there is nothing to show."""
    split = summary["split"]
    arms = [arm for arm in summary["arms"] if arm.get(split) and arm.get("gflops")]
    chart = against_cost(
        [{"figures": arm[split]} for arm in arms], [[arm["gflops"]] for arm in arms], "GFLOPs an image"
    )
    if not chart:
        return None
    height = LINE + H + LINE * len(arms) + 8
    inner = chart.replace("<svg ", f'<svg x="0" y="{LINE}" width="{W}" height="{H}" ', 1)
    legend = ""
    for index, arm in enumerate(arms):
        y = LINE + H + LINE * index + 10
        legend += mark(index, 20, y) + f'<text x="34" y="{y + 4}">{escape(_legend(arm))}</text>'
    note = escape(f"AP_S on {split}" + (f"; {summary['notice']}" if summary["notice"] else ""))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {height}" width="{W * 2}" height="{height * 2}" '
        f'role="img" aria-label="{note}"><style>{_STYLE}</style><rect width="{W}" height="{height}" fill="#fff"/>'
        f'{inner}<text x="14" y="17">{note}</text>{legend}</svg>\n'
    )


def _legend(arm: dict) -> str:
    ours = "" if arm["equal_cost"] or _is_stock(arm["model"]) else ", ours"
    return arm["name"] + ours


def _is_stock(model: str) -> bool:
    """Whether a model is Ultralytics' own: its name has no block in it, at most a ``-p2`` of theirs."""
    host, *rest = model.split("-")
    return host.startswith("yolo") and (len(rest) < 2 or (rest[0] == "p2" and host != "yolov5"))
