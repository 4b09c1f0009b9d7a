"""Draws results of classification as bars below a picture, and those of semantic segmentation as colours over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import colour, enlarged, lettering, text_size, with_legend

OPACITY = 0.5  # opacity of the colours over a picture
IGNORED = 255  # label of pixels without a class
_STRIP, _TEXT, _DIM = (24, 24, 28), (235, 235, 235), (160, 160, 160)  # RGB: background, surest class, the others
_SHOWN = 5  # most classes shown


def draw_classes(
    image: np.ndarray, classes: Sequence[int], scores: Sequence[float], names: Mapping[int, str]
) -> np.ndarray:
    """Return a copy of a picture with its most probable classes below, each with a figure and a bar.

    Args:
        image: (H, W, 3) uint8, BGR.
        classes: Class indices, the most probable first.
        scores: Probabilities of these classes.
        names: Class index to class name.

    Returns:
        (H', W', 3) uint8, BGR: the picture, enlarged if it is small, with a strip of one height for all pictures.
    """
    canvas, _ = enlarged(image)
    font = lettering(text_size(canvas) + 3)
    line, rows = font.size + 10, min(_SHOWN, len(names))
    picture = Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))
    result = Image.new("RGB", (picture.width, picture.height + rows * line + 8), _STRIP)
    result.paste(picture, (0, 0))
    pen = ImageDraw.Draw(result)
    left, figure = picture.width // 2, pen.textlength("1.00 ", font=font)
    room = picture.width - left - figure - 12
    for row, (cls, score) in enumerate(zip(classes[:rows], scores, strict=False)):
        top = picture.height + 4 + row * line
        text = _fitted(pen, names[int(cls)], font, left - 20)
        pen.text((10, top + 2), text, fill=_DIM if row else _TEXT, font=font)
        pen.text((left, top + 2), f"{score:.2f}", fill=_DIM if row else _TEXT, font=font)
        start = left + figure
        pen.rectangle((start, top + 4, start + max(1.0, room * float(score)), top + line - 5), fill=colour(int(cls)))
    return cv2.cvtColor(np.asarray(result), cv2.COLOR_RGB2BGR)


def draw_regions(image: np.ndarray, classes: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """Return a copy of a picture in grey with coloured classes, their borders, and their shares of the pixels below.

    Args:
        image: (H, W, 3) uint8, BGR.
        classes: (H, W) class index of each pixel; 255 for none.
        names: Class index to class name.

    Returns:
        (H', W', 3) uint8, BGR: the picture, enlarged if it is small, with the legend's strip added below.
    """
    canvas, factor = enlarged(image)
    classes = np.asarray(classes)
    large = cv2.resize(classes.astype(np.int16), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    palette = np.array([colour(cls)[::-1] for cls in range(max(names) + 1)], np.float32)  # BGR
    said = large != IGNORED
    shown = canvas.astype(np.float32)
    # Grey, since the picture's own colours could be mistaken for those of classes.
    grey = cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY)[..., None]
    shown[said] = (1 - OPACITY) * grey[said] + OPACITY * palette[large[said]]
    shown[_borders(large, max(1, factor // 2))] = 20
    values, counts = np.unique(classes[classes != IGNORED], return_counts=True)
    entries = [(int(v), f"{names[int(v)]} {c / classes.size:.1%}") for v, c in zip(values, counts, strict=True)]
    picture = Image.fromarray(cv2.cvtColor(shown.round().astype(np.uint8), cv2.COLOR_BGR2RGB))
    picture = with_legend(picture, entries, lettering(text_size(canvas)))
    return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)


def _borders(classes: np.ndarray, width: int) -> np.ndarray:
    """Return a mask (H, W) of the borders between classes, ``width`` pixels wide."""
    edge = np.zeros(classes.shape, np.uint8)
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    edge[1:] |= classes[1:] != classes[:-1]
    return cv2.dilate(edge, np.ones((width, width), np.uint8)).astype(bool)


def _fitted(pen: ImageDraw.ImageDraw, text: str, font, width: float) -> str:
    """Return a text, cut at its end if it is too wide."""
    while len(text) > 1 and pen.textlength(text, font=font) > width:
        text = f"{text[:-2]}…"
    return text
