"""Draws oriented boxes as upright ones are drawn: thin, with dark edges, figures that cover no box, and a legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import colour, enlarged, figures, label, lettering, text_size, with_legend

_FRACTION = 4  # bits for fractions of a pixel in the coordinates that OpenCV gets


def draw_oriented(
    image: np.ndarray,
    corners: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    names: Mapping[int, str],
    line_width: int | None = None,
) -> np.ndarray:
    """Return a copy of a picture with its oriented detections drawn in and a legend below.

    Args:
        image: (H, W, 3) uint8, BGR.
        corners: (n, 4, 2) x, y in pixels.
        classes: (n,) class indices.
        scores: (n,) confidences from 0 to 1.
        names: Class index to class name.
        line_width: Width of the boxes' lines in pixels of the result; None for one that suits its size.

    Returns:
        (H', W', 3) uint8, BGR: the picture, enlarged if it is small, with the legend's strip added below.
    """
    canvas, factor = enlarged(image)
    corners = np.asarray(corners, float).reshape(-1, 4, 2) * factor
    classes, scores = np.asarray(classes, int), np.asarray(scores, float)
    width = line_width or max(2, round(sum(canvas.shape[:2]) / 1000))
    for box, cls in zip(corners, classes, strict=True):
        points = [np.round((box - 0.5) * 2**_FRACTION).astype(np.int32)]  # OpenCV counts from the first pixel's centre
        for thickness, bgr in ((width + 2, (0, 0, 0)), (width, colour(cls)[::-1])):
            cv2.polylines(canvas, points, True, bgr, thickness, cv2.LINE_AA, _FRACTION)
    font = lettering(text_size(canvas))
    picture = Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))
    order = np.argsort(-scores, kind="stable")
    around = np.concatenate([corners.min(1), corners.max(1)], 1)
    label(ImageDraw.Draw(picture), around[order], figures(scores[order]), classes[order], font, picture.size)
    counts = sorted(Counter(classes.tolist()).items())
    picture = with_legend(picture, [(cls, f"{names[cls]} {count}") for cls, count in counts], font)
    return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)
