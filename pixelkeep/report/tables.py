"""Writes text tables for the terminal, at most 80 columns wide, with undefined figures shown as n/a."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from pixelkeep.report.tiles import raster_words, seam_words, tile_words
from pixelkeep.report.videos import video_words

WIDTH = 80
_NAME = 44  # most characters of a class name that leave room for the figures
_VALUE = 24  # most characters of a part of a file name
# With fewer objects, finding one more or less moves the recall by over 3 points. Even with 30, the 95 % interval
# (Wilson) of a recall of one half runs from 0.33 to 0.67, so such a figure cannot be used to compare anything.
ENOUGH = 30
_CLASSES = "Parameters and GFLOPs with 80 classes; -cls with 1,000, -sem with 19. Fewer classes have fewer."
_SIZES = (("S", "small", "< 32x32 px"), ("M", "medium", "32x32 to 96x96"), ("L", "large", "> 96x96 px"))


def figure(value: float | None) -> str:
    """Return a fraction with three digits, or n/a if it is undefined."""
    return "n/a" if value is None else f"{value:.3f}"


def cut(text: str, length: int) -> str:
    """Return a text cut to at most ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: seconds, minutes or hours.

    >>> duration(44.6), duration(720), duration(12600)
    ('45 s', '12 min', '3.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def wrap(text: str, indent: str = "") -> str:
    """Break a text into lines of at most `WIDTH` columns; all but the first start with ``indent``."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, *, last: bool = False) -> str:
    """Lay out a table. The first ``left`` columns, and with ``last`` the last one, are aligned left, the others right.

    >>> print(text_table(["name", "AP"], [["car", "0.5"], ["person", "0.25"]]))
    name      AP
    ------  ----
    car      0.5
    person  0.25
    """
    rows = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        texts = [*range(left), *([len(widths) - 1] if last else [])]
        aligned = [c.ljust(w) if i in texts else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def result_table(result) -> str:
    """Return the table that train and val end with: AP by size with object counts, then by class.

    Finer size classes, parts of the file name and other protocols' figures are added if they were asked for. Size
    classes with fewer than 30 objects are marked.

    Args:
        result: A :class:`pixelkeep.evaluation.Result`.
    """
    parts = [
        _sizes(result),
        _bins(result.bins) if result.protocol.bins else "",
        text_table(
            ["class", "count", "AP", "AP50", "AP_S"],
            [
                [cut(name, _NAME), f"{entry.gt:,}", figure(entry.AP), figure(entry.AP50), figure(entry.AP_S)]
                for name, entry in result.per_class.items()
            ],
        ),
        _by(result.by) if result.by else "",
        _others(result),
        _footnote(result),
        _operating(result.operating_point) if result.operating_point else "",
    ]
    return "\n\n".join(filter(None, parts))


def _sizes(result) -> str:
    total = sum(entry.gt for entry in result.per_class.values())
    rows = [["all", "", f"{total:,}", figure(result.AP), figure(result.AP50), figure(result.AR), ""]]
    for key, label, limits in _SIZES:
        count, ap, ar = result.counts[key], getattr(result, f"AP_{key}"), getattr(result, f"AR_{key}")
        ap50 = figure(result.AP50_S) if key == "S" else ""
        rows.append([label, limits, f"{count:,}", figure(ap), ap50, figure(ar), _warning(count)])
    return _noted_table(["objects", "", "count", "AP", "AP50", "AR"], rows)


def _bins(bins) -> str:
    rows = [[b.name, _side(b), f"{b.gt:,}", figure(b.AP), figure(b.AP50), figure(b.AR), _warning(b.gt)] for b in bins]
    return _noted_table(["size", "side", "count", "AP", "AP50", "AR"], rows)


def _side(size) -> str:
    return f"over {size.low:g} px" if size.high >= 1e5 else f"{size.low:g} to {size.high:g} px"


def _warning(count: int) -> str:
    return f"too few objects ({count})" if 0 < count < ENOUGH else ""


def _noted_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table whose rows end with a note; the column of notes is left out if all are empty."""
    if any(row[-1] for row in rows):
        return text_table([*header, ""], rows, left=2, last=True)
    return text_table(header, [row[:-1] for row in rows], left=2)


def _by(by) -> str:
    name = by.name or "value"
    table = text_table(
        [cut(name, _VALUE), "images", *(label for _, label, _ in _SIZES), "AP", "AP50", "AP_S"],
        [
            [
                cut(value, _VALUE),
                f"{part.images:,}",
                *(f"{part.counts[key]:,}" for key, _, _ in _SIZES),
                figure(part.AP),
                figure(part.AP50),
                figure(part.AP_S),
            ]
            for value, part in by.values.items()
        ],
    )
    left_out = f"{by.unmatched:,} {'image does' if by.unmatched == 1 else 'images do'} not match {by.regex}"
    return f"{table}\n{wrap(left_out)}" if by.unmatched else table


def _others(result) -> str:
    """Return the figures of other protocols, one line for each protocol."""
    lines = []
    if result.voc:
        lines.append(
            f"VOC AP50 {figure(result.voc['AP50_11'])} by 11 points, {figure(result.voc['AP50_area'])} by area"
        )
    if a := result.alarms:
        dense = "" if a.per_megapixel is None else f" ({a.per_megapixel:.2f} a megapixel)"
        lines.append(
            f"Pd {figure(a.Pd)}, small {figure(a.Pd_S)}, {a.per_image:.2f} false alarms an image{dense} "
            f"at confidence {a.conf:g}"
        )
    return "\n".join(map(wrap, lines))


def _footnote(result) -> str:
    """Return the protocol of the figures in two or three lines."""
    p = result.protocol
    match = "" if p.match in (None, "iou") else f", match {p.match},"
    ignored = f", {p.ignored} ignored" if p.ignored else ""
    size = "x".join(map(str, p.imgsz)) + " (height x width)" if isinstance(p.imgsz, (list, tuple)) else p.imgsz
    tiles = f"{tile_words(p.tile)}, " if p.tile else ""
    return wrap(
        f"COCO AP by {p.evaluator}{match} on {result.images} images ({result.split}{ignored}), "
        f"sizes in original pixels; {tiles}imgsz {size}, conf {p.conf}, NMS IoU {p.nms_iou}, "
        f"at most {p.max_dets} detections an image, {p.precision}{active_words(result.active_fraction)}."
    )


def active_words(share: float | None) -> str:
    """Return the share of active regions in words, for a model that adapts to the images; empty for others."""
    return "" if share is None else f", {share:.1%} of the regions active"


def _operating(point: dict) -> str:
    """Return the lines on the operating point, from its entry in metrics.json."""
    overall, single = point["overall"], point["single"]
    if single["confidence"] is None:
        return wrap(f"Operating point ({point['objective']}): none, as no confidence reaches it.")
    own = [entry["confidence"] for entry in point["per_class"].values() if entry["confidence"] is not None]
    low, high = min(own, default=single["confidence"]), max(own, default=single["confidence"])
    span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f} by class"
    return wrap(
        f"Operating point ({point['objective']}, IoU {point['iou']:g}): confidence {span}; precision "
        f"{figure(overall['precision'])}, recall {figure(overall['recall'])}, F1 {figure(overall['F1'])}; count per "
        f"image off by {overall['count_mae']:.2f}, bias {overall['count_bias']:+.2f}."
    )


def models_table(entries: Iterable) -> str:
    """Return the table of models, with those of Ultralytics marked and the image size of the GFLOPs stated.

    For a model that needs a package which is not installed, the table names the package in place of figures. If the
    work of a model depends on the image, the last column has the share of active regions that the GFLOPs are for.
    """
    entries = list(entries)
    rows = []
    for e in entries:
        figures = [f"needs {e.needs}", ""] if e.needs else [f"{e.params / 1e6:.2f}", f"{e.gflops:.1f}"]
        rows.append([e.name, "Ultralytics" if e.stock else "pixelkeep", *figures])
    header = ["model", "defined by", "params (M)"]
    if len(sizes := {e.imgsz for e in entries}) == 1:
        header.append(f"GFLOPs at {sizes.pop()}")
    else:
        header += ["GFLOPs", "at"]
        rows = [[*row, str(e.imgsz)] for row, e in zip(rows, entries, strict=True)]
    shares = [e.active_fraction for e in entries]
    if any(share is not None for share in shares):
        header.append("active")
        rows = [[*row, "" if share is None else f"{share:.0%}"] for row, share in zip(rows, shares, strict=True)]
    return f"{text_table(header, rows, left=2)}\n\n{wrap(_CLASSES)}"


def detection_lines(summary) -> str:
    """Return the lines that detect ends with: objects by class, speed, and where the results lie.

    Args:
        summary: A :class:`pixelkeep.ultra.commands.summary.Summary`.
    """
    total = sum(summary.detections.values())
    seen, kind = _seen(summary)
    found = ", ".join(
        f"{f'{count / total:.1%}' if summary.task == 'semantic' else count} {name}"
        for name, count in summary.detections.most_common()
    )
    found = found or "nothing"
    # The speed is known only after a complete run.
    speed = f", {sum(summary.speed_ms.values()):.0f} ms {kind}" if summary.speed_ms else ""
    found = wrap(f"found     {found} in {seen}{speed}", indent=" " * 10)
    left_out = "".join(f"left out  {file}: {reason}\n" for file, reason in summary.unreadable.items())
    sure = ""
    if isinstance(summary.confidence, dict):
        listed = ", ".join(f"{name} {value:.3f}" for name, value in summary.confidence.items())
        sure = wrap(f"conf      {listed}", indent=" " * 10) + "\n"
    if summary.tile:
        told = f"tiles     {tile_words(summary.tile)}: {seam_words(summary.seams)}"
        sure += wrap(told, indent=" " * 10) + "\n"
    for file, told in summary.rasters.items():
        sure += wrap(f"windows   {raster_words(file, told)}", indent=" " * 10) + "\n"
    if summary.track:
        sure += "tracks    {objects} objects told apart by {tracker}, {ms:.1f} ms a frame\n".format(**summary.track)
    for name, video in summary.videos.items():
        if told := video_words(name, video, summary.fps):
            sure += wrap(f"video     {told}", indent=" " * 10) + "\n"
    network = f"network   {summary.format}, {summary.precision}{_folding(summary.folding)}\n"
    return f"\n{found}\n{left_out}{sure}{network}weights   {summary.weights}\nresults   {summary.folder}"


def _seen(summary) -> tuple[str, str]:
    """Return in words how many images and frames were looked at, and what the time for one is given as."""
    frames = sum(video["frames"] for video in summary.videos.values())
    images = summary.images - frames
    if not frames:
        return f"{images} images", "an image"
    return (f"{images} images and {frames} frames", "each") if images else (f"{frames} frames", "a frame")


def _folding(folding: dict | None) -> str:
    """Return words on folding that was chosen by measured time, with the option that repeats it; else empty."""
    if not folding or folding["choose"] != "measured":
        return ""
    return f", folding as measured; --fold {folding['choice']} repeats it"
