"""Reports what an export wrote, how far it is from its network and how fast it is, as a table and as a document."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pixelkeep.report.tables import figure, text_table, wrap


@dataclass(kw_only=True)
class Export:
    """The report of an export.

    Attributes:
        model: Name of the exported model.
        task: Task of the model.
        weights: Checkpoint that was exported.
        output: File that was written.
        format: Format of the written file.
        precision: Precision that the file computes in.
        imgsz: Height and width in pixels of the images that the file takes.
        batch: Number of images that the file takes at once.
        dynamic: Whether the file takes images of any size and number.
        tile: Side in pixels of the tiles that the model was trained in; None if it was not. Parity, figures and
            calibration are then in such tiles too.
        folded: Whether SpaceToDepth and the convolution after it are one layer.
        folding: How folding was chosen, and the option that chooses the same again.
        quantized: For int8, the number of calibration images and what stayed in float; else None.
        megabytes: Size of the written file in megabytes.
        bounds: How far the file's outputs may be from the network's: Bounds or LabelBounds of :mod:`pixelkeep.deploy`.
        parity: How far they are: a Parity or LabelParity.
        elsewhere: The same at another image size, for a dynamic file; else None.
        accuracy: The task's figures by what was run, the network first; empty without a dataset.
        speed: Times by what was run; their ratios are to PyTorch, unfolded.
        machine: Facts about the machine that the times were measured on.
    """

    model: str
    task: str
    weights: str
    output: str
    format: str
    precision: str
    imgsz: list[int]
    batch: int
    dynamic: bool = False
    tile: int | None = None
    folded: bool
    folding: dict[str, Any] = field(default_factory=dict)
    quantized: dict[str, Any] | None = None
    megabytes: float = 0.0
    bounds: Any
    parity: Any = None
    elsewhere: Any = None
    accuracy: dict[str, dict[str, float | None]] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def losses(self) -> dict[str, float | None]:
        """Return by how much each figure of the export is below the network's; None if one of them is undefined."""
        if not self.accuracy:
            return {}
        before, after = self.accuracy.values()
        return {key: None if None in (before[key], after[key]) else before[key] - after[key] for key in before}

    def failures(self) -> list[str]:
        """Return sentences on what exceeds the bounds; empty if nothing does."""
        found = self.parity.failures(self.bounds, self.losses())
        if self.elsewhere is not None:
            found += [f"at another size, {line}" for line in self.elsewhere.failures(self.bounds)]
        return found

    def to_dict(self) -> dict:
        """Return the document that ``--json`` prints."""
        return {"schema": 1, **asdict(self), "passed": not self.failures()}


def export_table(report: Export) -> str:
    """Return the report as text, at most 80 columns wide."""
    height, width = report.imgsz
    size = "any size" if report.dynamic else f"{height}x{width} pixels, batch {report.batch}"
    head = f"{report.model} to {report.format}, {report.precision}, {size}" + (", folded" if report.folded else "")
    return "\n".join([wrap(head), "", _parity(report), "", _speed(report), "", *_notes(report)])


def _parity(report: Export) -> str:
    rows = report.parity.rows(report.bounds)
    if report.elsewhere is not None:
        rows += [[f"{what}, at another size", *more] for what, *more in report.elsewhere.rows(report.bounds)[-1:]]
    bounds = _loss_bounds(report)
    for key, lost in report.losses().items():
        before, after = (figure(row[key]) for row in report.accuracy.values())
        bound = "" if key not in bounds else f"{bounds[key]:g}"
        rows.append([f"{key} {before} -> {after}, lost", "n/a" if lost is None else f"{lost:+.4f}", bound])
    return text_table(["to PyTorch, folded, fp32", "difference", "bound"], rows)


def _loss_bounds(report: Export) -> dict[str, float]:
    if report.task == "detect":
        return {"AP": report.bounds.ap, "AP_S": report.bounds.ap_s}
    return {"top1" if report.task == "classify" else "mIoU": report.bounds.loss}


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
    return text_table(["speed", "ms an image", "times as fast", "middle half"], rows)


def _notes(report: Export) -> list[str]:
    """Return notes on folding, tiles, calibration and missing detections, then the verdict."""
    machine, notes = report.machine, []
    if report.folding.get("choose") == "measured":
        kept = "unfolded" if report.folding["choice"] == "none" else "folded"
        notes.append(wrap(f"folding: measured, kept {kept}; --fold {report.folding['choice']} repeats it"))
    if report.tile:
        notes.append(
            wrap(f"trained in tiles: compared in tiles of {report.tile} pixels, as --tile {report.tile} cuts them")
        )
    if report.quantized:
        words = {"decode": "all but the convolutions", "last": "the head's last layers too", "head": "the whole head"}
        stays = words[report.quantized["float"]]
        shown = f"{report.quantized['images']} training {'tiles' if report.tile else 'images'}"
        notes.append(wrap(f"int8: calibrated on {shown}; in float: {stays}"))
    if getattr(report.parity, "matched", 1.0) is None:
        told = "nothing is detected above"
        notes.append(wrap(f"{told} {report.parity.confidence}, so this says little: give --data with objects to find"))
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    what = "matches at IoU 0.9; " if report.task == "detect" else ""
    verdict = (
        f"PASS: {report.parity.images} images, {what}{machine['rounds']} rounds on {threads} of {machine['device']}"
    )
    return [*notes, wrap(verdict)]
