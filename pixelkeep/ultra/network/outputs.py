"""What networks put out, made fit for NMS and for figures.

Where a distance is one number (``reg_max: 1``, as in YOLO26), nothing keeps it from being negative. That is meant: an
object smaller than a cell need not reach the anchor. But before much is learnt a box's left side may lie to the right
of its right one.
"""

from __future__ import annotations

from typing import Any

import torch


def empty_inverted(output: Any) -> None:
    """Make boxes that are inside out empty, in place: they still are detections, of nothing.

    Args:
        output: (B, 4 + classes, boxes) with x y width height, oriented or not; of what needs no NMS (B, boxes, 6) with
            corners, or (B, boxes, 7) with x y width height and an angle. The first of several.
    """
    found: torch.Tensor = output[0] if isinstance(output, (list, tuple)) else output
    if found.shape[-1] == 6:
        found[..., 2:4] = torch.maximum(found[..., 2:4], found[..., :2])
    else:
        sides = found[..., 2:4] if found.shape[-1] == 7 else found[:, 2:4]
        sides.clamp_(min=0)
