"""What a network puts out for a batch of tiles, made into boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ultralytics.utils import nms

from pixelkeep.ultra.network.outputs import empty_inverted

UNLIMITED = 1e9  # seconds: how much NMS finishes must not depend on how busy the machine is


def suppressor(
    args: Any, *, multi_label: bool, end2end: bool, prepare: Callable[[Any], None] | None = None, rotated: int = 0
) -> Callable:
    """Return a function that turns a network's output for a batch of tiles into boxes, (n, 6) each; (n, 7) of rotated.

    Args:
        args: Ultralytics' settings.
        multi_label: Whether one place may have several classes, as in validation.
        end2end: Whether the network does without NMS.
        prepare: Changes the output before, in place.
        rotated: How many classes a network of oriented boxes has; 0 for one of upright boxes.
    """

    def suppress(output: Any) -> list[torch.Tensor]:
        empty_inverted(output)
        if prepare is not None:
            prepare(output)
        rows = nms.non_max_suppression(
            output,
            args.conf,
            args.iou,
            args.classes,
            args.single_cls,
            multi_label=multi_label,
            max_det=args.max_det,
            max_time_img=UNLIMITED,
            end2end=end2end,
            nc=rotated,
            rotated=bool(rotated),
        )
        return [row[:, : 7 if rotated else 6] for row in rows]

    return suppress
