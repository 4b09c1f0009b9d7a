"""Writes the tables that classification and semantic segmentation end with."""

from __future__ import annotations

from pixelkeep.report.tables import ENOUGH, active_words, cut, figure, result_table, text_table, wrap

_NAME = 44  # most characters of a class name that leave room for the figures


def task_table(result) -> str:
    """Return the table of a result, whatever its task.

    Args:
        result: A :class:`pixelkeep.evaluation.Result`, or a ``ClassifyResult`` or ``SemanticResult`` of
            :mod:`pixelkeep.evaluation.label_result`.
    """
    return {"classify": _classify, "semantic": _semantic}.get(result.task, result_table)(result)


def _classify(result) -> str:
    rows = [["all", f"{result.images:,}", figure(result.top1), ""]]
    for name, entry in result.per_class.items():
        few = f"too few images ({entry.n})" if 0 < entry.n < ENOUGH else ""
        rows.append([cut(name, _NAME), f"{entry.n:,}", figure(entry.top1), few])
    header, noted = ["class", "images", "top-1", ""], any(row[-1] for row in rows)
    if not noted:
        header, rows = header[:-1], [row[:-1] for row in rows]
    always = ", as always with five classes or fewer" if len(result.per_class) <= 5 else ""
    note = wrap(f"Top-5 {figure(result.top5)}{always}; {_protocol(result)}.")
    return f"{text_table(header, rows, last=noted)}\n\n{note}"


def _semantic(result) -> str:
    total = sum(entry.pixels for entry in result.per_class.values())
    rows = [["all", "", figure(result.mIoU), figure(result.pixel_accuracy)]]
    for name, entry in result.per_class.items():
        share = f"{entry.pixels / total:.2%}" if total else "n/a"
        rows.append([cut(name, _NAME), share, figure(entry.IoU), figure(entry.accuracy)])
    note = wrap(f"Pixels counted at the images' original size; {_protocol(result)}.")
    return f"{text_table(['class', 'pixels', 'IoU', 'accuracy'], rows)}\n\n{note}"


def _protocol(result) -> str:
    p = result.protocol
    active = active_words(result.active_fraction)
    return f"{result.images:,} images ({result.split}), imgsz {p.imgsz}, {p.precision}{active}"
