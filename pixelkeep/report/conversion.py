"""Reports what became of each part of a network in a conversion, as a table and as a document."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field

from pixelkeep.report.tables import text_table, wrap

TAKEN, REWRITTEN, PARTLY, FITTED, FRESH = "taken", "rewritten", "partly", "fitted", "fresh"
MEANING = {
    TAKEN: "the same weights",
    REWRITTEN: "the same function in another form",
    PARTLY: "some of the weights",
    FITTED: "fitted to the source's outputs",
    FRESH: "as in a new network",
}
LITTLE = 0.5  # share of the parameters: with less, the result is a new network rather than a converted one
SAME = 1e-6  # in pixels and scores: far above rounding in double precision, far below the effect of another layer


@dataclass
class Carried:
    """What became of one part of the target.

    Attributes:
        role: Place of the part in the network's structure, such as ``backbone P3 down``.
        block: Class, or classes, of the target's rows in this part.
        how: What became of the weights, one of the words in `MEANING`.
        parameters: Number of parameters of the part.
        taken: Number of these that come from the source.
        exact: Whether the part computes what the source's part computes.
        note: Reason if the weights are not simply taken.
        error_before: Relative error of the part's output against that of the source's part, before the fit.
        error_after: The same error after the fit.
        misfit: Whether the part has the source's class in another width or depth.
        free: Number of the part's weights that the source leaves zero, free to learn.
    """

    role: str
    block: str
    how: str
    parameters: int
    taken: int
    exact: bool
    note: str = ""
    error_before: float | None = None
    error_after: float | None = None
    misfit: bool = False
    free: int = 0


@dataclass
class Conversion:
    """The report of a conversion.

    Attributes:
        source: Checkpoint that was converted.
        target: Name of the model it was converted to.
        parts: The target's parts, in order.
        left: Parts of the source that the target has no place for.
        checked: Largest difference of any output of source and target on a random image in double precision; None
            if the parts already show that the networks are not the same.
        noise: Initial noise in the weights that the source left zero.
        output: Checkpoint that was written; None if none was asked for.
    """

    source: str
    target: str
    parts: list[Carried]
    left: list[str] = field(default_factory=list)
    checked: float | None = None
    noise: float = 0.0
    output: str | None = None

    @property
    def exact(self) -> bool:
        """Whether the target computes what the source computes, judged by its parts and by the outputs of both."""
        told = not self.noise and not self.left and all(part.exact for part in self.parts)
        return told and (self.checked is None or self.checked <= SAME)

    @property
    def share(self) -> float:
        """Share of the target's parameters that come from the source."""
        return sum(part.taken for part in self.parts) / max(1, sum(part.parameters for part in self.parts))

    def to_dict(self) -> dict:
        """Return the document that ``--json`` prints."""
        facts = asdict(self)
        return {"schema": 1, "exact": self.exact, "share": round(self.share, 4), **facts}

    def summary(self) -> str:
        """Return one line that says what was carried over and whether the function is the same."""
        counts = Counter(part.how for part in self.parts)
        told = ", ".join(f"{counts[how]} {how}" for how in MEANING if counts[how])
        end = "the same function" if self.exact else f"{100 * self.share:.0f} % of the parameters"
        end += f"; noise {self.noise:g} in the zeros, so not the same function" if self.noise else ""
        end += "; mostly fresh: weights of the model's own family carry over more" if self.share < LITTLE else ""
        return f"{len(self.parts)} parts: {told}; {end}"


def conversion_table(report: Conversion) -> str:
    """Return the report as text, at most 80 columns wide."""
    rows = [[p.role, p.block, p.how, _errors(p) or p.note] for p in report.parts]
    table = text_table(["part", "block", "weights", ""], [[*r[:3], _cut(r[3], rows)] for r in rows], left=4)
    lines = [table, "", wrap(report.summary())]
    if report.left:
        lines.append(wrap(f"without a place in {report.target}: {', '.join(report.left)}"))
    if report.checked is not None:
        why = "" if report.checked <= SAME else "; layers without weights differ from the source's"
        lines.append(wrap(f"largest difference in double precision: {report.checked:.1e}{why}"))
    notes = {p.note: p.role for p in report.parts if p.note and len(p.note) > _room(rows)}
    lines += [wrap(f"{role}: {note}") for note, role in notes.items()]
    return "\n".join(lines)


def _errors(part: Carried) -> str:
    if part.error_after is None:
        return ""
    return f"error {part.error_before:.2f} -> {part.error_after:.2f}"


def _room(rows: list[list[str]]) -> int:
    """Return the width of the table's last column in characters."""
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:3]]
    return max(8, 80 - sum(max(w, 7) for w in widths) - 2 * 3)


def _cut(note: str, rows: list[list[str]]) -> str:
    room = _room(rows)
    return note if len(note) <= room else f"{note[: room - 1]}…"
