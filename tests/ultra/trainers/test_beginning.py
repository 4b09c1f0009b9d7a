"""The boxes that a new head predicts have the requested size, so that tiny objects are learnt from the first step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.trainers import boxes as module
from pixelkeep.ultra.trainers.beginning import begin_with, distance_bias
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.trainers.loss import criterion

NETWORKS = ("yolov5-n", "yolov5-p2-n", "yolo26-n", "yolov5-fine-n")  # with and without bins, with one and two branches
OBJECTS = 16  # objects in each of two images


@pytest.fixture(scope="module", params=NETWORKS)
def network(request) -> DetectionModel:
    torch.manual_seed(0)
    made = DetectionModel(f"{request.param}.yaml", nc=4, verbose=False)
    made.args = get_cfg()
    return made


def branches(network: DetectionModel) -> list[torch.nn.Module]:
    """Return the last convolution of every box branch."""
    head = network.model[-1]
    return [branch[-1] for name in ("cv2", "one2one_cv2") for branch in getattr(head, name, None) or ()]


def score(network: DetectionModel, side: float, **recipe: float) -> float:
    """Return the sum of target scores for square objects with sides of ``side`` pixels, before any training."""
    torch.manual_seed(0)
    middles = 0.1 + 0.8 * torch.rand(2 * OBJECTS, 2)
    batch = {
        "img": torch.rand(2, 3, 320, 320),
        "cls": torch.zeros(2 * OBJECTS, 1),
        "bboxes": torch.cat([middles, torch.full((2 * OBJECTS, 2), side / 320)], 1),
        "batch_idx": torch.arange(2 * OBJECTS) // OBJECTS,
    }
    loss, seen = criterion(network, Recipe(**recipe)), []
    loss = getattr(loss, "one2many", loss)
    loss.assigner.register_forward_hook(lambda assigner, inputs, outputs: seen.append(float(outputs[2].sum())))
    with torch.no_grad():
        found = network.train()(batch["img"])
        loss(found.get("one2many", found), batch)
    return seen[0]


@pytest.mark.parametrize("mean", [0.25, 1, 2.5, 7.5, 8])
def test_bias__has_that_mean(mean):
    """The softmax of the bias has the requested mean, with the same ratio between all neighbouring bins."""
    bias = distance_bias(mean, 16)
    assert float((bias.double().softmax(0) * torch.arange(16)).sum()) == pytest.approx(mean, abs=1e-5)
    torch.testing.assert_close(bias.diff(), bias.diff()[:1].expand(15))


def test_bias__ultralytics_own_is_the_middle():
    """A box of 15 strides gives equal bins, as Ultralytics begins; without bins the bias is the distance."""
    torch.testing.assert_close(distance_bias(7.5, 16), torch.zeros(16), atol=1e-6, rtol=0)
    assert distance_bias(1.5, 1).tolist() == [1.5]


@pytest.mark.parametrize("side", [1, 2, 5])
def test_begin__boxes_are_so_many_strides(network, side):
    """By its biases alone, every anchor point predicts a square of the requested number of strides of its level."""
    begin_with(network, side)
    kept = [layer.weight.detach().clone() for layer in branches(network)]
    for layer in branches(network):
        torch.nn.init.zeros_(layer.weight)
    head, found = network.eval().model[-1], []
    hook = head.register_forward_hook(lambda head, inputs, outputs: found.append(outputs[1]))
    with torch.no_grad():
        network(torch.rand(1, 3, 128, 160))
        raw = found[0].get("one2many", found[0])
        loss = criterion(network)
        loss = getattr(loss, "one2many", loss)
        points = torch.zeros(raw["boxes"].shape[2], 2)
        boxes = loss.bbox_decode(points, raw["boxes"].permute(0, 2, 1))
    hook.remove()
    for layer, weight in zip(branches(network), kept, strict=True):
        layer.weight.data = weight
    expected = torch.tensor([-side / 2, -side / 2, side / 2, side / 2]).expand_as(boxes)
    torch.testing.assert_close(boxes, expected, atol=1e-5, rtol=0)


def test_begin__none_leaves_everything(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    begin_with(network, None)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("side", [4, 8, 12, 16, 32, 64, 128])
def test_begin__objects_of_all_sizes_count(network, side):
    """With boxes of two strides, objects of every size get targets at first, with the Wasserstein distance or not."""
    begin_with(network, 2)
    assert score(network, side) > 0.1
    assert score(network, side, nwd=0.5) > 0.1


def test_begin__as_ultralytics_does_small_ones_do_not():
    """Stock yolov5-n is the reason: 32 objects of 12 pixels get almost no target score, with the distance even less."""
    torch.manual_seed(0)
    stock = DetectionModel("yolov5-n.yaml", nc=4, verbose=False)
    stock.args = get_cfg()
    assert score(stock, 12) < 1e-4 and score(stock, 12, nwd=0.5) < 1e-5
    begin_with(stock, 2)
    assert score(stock, 12) > 10


def test_get_model__weights_know_better(network):
    """Given weights keep the boxes they predict; without weights the head begins as requested."""
    trainer = Trainer.__new__(Trainer)
    trainer.recipe, trainer.data = Recipe(initial_box=2), {"nc": 4, "channels": 3, "names": dict(enumerate("abcd"))}
    trainer.args = get_cfg()
    definition = network.yaml
    fresh = trainer.get_model(definition, None, verbose=False)
    bins = network.model[-1].reg_max
    for layer in branches(fresh):
        assert torch.equal(layer.bias, distance_bias(1, bins).repeat(4))
    begin_with(network, 5)
    kept = trainer.get_model(definition, network, verbose=False)
    for layer in branches(kept):
        assert torch.equal(layer.bias, distance_bias(2.5, bins).repeat(4))


@pytest.mark.parametrize(("objects", "loss", "told"), [(9, 0.0, 1), (9, 1.5, 0), (0, 0.0, 0)])
def test_epoch__told_when_no_box_met_an_object(monkeypatch, objects, loss, told):
    lines = []
    monkeypatch.setattr(module, "LOGGER", SimpleNamespace(warning=lines.append))
    tally = SimpleNamespace(columns=lambda: {"train/objects": objects})
    Trainer._warn_of_boxes_unmet(SimpleNamespace(tally=tally, tloss={"box_loss": torch.tensor(loss)}, epoch=0))
    assert len(lines) == told and all("--set initial_box=2" in line for line in lines)
