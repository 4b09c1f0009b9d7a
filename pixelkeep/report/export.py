"""What an export wrote, how far it is from its network, and how fast it is: as a table and as a document."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pixelkeep.report.tables import figure, text_table, wrap


@dataclass(kw_only=True)
class Export:
    """The report of an export.

    Attributes:
        model, weights, output: What was exported, from which file, to which.
        format, precision: What it runs in.
        imgsz: Height and width in pixels of the images that it takes; ``batch``: how many at once.
        folded: Whether SpaceToDepth and the convolution after it are one.
        megabytes: The size of the file.
        bounds: How far it may be from its network, a :class:`pixelkeep.deploy.parity.Bounds`.
        parity: How far it is, a :class:`pixelkeep.deploy.parity.Parity`.
        accuracy: AP and AP_S by what ran, the network first; empty without a dataset.
        speed: By what ran, its times; ratios are to PyTorch, unfolded.
        machine: What the times were measured on.
    """

    model: str
    weights: str
    output: str
    format: str
    precision: str
    imgsz: list[int]
    batch: int
    folded: bool
    megabytes: float
    bounds: Any
    parity: Any = None
    accuracy: dict[str, dict[str, float | None]] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def loss(self, key: str) -> float | None:
        """Return by how much AP, or AP_S, is lower than the network's; None where it was not measured."""
        values = [row[key] for row in self.accuracy.values()]
        return None if not values or None in values else values[0] - values[1]

    def failures(self) -> list[str]:
        """Return what exceeds the bounds; nothing where the export computes the same."""
        return self.parity.failures(self.bounds, self.loss("AP"))

    def to_dict(self) -> dict:
        """Return the document that ``--json`` prints."""
        return {"schema": 1, **asdict(self), "passed": not self.failures()}


def export_table(report: Export) -> str:
    """Return the report at most 80 columns wide."""
    height, width = report.imgsz
    head = [
        f"{report.model} to {report.format}, {report.precision}, {height}x{width} pixels, batch {report.batch}"
        + (", folded" if report.folded else ""),
        "",
    ]
    return "\n".join([*head, _parity(report), "", _speed(report), "", wrap(_verdict(report))])


def _parity(report: Export) -> str:
    found, bounds = report.parity, report.bounds

    def bound(value: float | None, times: int = 1) -> str:
        return "" if value is None else f"{value * times:g}"

    rows = [
        ["boxes, largest", f"{found.boxes_max:.1e} px", bound(bounds.boxes, bounds.extreme)],
        ["boxes, 99.9 % below", f"{found.boxes_most:.1e} px", bound(bounds.boxes)],
        ["scores, largest", f"{found.scores_max:.1e}", bound(bounds.scores, bounds.extreme)],
        ["scores, 99.9 % below", f"{found.scores_most:.1e}", bound(bounds.scores)],
        [
            f"of {found.detections} detections above {found.confidence} matched",
            _share(found.matched),
            f"{bounds.matched:.1%}",
        ],
    ]
    for key, least in (("AP", f"{bounds.ap:g}"), ("AP_S", "")):
        if report.accuracy:
            before, after = (figure(row[key]) for row in report.accuracy.values())
            lost = report.loss(key)
            rows.append([f"{key} {before} -> {after}, lost", "n/a" if lost is None else f"{lost:+.4f}", least])
    return text_table(["to PyTorch, folded, fp32", "difference", "bound"], rows)


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _speed(report: Export) -> str:
    rows = [
        [
            name,
            f"{time.ms / report.batch:.1f}",
            f"{1 / time.ratio:.2f}",
            f"{1 / time.ratio_high:.2f}-{1 / time.ratio_low:.2f}",
        ]
        for name, time in report.speed.items()
    ]
    return text_table(["speed", "ms an image", "times PyTorch", "middle half"], rows)


def _verdict(report: Export) -> str:
    machine = report.machine
    return (
        f"PASS: {report.parity.images} images, matches at IoU {report.parity.iou}; {machine['rounds']} rounds on "
        f"{machine['threads']} threads of {machine['device']}"
    )
