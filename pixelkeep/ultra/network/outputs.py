"""Network outputs, corrected for NMS and for metrics.

Where a box distance is a single number (``reg_max: 1``, as in YOLO26), nothing keeps it from being negative. That is
intended: an object smaller than a cell need not contain the anchor point. But early in training the left side of a box
may lie to the right of its right side.
"""

from __future__ import annotations

from typing import Any

import torch


def empty_inverted(output: Any) -> None:
    """Give boxes of negative width or height the size 0 there, in place; they remain detections, of empty boxes.

    Args:
        output: Predictions (B, 4 + classes, boxes) with x y width height, oriented or not. Networks that need no NMS
            give (B, boxes, 6) with corners, or (B, boxes, 7) with x y width height and an angle. Of a list or tuple
            the first element is used.
    """
    found: torch.Tensor = output[0] if isinstance(output, (list, tuple)) else output
    if found.shape[-1] == 6:
        found[..., 2:4] = torch.maximum(found[..., 2:4], found[..., :2])
    else:
        sides = found[..., 2:4] if found.shape[-1] == 7 else found[:, 2:4]
        sides.clamp_(min=0)
