"""Inverted boxes become empty ones, in whatever form the network gives them."""

from __future__ import annotations

import pytest
import torch
from ultralytics import YOLO
from ultralytics.cfg import get_cfg

from pixelkeep.ultra.network.outputs import empty_inverted
from pixelkeep.ultra.predictors.boxes import Predictor
from pixelkeep.ultra.tiled.suppression import suppressor
from pixelkeep.ultra.validators.boxes import Validator


def test_empty__upright_boxes_before_nms():
    """In rows of x, y, width and height a negative side becomes 0, and everything else stays."""
    output = torch.tensor([[[5.0, 5], [6, 6], [-3, 4], [2, -1], [0.5, 0.6]]])
    empty_inverted(output)
    assert output.tolist() == [[[5, 5], [6, 6], [0, 4], [2, 0], [0.5, pytest.approx(0.6)]]]


def test_empty__corners_of_what_needs_no_nms():
    """A second corner that lies before the first is moved to it, in the first of several outputs."""
    output = torch.tensor([[[5.0, 6, 2, 9, 0.5, 1], [1, 2, 3, 4, 0.5, 0]]])
    empty_inverted((output, None))
    assert output.tolist() == [[[5, 6, 5, 9, 0.5, 1], [1, 2, 3, 4, 0.5, 0]]]


def test_empty__oriented_boxes_without_nms():
    output = torch.tensor([[[5.0, 6, -2, 9, 0.5, 1, 0.3]]])
    empty_inverted(output)
    assert output[0, 0].tolist() == pytest.approx([5, 6, 0, 9, 0.5, 1, 0.3])


@pytest.fixture(scope="module", params=["yolov5-fine-n", "yolo26-n"])
def network(request) -> torch.nn.Module:
    """Return a network whose distances are all about -2 strides, so that its boxes are inverted."""
    torch.manual_seed(0)
    made = YOLO(f"{request.param}.yaml", verbose=False).model.eval()
    head = made.model[-1]
    for branches in (head.cv2, getattr(head, "one2one_cv2", None) or ()):
        for branch in branches:
            branch[-1].bias.data[:] = -2.0
    return made


def inverted(found: torch.Tensor) -> torch.Tensor:
    return found[..., 2] < found[..., 0] if found.shape[-1] == 6 else found[:, 2] < 0


@torch.inference_mode()
def test_loops__no_box_has_a_negative_side(network):
    """Prediction, validation and tiles turn the boxes of such a network into boxes without a negative side."""
    raw = network(torch.rand(1, 3, 64, 64))[0]
    assert inverted(raw).any()
    network.end2end = raw.shape[-1] == 6
    args = get_cfg(overrides={"conf": 0.0})
    predictor, validator = Predictor({"conf": 0.0, "save": False}, save_video=False), Validator.__new__(Validator)
    predictor.model, predictor.batch = network, (["a.png"],)
    validator.args, validator.end2end = args, network.end2end
    picture = torch.zeros(64, 64, 3).byte().numpy()
    made = [
        predictor.postprocess(raw.clone(), torch.zeros(1, 3, 64, 64), [picture])[0].boxes.xyxy,
        validator.postprocess(raw.clone())[0]["bboxes"],
        suppressor(args, multi_label=True, end2end=network.end2end)(raw.clone())[0],
    ]
    for boxes in made:
        assert len(boxes) and (boxes[:, 2:4] >= boxes[:, :2]).all()
