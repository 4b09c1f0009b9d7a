"""Conversion of a network's output for a batch of tiles into boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ultralytics.utils import nms

from pixelkeep.ultra.network.outputs import empty_inverted

UNLIMITED = 1e9  # seconds: with a time limit the result of NMS would depend on how busy the machine is


def suppressor(
    args: Any, *, multi_label: bool, end2end: bool, prepare: Callable[[Any], None] | None = None, rotated: int = 0
) -> Callable:
    """Return a function that turns a network's output for a batch of tiles into boxes, (n, 6) or oriented (n, 7) each.

    Args:
        args: Ultralytics' settings.
        multi_label: Whether one place may have several classes, as in validation.
        end2end: Whether the network needs no NMS.
        prepare: Function that changes the output in place before NMS.
        rotated: Number of classes of a network for oriented boxes; 0 for a network for upright boxes.
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
