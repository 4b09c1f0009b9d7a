"""Sheets that show a batch with its labels or predictions, drawn by this project.

Ultralytics' drawing has captions larger than small objects, which hide these and their neighbours.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pixelkeep.report.batch_sheet import MOST, Picture, batch_sheet
from pixelkeep.writing import write_bytes

SHOWN = 0.25  # predictions above this confidence are drawn, as in Ultralytics' sheets
QUALITY = 92  # JPEG quality


def labelled(batch: dict[str, Any]) -> list[Picture]:
    """Return the images of a batch with their labels.

    Args:
        batch: Batch with ``img`` (B, C, H, W) from 0 to 1, ``im_file``, ``batch_idx`` (n,), ``cls`` (n, 1) and
            ``bboxes`` (n, 4), normalised xywh.
    """
    height, width = batch["img"].shape[2:]
    of, classes, boxes = (batch[key].cpu().numpy() for key in ("batch_idx", "cls", "bboxes"))
    centres, halves = boxes[:, :2] * (width, height), boxes[:, 2:] * (width / 2, height / 2)
    corners = np.concatenate([centres - halves, centres + halves], 1)
    return [
        Picture(name, image, corners[of == i], classes.reshape(-1)[of == i])
        for i, (name, image) in enumerate(_images(batch))
    ]


def predicted(batch: dict[str, Any], preds: list[dict[str, Tensor]]) -> list[Picture]:
    """Return the images of a batch with their predictions.

    Args:
        batch: Batch with ``img`` (B, C, H, W) from 0 to 1, and ``im_file``.
        preds: Predictions for each image: ``bboxes`` (n, 4) xyxy in pixels of the batch's image, ``cls`` and ``conf``
            (n,).
    """
    pictures = []
    for (name, image), found in zip(_images(batch), preds, strict=False):
        boxes, classes, scores = (found[key].float().cpu().numpy() for key in ("bboxes", "cls", "conf"))
        sure = (scores > SHOWN) & np.isfinite(boxes).all(1)
        pictures.append(Picture(name, image, boxes[sure], classes[sure], scores[sure]))
    return pictures


def _images(batch: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Return names and images (H, W, 3) uint8, as many as fit a sheet; of more than three channels the first three."""
    images = (batch["img"][:MOST, :3].float() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    images = images if images.shape[3] == 3 else images[..., [0, 0, 0]]
    return [(Path(file).name, image) for file, image in zip(batch["im_file"], images, strict=False)]


def write_sheet(pictures: list[Picture], names: Mapping[int, str], path: Path, on_plot: Callable[[Path], None]) -> None:
    """Write a sheet as JPEG, and register it as a plot.

    Args:
        pictures: Images on the sheet, with their boxes.
        names: Class names by number.
        path: The file to write.
        on_plot: Function that registers a plot.
    """
    content = io.BytesIO()
    batch_sheet(pictures, names).save(content, "JPEG", quality=QUALITY)
    write_bytes(path, content.getvalue())
    on_plot(path)
