"""Draws tracks: each object has a colour, a number, and a thin line that shows where it has been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import PALETTE, colour, enlarged, label, lettering, outline, text_size, with_legend

_NEUTRAL = PALETTE.index((255, 255, 255))  # colour of the legend: colours tell identities apart, not classes


def draw_tracks(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    identities: np.ndarray,
    trails: Sequence[np.ndarray],
    names: Mapping[int, str],
    line_width: int | None = None,
) -> np.ndarray:
    """Return a copy of a frame with its tracks drawn in and a legend below.

    Args:
        image: (H, W, 3) uint8, BGR.
        boxes: (n, 4) xyxy in pixels.
        classes: (n,) class indices.
        identities: (n,) track numbers of the objects.
        trails: For each object, (k, 2) x, y of its centre in pixels over time, the latest last.
        names: Class index to class name.
        line_width: Width of the boxes' lines, as in :func:`pixelkeep.report.drawing.draw`.

    Returns:
        (H', W', 3) uint8, BGR, in the size that :func:`pixelkeep.report.drawing.draw` gives it.
    """
    canvas, factor = enlarged(image)
    boxes = np.asarray(boxes, float).reshape(-1, 4) * factor
    identities, classes = np.asarray(identities, int), np.asarray(classes, int)
    width = line_width or max(2, round(sum(canvas.shape[:2]) / 1000))
    clean = canvas.copy()
    for trail, identity in zip(trails, identities, strict=True):
        middles = np.asarray(trail) * factor - 0.5  # OpenCV counts from the middle of the first pixel
        points = np.round(middles * 8).astype(np.int32)[:, None]  # in eighths of a pixel
        cv2.polylines(canvas, [points], False, colour(identity)[::-1], max(1, width // 2), cv2.LINE_AA, shift=3)
    for left, top, right, bottom in np.clip(np.round(boxes), 0, None).astype(int):
        canvas[top:bottom, left:right] = clean[top:bottom, left:right]  # trails lead up to objects, not over them
    for box, identity in zip(boxes, identities, strict=True):
        outline(canvas, box, colour(identity)[::-1], width)
    font = lettering(text_size(canvas))
    picture = Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))
    label(ImageDraw.Draw(picture), boxes, [str(i) for i in identities], identities, font, picture.size)
    counts = sorted(Counter(classes.tolist()).items())
    picture = with_legend(picture, [(_NEUTRAL, f"{names[cls]} {count}") for cls, count in counts], font)
    return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)
