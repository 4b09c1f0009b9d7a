"""Text tables for the terminal, at most 80 columns wide, undefined figures shown as n/a."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 80
_NAME = 44  # characters of a class name: what the figures beside it leave of a line
_SIZES = (("S", "small", "< 32x32 px"), ("M", "medium", "32x32 to 96x96"), ("L", "large", "> 96x96 px"))


def figure(value: float | None) -> str:
    """Return a fraction with three digits, or n/a where it is undefined."""
    return "n/a" if value is None else f"{value:.3f}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a table; the first ``left`` columns are aligned left, the others right.

    >>> print(text_table(["name", "AP"], [["car", "0.5"], ["person", "0.25"]]))
    name      AP
    ------  ----
    car      0.5
    person  0.25
    """
    rows = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def result_table(result) -> str:
    """Return the table that train and val end with: AP by size with object counts, then by class.

    Args:
        result: A :class:`pixelkeep.evaluation.Result`.
    """
    total = sum(entry.gt for entry in result.per_class.values())
    sizes = text_table(
        ["objects", "", "count", "AP", "AP50", "AR"],
        [
            ["all", "", f"{total:,}", figure(result.AP), figure(result.AP50), figure(result.AR)],
            *(
                [
                    label,
                    limits,
                    f"{result.counts[key]:,}",
                    figure(getattr(result, f"AP_{key}")),
                    figure(result.AP50_S) if key == "S" else "",
                    figure(getattr(result, f"AR_{key}")),
                ]
                for key, label, limits in _SIZES
            ),
        ],
        left=2,
    )
    classes = text_table(
        ["class", "count", "AP", "AP50", "AP_S"],
        [
            [_cut(name, _NAME), f"{entry.gt:,}", figure(entry.AP), figure(entry.AP50), figure(entry.AP_S)]
            for name, entry in result.per_class.items()
        ],
    )
    return f"{sizes}\n\n{classes}\n\n{_footnote(result)}"


def _footnote(result) -> str:
    """Say how the figures were made: the protocol in two or three lines."""
    p = result.protocol
    ignored = f", {p.ignored} ignored" if p.ignored else ""
    size = "x".join(map(str, p.imgsz)) + " (height x width)" if isinstance(p.imgsz, (list, tuple)) else p.imgsz
    return _wrap(
        f"COCO AP by {p.evaluator} on {result.images} images ({result.split}{ignored}), sizes in original pixels; "
        f"imgsz {size}, conf {p.conf}, NMS IoU {p.nms_iou}, at most {p.max_dets} detections an image, {p.precision}."
    )


def models_table(entries: Iterable) -> str:
    """Return the table of models; stock baselines are marked."""
    rows = [
        [e.name, "Ultralytics" if e.stock else "pixelkeep", f"{e.params / 1e6:.2f}", f"{e.gflops:.1f}"] for e in entries
    ]
    return text_table(["model", "defined by", "params (M)", "GFLOPs at 640"], rows, left=2)


def detection_lines(summary) -> str:
    """Return what detect ends with: objects by class, speed and where the results lie.

    Args:
        summary: A :class:`pixelkeep.ultra.detection.Summary`.
    """
    found = ", ".join(f"{count} {name}" for name, count in summary.detections.most_common()) or "nothing"
    speed = sum(summary.speed_ms.values())
    found = _wrap(f"found     {found} in {summary.images} images, {speed:.0f} ms an image", indent=" " * 10)
    left_out = "".join(f"left out  {file}: {reason}\n" for file, reason in summary.unreadable.items())
    return f"\n{found}\n{left_out}weights   {summary.weights}\nresults   {summary.folder}"
