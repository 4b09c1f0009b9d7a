"""Auxiliary losses of layers reach the loss that Ultralytics' trainers minimize, in every task, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, SemanticSegmentationModel

from pixelkeep.ultra.network.auxiliary import auxiliary_losses, extend_loss

torch.set_num_threads(1)
SIDE, IMAGES = 64, 3


class Speaking(nn.Module):
    """Passes its input on, and has a loss of its own once it has run in training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.value, self.spoken = inner, nn.Parameter(torch.tensor(0.25)), None
        self.i, self.f, self.type, self.np = inner.i, inner.f, inner.type, inner.np

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.spoken = self.value * 2 if self.training else None
        return self.inner(x)

    def auxiliary_loss(self) -> torch.Tensor | None:
        return self.spoken


TASKS = {
    "detect": (DetectionModel, "yolov5n.yaml", IMAGES),
    "semantic": (SemanticSegmentationModel, "yolo26n-sem.yaml", IMAGES),
    "classify": (ClassificationModel, "yolov8n-cls.yaml", 1),
}


def batch() -> dict[str, torch.Tensor]:
    return {
        "img": torch.rand(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]]),
        "batch_idx": torch.zeros(1),
        "semantic_mask": torch.zeros(IMAGES, SIDE, SIDE, dtype=torch.long),
    }


@pytest.mark.parametrize("task", TASKS)
def test_loss__gains_the_auxiliary_losses(task):
    """Auxiliary losses are added, times the batch size where Ultralytics' own loss is; printed parts are unchanged."""
    kind, yaml, times = TASKS[task]
    torch.manual_seed(0)
    plain = kind(yaml, nc=3, verbose=False).train()
    plain.args = get_cfg()
    speaking = copy.deepcopy(plain)
    for index in (1, 3):
        speaking.model[index] = Speaking(speaking.model[index])
    data = batch()
    if task == "classify":
        data["cls"] = torch.zeros(IMAGES, dtype=torch.long)
    (expected, parts), (total, own) = plain(dict(data)), speaking(dict(data))
    torch.testing.assert_close(total.sum(), expected.sum() + times * 2 * 0.5)
    assert own == parts
    total.sum().backward()
    assert [speaking.model[index].value.grad.item() for index in (1, 3)] == [2 * times, 2 * times]


def test_loss__in_evaluation_is_ultralytics_own():
    """In evaluation the result of the stock method is returned as it is: the parts of the loss, and not their sum."""
    model = DetectionModel("yolov5n.yaml", nc=3, verbose=False).train()
    model.args = get_cfg()
    model.model[1] = Speaking(model.model[1])
    model(batch())
    assert len(list(auxiliary_losses(model, batch()))) == 1
    model.eval()
    assert model(batch())[0].shape == (3,)


def test_extension__twice_changes_nothing():
    """Extending a loss twice changes nothing, and a model without such a layer has the result of the stock method."""

    class Model(nn.Module):
        def loss(self, batch, preds=None):
            return torch.ones(2), {}

    extend_loss(Model, ())
    once = Model.loss
    extend_loss(Model, ())
    assert Model.loss is once
    model = Model().train()
    assert model.loss({"img": torch.zeros(2)})[0].shape == (2,)
