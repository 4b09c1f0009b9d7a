"""A comparison as text for the terminal and as Markdown, both from the same tables.

The document is what ``pixelkeep compare --json`` prints. Means over seeds stand with their sample standard deviation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from pixelkeep.report.tables import figure, text_table, wrap

NAME = 21  # characters of a model's name on the terminal: what the figures beside it leave of a line
QUALITY, SIZES = ("AP", "AP50", "AP_S"), ("AP_M", "AP_L", "AR_S")


@dataclass(frozen=True)
class Table:
    """A title, the header, rows of texts, and how many columns are texts."""

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 1


def tables(document: dict) -> list[Table]:
    """Return the tables of a comparison: figures, cost, differences."""
    base = document["baseline"]
    against = [[d["arm"], d["metric"], signed(d["value"]), interval(d), verdict(d)] for d in document["differences"]]
    return [
        _figures(document, "Mean and spread over seeds", QUALITY, seeds=True),
        _figures(document, "By size", SIZES),
        Table("Cost", ["model", "params (M)", "GFLOPs", "ms an image", "times"], _costs(document)),
        Table(f"Against {base}", ["model", "figure", "difference", "95 % interval", "verdict"], against, 2),
    ]


def _figures(document: dict, title: str, keys: tuple[str, ...], *, seeds: bool = False) -> Table:
    rows = [
        [arm["name"], *([str(len(arm["seeds"]))] if seeds else []), *(spread(arm["figures"][key]) for key in keys)]
        for arm in document["arms"]
    ]
    return Table(title, ["model", *(["seeds"] if seeds else []), *keys], rows)


def _costs(document: dict) -> list[list[str]]:
    rows = []
    for arm in document["arms"]:
        params = "n/a" if arm["params"] is None else f"{arm['params'] / 1e6:.2f}"
        gflops = "n/a" if arm["gflops"] is None else f"{arm['gflops']:.3g}"
        ms, ratio = "n/a", "n/a"
        if latency := arm["latency"]:
            ms = f"{latency['ms']:.1f} ({latency['low']:.1f} to {latency['high']:.1f})"
            ratio = f"{latency['ratio']:.2f}"
        rows.append([arm["name"], params, gflops, ms, ratio])
    return rows


def spread(figures: dict) -> str:
    """Return ``0.412 ± 0.006``, or the mean alone where there is one seed."""
    mean = figure(figures["mean"])
    return mean if figures["spread"] is None else f"{mean} ± {figures['spread']:.3f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign."""
    return "n/a" if value is None else f"{value:+.3f}"


def interval(difference: dict) -> str:
    """Return the ends of a difference's interval."""
    if difference["low"] is None:
        return "n/a"
    return f"{difference['low']:+.3f} to {difference['high']:+.3f}"


def verdict(difference: dict) -> str:
    """Return the verdict; where there is none, ``images only`` if that is for want of seeds."""
    alone = min(difference["seeds"]) < 2 and difference["low"] is not None
    return difference["verdict"] or ("images only" if alone else "no verdict")


def notes(document: dict) -> list[str]:
    """Return what is to be known of the differences, of missing trainings and of the measuring, a sentence each."""
    said: dict[str, list[str]] = defaultdict(list)
    for d in document["differences"]:
        if d["note"]:
            said[d["note"]].append(f"{d['arm']} {d['metric']}")
    everything = len(document["differences"])
    told = [note if len(of) == everything else f"{', '.join(of)}: {note}" for note, of in said.items()]
    told += [f"missing: {f['arm']} seed {f['seed']} failed: {f['reason']}" for f in document["failed"]]
    return told


def method(document: dict) -> str:
    """Say in one paragraph how the figures were made."""
    protocol, statistics, counts = document["protocol"], document["statistics"], document["counts"]
    size = "x".join(map(str, protocol["imgsz"])) if isinstance(protocol["imgsz"], list) else protocol["imgsz"]
    grouped = f" in {document['groups']} groups by {document['group']}" if document["groups"] else ""
    settings = "".join(f", {key} {value}" for key, value in document["settings"].items())
    text = (
        f"{document['images']} images ({document['split']}){grouped} with {counts['S']} small, {counts['M']} medium "
        f"and {counts['L']} large objects; imgsz {size}{settings}. "
        "Spread: sample standard deviation over seeds. Interval: "
        f"of the difference of means, for other images and other seeds, from {statistics['resamples']} resamples. "
        "Verdicts are corrected for their number (Holm)."
    )
    if latency := document["latency"]:
        threads = "1 thread" if latency["threads"] == 1 else f"{latency['threads']} threads"
        text += (
            f" Latency: the network alone, BatchNorms folded, one image a time on {latency['device']}, "
            f"{threads}; median and middle half of {latency['rounds']} rounds in turns."
        )
    return text


def as_text(document: dict) -> str:
    """Return what the command ends with, at most 80 columns wide."""
    parts = [f"{t.title}\n{text_table(t.header, _cut(t), t.left)}" for t in tables(document)]
    return "\n\n".join([*parts, *map(wrap, notes(document)), wrap(method(document))])


def _cut(table: Table) -> list[list[str]]:
    return [[row[0] if len(row[0]) <= NAME else f"{row[0][: NAME - 1]}…", *row[1:]] for row in table.rows]


def as_markdown(document: dict) -> str:
    """Return the comparison as a Markdown document."""
    parts = [
        f"# Comparison: {plain(document['name'])}",
        f"Data: `{document['data']}`. Baseline: `{document['baseline']}`.",
    ]
    for table in tables(document):
        rule = [":--" if i < table.left else "--:" for i in range(len(table.header))]
        rows = [table.header, rule, *([plain(cell) for cell in row] for row in table.rows)]
        parts += [f"## {plain(table.title)}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    parts += [f"- {plain(note)}" for note in notes(document)]
    return "\n\n".join([*parts, plain(method(document))]) + "\n"


def plain(text: str, escaped: str = "|*_`<") -> str:
    """Return a text in which nothing is markup."""
    guard: Callable[[str], str] = lambda c: f"\\{c}" if c in escaped else c  # noqa: E731
    return "".join(map(guard, text))
