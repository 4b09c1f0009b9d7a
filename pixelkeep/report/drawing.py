"""Draws detections so that small objects stay visible: thin boxes, small figures, classes named once in a legend.

Labels of the usual size hide objects of a dozen pixels and their neighbours. Here a class is a colour, a confidence is
written beside its box only if it covers no other box there, and small pictures are enlarged first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEAST_SIDE = 768  # pixels: pictures whose longer side is smaller are enlarged to it by a whole factor
# RGB: the colours of Okabe and Ito, which colour-blind people can tell apart, then four more for longer class lists.
PALETTE = (
    (230, 159, 0), (86, 180, 233), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 158, 115), (0, 114, 178),
    (255, 255, 255), (170, 255, 195), (220, 190, 255), (145, 30, 180),
)  # fmt: skip
DIM = 0.4  # brightness of dimmed pixels as a share of the original
_STRIP = (24, 24, 28)  # RGB of the legend's background
_STROKE = 2  # width in pixels of the dark edge around a figure

Rect = tuple[float, float, float, float]


def colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class."""
    return PALETTE[index % len(PALETTE)]


def draw(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    names: Mapping[int, str],
    line_width: int | None = None,
) -> np.ndarray:
    """Return a copy of a picture with its detections drawn in and a legend below.

    Args:
        image: (H, W, 3) uint8, BGR.
        boxes: (n, 4) xyxy in pixels.
        classes: (n,) class indices.
        scores: (n,) confidences from 0 to 1.
        names: Class index to class name.
        line_width: Width of the boxes' lines in pixels of the result; None for one that suits its size.

    Returns:
        (H', W', 3) uint8, BGR: the picture, enlarged if it is small, with the legend's strip added below.
    """
    canvas, factor = enlarged(image)
    boxes = np.asarray(boxes, float).reshape(-1, 4) * factor
    classes = np.asarray(classes, int)
    width = line_width or max(2, round(sum(canvas.shape[:2]) / 1000))
    for box, cls in zip(boxes, classes, strict=True):
        outline(canvas, box, colour(cls)[::-1], width)
    font = lettering(text_size(canvas))
    picture = Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    texts = figures(np.asarray(scores, float)[order])
    label(ImageDraw.Draw(picture), boxes[order], texts, classes[order], font, picture.size)
    counts = sorted(Counter(classes.tolist()).items())
    picture = with_legend(picture, [(cls, f"{names[cls]} {count}") for cls, count in counts], font)
    return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)


def enlarged(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a copy of a picture (H, W, 3), enlarged if it is small, and the whole factor of the enlargement."""
    factor = max(1, -(-LEAST_SIDE // max(image.shape[:2])))
    if factor == 1:
        return image.copy(), 1
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), factor


def dimmed(image: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Return a copy of a picture (H, W, 3), dimmed except where ``bright``, bool (H, W), is true."""
    return np.where(bright[..., None], image, (image * DIM).astype(image.dtype))


def text_size(canvas: np.ndarray) -> int:
    """Return the text height in pixels that suits a picture (H, W, 3)."""
    return max(13, round(sum(canvas.shape[:2]) / 110))


def outline(canvas: np.ndarray, box: np.ndarray, bgr: tuple[int, ...], width: int) -> None:
    """Draw a box around the object's outermost pixels, with dark edges that show on bright ground."""
    x1, y1, x2, y2 = (int(v) for v in np.round(box))
    for near, far, value in ((0, width + 2, (0, 0, 0)), (1, width + 1, bgr)):  # two rings, from near to far in pixels
        inner = np.s_[max(y1 - near, 0) : max(y2 + near, 0), max(x1 - near, 0) : max(x2 + near, 0)]
        outer = np.s_[max(y1 - far, 0) : max(y2 + far, 0), max(x1 - far, 0) : max(x2 + far, 0)]
        kept = canvas[inner].copy()
        canvas[outer] = value
        canvas[inner] = kept


def figures(scores: np.ndarray) -> list[str]:
    """Return the texts of confidences beside boxes: ``.87``, or ``1`` from 0.995 on."""
    return ["1" if score >= 0.995 else f"{score:.2f}"[1:] for score in scores]


def label(
    pen: ImageDraw.ImageDraw,
    boxes: np.ndarray,
    texts: Sequence[str],
    colours: np.ndarray,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """Write the texts in order, each above or below its box, or not at all if it would cover a box or another text.

    Args:
        pen: Drawing context of the picture.
        boxes: (n, 4) xyxy in pixels of the picture.
        texts: One text for each box.
        colours: (n,) indices of the texts' colours, see :func:`colour`.
        font: Font of the texts.
        size: Width and height of the picture in pixels.
    """
    taken = np.concatenate([np.asarray(boxes, float).reshape(-1, 4), np.full((len(texts), 4), np.nan)])
    for i, text in enumerate(texts):
        w, h = pen.textbbox((0, 0), text, font=font, stroke_width=_STROKE)[2:]
        x1, y1, _, y2 = boxes[i]
        for x, y in ((x1, y1 - h - 4), (x1, y2 + 4)):
            rect = (x - _STROKE, y - _STROKE, x + w, y + h)
            inside = rect[0] >= 0 and rect[1] >= 0 and rect[2] <= size[0] and rect[3] <= size[1]
            if inside and not _overlaps(taken, rect).any():
                pen.text((x, y), text, fill=colour(colours[i]), font=font, stroke_width=_STROKE, stroke_fill=(0, 0, 0))
                taken[len(boxes) + i] = rect
                break


def _overlaps(rects: np.ndarray, rect: Rect) -> np.ndarray:
    """Return which of (n, 4) rectangles overlap another one; rectangles of NaN overlap nothing."""
    x1, y1, x2, y2 = rects.T
    return (rect[0] < x2) & (x1 < rect[2]) & (rect[1] < y2) & (y1 < rect[3])


def with_legend(picture: Image.Image, entries: list[tuple[int, str]], font) -> Image.Image:
    """Return a picture with a legend below it: a strip with the classes' colours and texts.

    The strip is one line for any number of classes, so that all frames of a video have one size. The classes that do
    not fit are counted at its end.

    Args:
        picture: Picture to add the legend to.
        entries: Class indices and the texts beside their colours.
        font: Font of the texts.
    """
    height = font.size + 12
    result = Image.new("RGB", (picture.width, picture.height + height), _STRIP)
    result.paste(picture, (0, 0))
    pen, x, top = ImageDraw.Draw(result), 8, picture.height + 4
    widths = [font.size + 19 + int(pen.textlength(text, font=font)) for _, text in entries]
    shown = len(entries)
    while shown > 1 and x + sum(widths[:shown]) + _rest(pen, len(entries) - shown, font)[1] > picture.width:
        shown -= 1
    for (cls, text), width in zip(entries[:shown], widths, strict=False):
        pen.rectangle((x, top + 3, x + font.size - 3, top + font.size), fill=colour(cls))
        pen.text((x + font.size + 3, top), text, fill=(235, 235, 235), font=font)
        x += width
    rest = _rest(pen, len(entries) - shown, font)[0] if entries else "nothing found"
    pen.text((x, top), rest, fill=(160, 160, 160), font=font)
    return result


def _rest(pen: ImageDraw.ImageDraw, count: int, font) -> tuple[str, int]:
    """Return the text that counts the classes that do not fit into the legend, and its width in pixels."""
    text = f"+{count} more" if count else ""
    return text, int(pen.textlength(text, font=font))


@lru_cache
def lettering(size: int) -> ImageFont.FreeTypeFont:
    """Return the font for texts of this height in pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
