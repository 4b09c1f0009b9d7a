"""Writes a comparison as text for the terminal and as Markdown, both from the same tables.

The document is what ``pixelkeep compare --json`` prints. Means over seeds are shown with their sample standard
deviation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from pixelkeep.report.tables import WIDTH, figure, text_table, wrap
from pixelkeep.report.tiles import tile_words

NAME = 21  # most characters of a model's name on the terminal; fewer if the figures beside it need the room
TIMES = "x time"  # heading of a model's latency as a multiple of the baseline's
STRONGER = " *"  # marks the rival whose row shows the verdict against all
UNITS = {"gflops": "GFLOPs", "latency": "latency"}
WANTING = ("images only", "too few objects")  # beginnings of notes that say why there is no verdict
QUALITY, SIZES = ("AP", "AP50", "AP_S"), ("AP_M", "AP_L", "AR_S")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: Title of the table.
        header: Names of the columns.
        rows: Cells of each row.
        left: Number of columns at the left that hold words, not figures.
        last: Whether the last column holds words as well.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 1
    last: bool = False

    def words(self, column: int) -> bool:
        """Return whether a column holds words, which are aligned left."""
        return column < self.left or (self.last and column == len(self.header) - 1)


def tables(document: dict) -> list[Table]:
    """Return the tables of a comparison: figures, costs, differences, and differences at equal cost by variant."""
    base = document["baseline"]
    against = [[d["arm"], d["metric"], signed(d["value"]), interval(d), verdict(d)] for d in document["differences"]]
    return [
        _figures(document, "Mean and spread over seeds", QUALITY, seeds=True),
        _figures(document, "By size", SIZES),
        _costs(document),
        Table(f"Against {base}", ["model", "figure", "difference", "95 % interval", "verdict"], against, 2, last=True),
        *_at_equal_cost(document),
    ]


def _at_equal_cost(document: dict) -> list[Table]:
    """Return a table for each variant that is compared with the baseline at equal cost."""
    several: dict[str, list[list[str]]] = defaultdict(list)
    for joint in document["equal_cost"]:
        for d in joint["differences"]:
            shown = d["baseline"] == joint["stronger"]
            name = d["baseline"] + (STRONGER if shown else "")
            row = [name, d["metric"], signed(d["value"]), interval(d), verdict(joint) if shown else ""]
            several[joint["arm"]].append(row)
    header = ["against", "figure", "difference", "95 % interval", "verdict"]
    unit = unit_of(document["equal"]) if document["equal"] else ""
    return [Table(f"{variant} at equal {unit}", header, rows, 2, last=True) for variant, rows in several.items()]


def _figures(document: dict, title: str, keys: tuple[str, ...], *, seeds: bool = False) -> Table:
    rows = [
        [arm["name"], *([str(len(arm["seeds"]))] if seeds else []), *(spread(arm["figures"][key]) for key in keys)]
        for arm in document["arms"]
    ]
    return Table(title, ["model", *(["seeds"] if seeds else []), *keys], rows)


def _costs(document: dict) -> Table:
    """Return the table of costs. For models whose work depends on the image, it has the share of active regions."""
    rows = []
    for arm in document["arms"]:
        params = "n/a" if arm["params"] is None else f"{arm['params'] / 1e6:.2f}"
        gflops = "n/a" if arm["gflops"] is None else f"{arm['gflops']:.3g}"
        ms, ratio = "n/a", "n/a"
        if latency := arm["latency"]:
            ms = f"{latency['ms']:.1f} ({latency['low']:.1f} to {latency['high']:.1f})"
            ratio = f"{latency['ratio']:.2f}"
        rows.append([arm["name"], size(arm["imgsz"]), params, gflops, ms, ratio])
    header = ["model", "imgsz", "params (M)", "GFLOPs", "ms an image", TIMES]
    shares = [arm.get("active_fraction") for arm in document["arms"]]
    if any(share is not None for share in shares):
        header.append("active")
        rows = [[*row, "" if share is None else f"{share:.1%}"] for row, share in zip(rows, shares, strict=True)]
    return Table("Cost", header, rows)


def size(imgsz: int | list[int]) -> str:
    """Return an image size as text: one side, or height x width."""
    return "x".join(map(str, imgsz)) if isinstance(imgsz, list) else str(imgsz)


def spread(figures: dict) -> str:
    """Return mean and spread as ``0.412 ± 0.006``, or the mean alone if there is one seed."""
    mean = figure(figures["mean"])
    return mean if figures["spread"] is None else f"{mean} ± {figures['spread']:.3f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign and three digits."""
    return "n/a" if value is None else f"{value:+.3f}"


def interval(difference: dict) -> str:
    """Return the two ends of a difference's interval as text."""
    if difference["low"] is None:
        return "n/a"
    return f"{difference['low']:+.3f} to {difference['high']:+.3f}"


def percent(difference: dict) -> str:
    """Return a relative difference with the ends of its interval, ``+13 % (+5 to +22)``."""
    found = difference["relative"]
    if found is None:
        return "n/a"
    ends = ["?" if end is None else f"{100 * end:+.0f}" for end in (found["low"], found["high"])]
    return f"{100 * found['value']:+.0f} % ({' to '.join(ends)})"


def verdict(difference: dict) -> str:
    """Return the verdict on a difference; if there is none, the reason from its note.

    Args:
        difference: Entry of the document: the difference of two arms, or of one arm from several rivals at once.
    """
    why = (difference["note"] or "").partition(":")[0]
    return difference["verdict"] or (why if why in WANTING else "no verdict")


def notes(document: dict) -> list[str]:
    """Return notes on differences, arms, costs, tiles and missing trainings, one sentence each."""
    said: dict[str, list[str]] = defaultdict(list)
    for d in document["differences"]:
        if d["note"]:
            said[d["note"]].append(f"{d['arm']} {d['metric']}")
    for d in document["equal_cost"]:
        if d["note"]:
            said[d["note"]].append(f"{d['arm']} {d['metric']} at equal {unit_of(document['equal'])}")
    everything = len(document["differences"]) + len(document["equal_cost"])
    told = [note if len(of) == everything else f"{', '.join(of)}: {note}" for note, of in said.items()]
    for arm in document["arms"]:
        if own := arm.get("own"):
            told.append(f"{arm['name']} is {arm['model']} with {', '.join(f'{key} {own[key]}' for key in own)}")
    told += costs_told(document) + _tiles_told(document)
    told += [f"missing: {f['arm']} seed {f['seed']} failed: {f['reason']}" for f in document["failed"]]
    return told


def _tiles_told(document: dict) -> list[str]:
    """Return notes on how each arm's images were cut into tiles, if the arms differ in that."""
    if "tile" not in document.get("across", ()):
        return []
    told = []
    for arm in document["arms"]:
        counted = f"; {arm['tiles']:.1f} of them per image, the GFLOPs are for all of them" if "tiles" in arm else ""
        told.append(f"{arm['name']}: {tile_words(arm['tile']) or 'whole images'}{counted}")
    why = "latency is not measured, as an image may be many tiles"
    return [*told, f"{why}; each run's metrics.json has the time for one image (speed_ms)"]


def costs_told(document: dict) -> list[str]:
    """Return for each variant notes on what its arms at equal cost really cost, and which of them are missing."""
    told = []
    trained = {arm["name"] for arm in document["arms"]}
    for equal, variant, entry in _matched(document["equal"]):
        unit, base, made = UNITS[equal["by"]], entry["baseline"], entry["arms"]
        of = ", ".join(f"{name} {arm['ratio']:.2f}" for name, arm in made.items())
        more = f"; relative to {variant}: {of}" if of else ""
        told.append(f"{variant} has {entry['times']:.2f} times the {unit} of {base}{more}")
        if abs(1 / entry["times"] - 1) > equal["tolerance"]:
            changed = {key for arm in made.values() for key in arm}
            lacking = [what for key, what in (("width", "width"), ("imgsz", "image size")) if key not in changed]
            told += [
                f"no {what} of {base} comes nearer to the {unit} of {variant} than {base} itself" for what in lacking
            ]
        missing = [name for name in made if name not in trained]
        if missing and variant in trained:
            told.append(f"{variant} has no verdict at equal {unit}, for want of {' and '.join(missing)}")
        if isinstance(document["settings"].get("pretrained"), str) and any("width" in arm for arm in made.values()):
            told.append("the pretrained weights fit no other width: wider and narrower arms start mostly without them")
    return list(dict.fromkeys(told))


def unit_of(equal: dict) -> str:
    """Return the kinds of cost that are equal in words, from the document's part on equal cost.

    >>> unit_of({"by": "gflops+latency"})
    'GFLOPs and latency'
    """
    return " and ".join(UNITS[kind] for kind in equal["by"].split("+"))


def _matched(equal: dict | None) -> list[tuple[dict, str, dict]]:
    """Return the document's entries on equal cost: the part for a kind of cost, the variant and its entry there."""
    parts = equal.get("parts", [equal]) if equal else []
    return [(part, variant, entry) for part in parts for variant, entry in part["variants"].items()]


def method(document: dict) -> str:
    """Return a paragraph on how the figures were made."""
    protocol, statistics, counts = document["protocol"], document["statistics"], document["counts"]
    grouped = f" in {document['groups']} groups by {document['group']}" if document["groups"] else ""
    settings = "".join(f", {key} {value}" for key, value in document["settings"].items())
    own = "as in the table of costs" if protocol["imgsz"] is None else ""
    text = (
        f"{document['images']} images ({document['split']}){grouped} with {counts['S']} small, {counts['M']} medium "
        f"and {counts['L']} large objects; imgsz {own or size(protocol['imgsz'])}{settings}. "
        f"Spread: sample standard deviation over seeds. Interval: of the {_interval_of(document['differences'])}, from "
        f"{statistics['resamples']} resamples. "
        "Verdicts are corrected for their number (Holm)."
    )
    if document["equal_cost"]:
        text += (
            f" Equal {unit_of(document['equal'])}: the baseline made wider, or given larger images, until it costs as "
            "much as the model; better means better than all of these, worse means worse than the best of them."
            f"{STRONGER}: the one with the highest AP_S."
        )
    if latency := document["latency"]:
        threads = "1 thread" if latency["threads"] == 1 else f"{latency['threads']} threads"
        text += (
            f" Latency: the network alone, fused, one image at a time on {latency['device']}, "
            f"{threads}; median and middle half of {latency['rounds']} rounds in turns; {TIMES}: times as long as the "
            "baseline takes, above 1 is slower."
        )
    return text


def _interval_of(differences: list[dict]) -> str:
    """Return in words what the intervals are of, and over what they generalise."""
    if not all(d.get("paired") for d in differences):
        return "difference of means, for other images and other seeds"
    if all(d["seeds"] == [1, 1] for d in differences):
        return "difference within one training, for other images"
    return "difference within each training, for other images and other seeds"


def as_text(document: dict) -> str:
    """Return the text that the command ends with, at most 80 columns wide."""
    parts = [f"{t.title}\n{text_table(t.header, _cut(t), t.left, last=t.last)}" for t in tables(document)]
    return "\n\n".join([*parts, *map(wrap, notes(document)), wrap(method(document))])


def _cut(table: Table) -> list[list[str]]:
    """Return rows with names cut to fit the line. They are cut in the middle, as the scale is at a name's end."""
    others = [max(map(len, column)) + 2 for column in list(zip(table.header, *table.rows, strict=True))[1:]]
    most = min(NAME, WIDTH - sum(others))
    return [[_shortened(row[0], most), *row[1:]] for row in table.rows]


def _shortened(name: str, most: int) -> str:
    tail = most // 2
    return name if len(name) <= most else f"{name[: most - tail - 1]}…{name[-tail:]}"


def as_markdown(document: dict) -> str:
    """Return the comparison as a Markdown document."""
    parts = [
        f"# Comparison: {plain(document['name'])}",
        f"Data: `{document['data']}`. Baseline: `{document['baseline']}`.",
    ]
    for table in tables(document):
        rule = [":--" if table.words(i) else "--:" for i in range(len(table.header))]
        rows = [table.header, rule, *([plain(cell) for cell in row] for row in table.rows)]
        parts += [f"## {plain(table.title)}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    parts += [f"- {plain(note)}" for note in notes(document)]
    return "\n\n".join([*parts, plain(method(document))]) + "\n"


def plain(text: str, escaped: str = "|*_`<") -> str:
    """Return a text with the characters in ``escaped`` escaped, so that nothing in it is markup."""
    guard: Callable[[str], str] = lambda c: f"\\{c}" if c in escaped else c  # noqa: E731
    return "".join(map(guard, text))
