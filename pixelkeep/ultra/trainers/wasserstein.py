"""Box loss and assignment for tiny boxes: Wasserstein distance mixed into the IoU, and boxes enlarged for assignment.

Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", 2021 (arXiv:2110.13389): a box is
modelled as a Gaussian around its centre with half its sides as standard deviations. The distance between two Gaussians
tells how far apart boxes are that do not overlap, where IoU is 0 whatever the distance. An error of one pixel costs
boxes of every size the same.
"""

from __future__ import annotations

import torch
from ultralytics.utils.loss import BboxLoss, v8DetectionLoss
from ultralytics.utils.tal import TaskAlignedAssigner

from pixelkeep.evaluation.similarity import NWD_CONSTANT

_LEAST = 1e-12  # square pixels: the square root has no gradient at 0


def nwd(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the similarity of boxes, (...) from 0 to 1: exp(-distance / 12.8 pixels), in float32 at least.

    Args:
        one: Boxes, (..., 4), x1 y1 x2 y2 in pixels of the network's input, the pixels in which 12.8 is measured.
        other: Boxes to compare with, in the same form.
    """
    shift = one.to(torch.promote_types(one.dtype, torch.float32)) - other
    centre = (shift[..., :2] + shift[..., 2:]) / 2
    half = (shift[..., 2:] - shift[..., :2]) / 2
    square = (centre.square() + half.square()).sum(-1)
    return torch.exp(-square.clamp(min=_LEAST).sqrt() / NWD_CONSTANT)


class Assigner(TaskAlignedAssigner):
    """Ultralytics' assigner with the Wasserstein distance in its measure of overlap and another smallest box side.

    Args:
        stock: Assigner of Ultralytics to replace.
        weight: Weight of the Wasserstein distance in the overlap, 0 to 1; the IoU has the rest.
        enlarge: Side to which smaller boxes are enlarged before the anchor points inside them are determined, in
            strides of the finest level; None for Ultralytics' own, the stride of the second level.
    """

    def __init__(self, stock: TaskAlignedAssigner, weight: float, enlarge: float | None):
        super().__init__()
        vars(self).update(vars(stock))
        self.weight = weight
        if enlarge is not None:
            self.stride_val = enlarge * min(self.stride)

    def iou_calculation(self, gt_bboxes: torch.Tensor, pd_bboxes: torch.Tensor) -> torch.Tensor:
        """Return the overlap (n,) of pairs of boxes (n, 4), x1 y1 x2 y2 in pixels."""
        iou = super().iou_calculation(gt_bboxes, pd_bboxes)
        return _mixed(iou, nwd(pd_bboxes, gt_bboxes).to(iou.dtype), self.weight) if self.weight else iou


class BoxLoss(BboxLoss):
    """Ultralytics' box loss, made of (1 - weight) IoU loss and weight Wasserstein loss; DFL or L1 is unchanged.

    Args:
        reg_max: Number of bins of a distance's distribution; 1 for no distribution.
        weight: Weight of the Wasserstein loss, above 0 and up to 1.
    """

    def __init__(self, reg_max: int, weight: float):
        super().__init__(reg_max)
        self.weight = weight

    def forward(
        self,
        pred_dist: torch.Tensor,
        pred_bboxes: torch.Tensor,
        anchor_points: torch.Tensor,
        target_bboxes: torch.Tensor,
        target_scores: torch.Tensor,
        target_scores_sum: torch.Tensor,
        fg_mask: torch.Tensor,
        imgsz: torch.Tensor,
        stride: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the box loss and the loss of the distance distributions; boxes are in strides of their levels."""
        boxes = pred_bboxes, anchor_points, target_bboxes
        iou, dfl = super().forward(pred_dist, *boxes, target_scores, target_scores_sum, fg_mask, imgsz, stride)
        found, wanted = ((box.float() * stride.float())[fg_mask] for box in (pred_bboxes, target_bboxes))
        weights = target_scores[fg_mask].sum(-1)
        distance = ((1 - nwd(found, wanted)) * weights).sum() / target_scores_sum
        return _mixed(iou, distance, self.weight), dfl


def _mixed(iou: torch.Tensor, distance: torch.Tensor, weight: float) -> torch.Tensor:
    return (1 - weight) * iou + weight * distance


def adapt(loss: v8DetectionLoss, *, weight: float, enlarge: float | None) -> None:
    """Replace the assigner and the box loss of a detection loss by those above, where the settings change them.

    Args:
        loss: Detection loss of one branch of a head.
        weight: Weight of the Wasserstein distance, 0 to 1.
        enlarge: See :class:`Assigner`.
    """
    if weight or enlarge is not None:
        loss.assigner = Assigner(loss.assigner, weight, enlarge)
    if weight:
        loss.bbox_loss = BoxLoss(loss.reg_max, weight).to(loss.device)
