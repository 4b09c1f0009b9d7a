"""yolov5-cad: active anchors equal those of the dense network, and output, loss and export leave out all others."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from pixelkeep.errors import ModelError
from pixelkeep.ultra import heads
from pixelkeep.ultra.costs.measure import Watch, count_gflops
from pixelkeep.ultra.network import names
from pixelkeep.ultra.network.existing import existing_only

MASK = 24  # index of the row that holds the mask


def definition(scale: str = "n") -> dict:
    return names.parse(f"yolov5-cad-{scale}").definition()


def build(classes: int = 3) -> DetectionModel:
    torch.manual_seed(0)
    model = DetectionModel(definition(), nc=classes, verbose=False)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.1)
    model.args = get_cfg()
    return model.eval()


class Given(nn.Module):
    """Takes the place of the mask and returns a given one."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return self.mask.to(x.dtype)


def give(model: DetectionModel, mask: Tensor) -> None:
    row, given = model.model[MASK], Given(mask)
    for name in ("i", "f", "type", "np"):
        setattr(given, name, getattr(row, name))
    model.model[MASK] = given


def dense(model: DetectionModel, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, dict]:
    with monkeypatch.context() as patch:
        patch.setattr(heads, "BREAK_EVEN", -1.0)
        return model(x)


@pytest.mark.parametrize("size", [(128, 160), (96, 32), (224, 256)])
@pytest.mark.parametrize("fused", [False, True])
def test_region_head__active_anchors_are_those_of_the_dense_network(
    size: tuple[int, int], fused: bool, monkeypatch: pytest.MonkeyPatch
):
    model = build()
    cells = (4, 1, size[0] // 32, size[1] // 32)
    mask = (torch.rand(cells) < torch.tensor([0.0, 0.2, 0.3, 0.7]).view(4, 1, 1, 1)).float()
    give(model, torch.ones(cells))
    x = torch.rand(4, 3, *size)
    if fused:
        model.fuse(verbose=False)
    with torch.no_grad():
        whole = dense(model, x, monkeypatch)[1]  # all regions active, so this is the dense network with its four levels
        give(model, mask)
        decoded, raw = model(x)
        expected, _ = dense(model, x, monkeypatch)
    finest = size[0] * size[1] // 16
    active = mask.repeat_interleave(8, 2).repeat_interleave(8, 3).flatten(1) > 0  # (4, cells of P2)
    assert model.model[-1].active_fraction == pytest.approx(mask.mean().item())
    assert torch.equal(raw["active"][:, :finest], active)
    assert raw["active"][:, finest:].all()
    for key in ("boxes", "scores"):
        error = (raw[key] - whole[key]).abs().amax(1)
        assert (error[raw["active"]] < 1e-5).all()
    assert (raw["scores"].transpose(1, 2)[~raw["active"]] == heads.INACTIVE).all()
    # Decoded output holds the existing anchors in the order of tiles; all others are left out or score 0.
    ids = raw.ids
    for image in range(4):
        exists = ids[image] > 0
        own = torch.cat([decoded[image][:, : len(exists)][:, exists], decoded[image][:, len(exists) :]], 1)
        others = torch.arange(finest, expected.shape[2])
        same = expected[image][:, torch.cat([ids[image][exists] - 1, others])]
        assert torch.allclose(own, same, atol=1e-3)  # boxes in pixels
        assert torch.allclose(own[4:], same[4:], atol=1e-5)
        assert (decoded[image][4:, : len(exists)][:, ~exists] == 0).all()
        assert sorted((ids[image][exists] - 1).tolist()) == active[image].nonzero()[:, 0].tolist()


def test_region_head__a_batch_equals_its_images():
    model = build()
    mask = (torch.rand(3, 1, 4, 4) < torch.tensor([0.0, 0.3, 0.6]).view(3, 1, 1, 1)).float()
    x = torch.rand(3, 3, 128, 128)
    give(model, mask)
    with torch.no_grad():
        raw = model(x)[1]
        for image in range(3):
            give(model, mask[image : image + 1])
            alone = model(x[image : image + 1])[1]
            for key in ("boxes", "scores"):
                active = raw["active"][image]
                assert torch.allclose(raw[key][image][:, active], alone[key][0][:, active], atol=1e-5)


def test_region_head__masks_that_are_empty_or_full():
    model = build()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        give(model, torch.zeros(2, 1, 2, 2))
        y, raw = model(x)
        assert y.shape == (2, 7, 64 + 16 + 4)  # cells of P3, P4 and P5 for an image of 64 pixels
        assert raw["scores"].shape == (2, 3, 256 + 84)
        give(model, torch.ones(2, 1, 2, 2))
        assert model(x)[0].shape == (2, 7, 256 + 84)


def test_region_head__objects_in_inactive_regions_go_to_other_levels():
    model = build(classes=2)
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, 0, 0] = 1
    give(model, mask)
    model.model[MASK].train()
    criterion = v8DetectionLoss(model)
    batch = {
        "img": torch.rand(2, 3, 128, 128),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0], [1.0]]),
        "bboxes": torch.tensor([[0.1, 0.1, 0.08, 0.08], [0.8, 0.8, 0.08, 0.08], [0.5, 0.5, 0.1, 0.1]]),
    }
    for training in (True, False):
        model.model[-1].train(training)
        output = model(batch["img"])
        raw = criterion.parse_output(output)
        (assigned, objects, *_), loss, _ = criterion.get_assigned_targets_and_loss(raw, batch)
        assigned = assigned.bool()
        assert not (assigned & ~raw["active"]).any()
        finest = assigned[:, : 32 * 32]
        assert finest[0].any()
        assert (objects[0][: 32 * 32][finest[0]] == 0).all()  # only the first object lies in an active region
        assert not finest[1].any()
        for image, count in ((0, 2), (1, 1)):
            found = objects[image][assigned[image]].unique()
            assert found.tolist() == list(range(count))  # no object is left without an anchor
        assert loss.isfinite().all()


def test_region_head__inactive_anchors_are_not_punished(monkeypatch: pytest.MonkeyPatch):
    model = build(classes=2).train()
    give(model, torch.zeros(1, 1, 4, 4))
    batch = {
        "img": torch.rand(1, 3, 128, 128),
        "batch_idx": torch.zeros(1),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.1, 0.1]]),
    }
    model.loss(batch)[0].sum().backward()
    for branch in (model.model[-1].cv2[0], model.model[-1].cv3[0], model.model[26]):
        assert all(p.grad is None or not p.grad.any() for p in branch.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.model[-1].cv3[1].parameters())


def test_region_head__boxes_and_target_reach_the_mask():
    model = build(classes=2).train()
    batch = {
        "img": torch.rand(2, 3, 128, 128),
        "batch_idx": torch.zeros(1),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.1, 0.1]]),
    }
    total, _ = model.loss(batch)
    mask = model.model[MASK]
    plain, _ = model.criterion(model.criterion.parse_output(model(batch["img"])), batch)  # this pass draws a new mask
    assert total.numel() == 1
    assert plain.numel() == 3
    total.backward()
    assert all(p.grad is not None and p.grad.any() for p in mask.parameters())


def test_existing_only__one_image_after_the_other():
    class Assigner(nn.Module):
        def select_candidates_in_gts(self, centres: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
            return torch.ones(len(boxes), boxes.shape[1], len(centres), dtype=torch.bool)

    assigner, active = Assigner(), torch.tensor([[True, False], [False, True]])
    centres, boxes = torch.zeros(2, 2), torch.zeros(2, 3, 4)
    with existing_only(assigner, active):
        together = assigner.select_candidates_in_gts(centres, boxes, None)
        alone = [assigner.select_candidates_in_gts(centres, box[None], None) for box in boxes]
    assert torch.equal(together, active[:, None].expand(-1, 3, -1))
    assert torch.equal(torch.cat(alone), together)
    assert assigner.select_candidates_in_gts(centres, boxes, None).all()


def test_region_head__copies_forget_the_mask_and_have_the_same_output():
    model = build()
    give(model, (torch.rand(1, 1, 4, 4) < 0.4).float())
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        expected = model(x)[0]
        twin = copy.deepcopy(model)
        assert twin.model[-1].active_fraction is None
        assert torch.equal(twin(x)[0], expected)
        assert model.bfloat16()(x.bfloat16())[0].isfinite().all()


def half_active(model: DetectionModel, x: Tensor) -> None:
    """Set the threshold of the mask so that half of the regions are active."""
    mask, features = model.model[MASK], {}
    hook = mask.register_forward_hook(lambda m, inputs, output: features.update(x=inputs[0]))
    with torch.no_grad():
        model(x)
        mask.threshold.fill_(mask.estimator(features["x"]).median().item())
    hook.remove()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_region_head__traced_form_has_the_same_output(monkeypatch: pytest.MonkeyPatch):
    model, x = build(), torch.rand(1, 3, 128, 128)
    half_active(model, x)
    with torch.no_grad():
        expected = dense(model, x, monkeypatch)[0]
        assert 0.2 < model.model[-1].active_fraction < 0.6
        model.model[-1].export = True
        output = torch.jit.trace(model, x)(x)
    assert torch.allclose(output, expected, atol=1e-3)
    assert torch.allclose(output[:, 4:], expected[:, 4:], atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_region_head__exported_to_onnx_it_has_the_same_output(tmp_path, monkeypatch: pytest.MonkeyPatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = build(), torch.rand(1, 3, 128, 128)
    half_active(model, x)
    with torch.no_grad():
        expected = dense(model, x, monkeypatch)[0]
    model.args, model.task = dict(imgsz=128), "detect"
    torch.save({"model": model, "train_args": {"imgsz": 128, "task": "detect"}}, tmp_path / "cad.pt")
    path = YOLO(tmp_path / "cad.pt").export(format="onnx", imgsz=128, device="cpu")
    output = torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"images": x.numpy()})[0])
    assert torch.allclose(output, expected, atol=1e-2)
    assert torch.allclose(output[:, 4:], expected[:, 4:], atol=1e-4)


@pytest.mark.parametrize("scale", "nsmlx")
def test_region_head__all_sizes_are_built(scale: str):
    with torch.device("meta"):
        from ultralytics.nn import tasks

        layers, save = tasks.parse_model(definition(scale), 3, False)
    assert isinstance(layers[-1], heads.RegionDetect)
    assert layers[-1].f == [26, 17, 20, 23, 24]
    assert len(layers[26].m) == len(layers[17].m)  # the depth multiple scales the repeats
    assert layers[-1].cv2[0][0].conv.in_channels == layers[26].cv3.conv.out_channels
    assert {2, 17, 24, 26} <= set(save)


def test_region_head__what_cannot_be_built_is_named():
    d = definition()
    for change, message in (
        ((-1, 0, 26), "takes several inputs"),
        ((MASK, 3, [0.0, 4]), "target_fraction must lie between 0 and 1"),
        ((MASK, 0, [17, 20]), "takes one input"),
    ):
        broken = copy.deepcopy(d)
        row, column, value = change
        rows = broken["head"]
        rows[row if row < 0 else row - len(broken["backbone"])][column] = value
        with pytest.raises(ModelError, match=message):
            DetectionModel(broken, verbose=False)


def test_region_head__multiply_adds_are_counted_at_the_fraction():
    model, x = build(), torch.rand(1, 3, 256, 256)
    counts = {}
    for regions in (0, 8, 16, 24):
        mask = torch.zeros(64)
        mask[:regions] = 1
        give(model, mask.view(1, 1, 8, 8))
        watch = Watch(model)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x)  # measured, at this active fraction
        assert watch.fractions() == [regions / 64]
        watch.stop()
        dfl = 2 * 16 * 4 * (regions * 64 + 1024 + 256 + 64) / 1e9  # decoding, which count_gflops leaves out
        dense = build()
        counts[regions] = count_gflops(dense, 256, fractions=[regions / 64])
        estimator = dense.model[MASK].estimator  # counted but not run, because the mask was given
        work = estimator[1].weight.numel() * 256 + (estimator[4].weight.numel() + estimator[6].weight.numel()) * 64
        assert counter.get_total_flops() / 1e9 - dfl + 2 * work / 1e9 == pytest.approx(counts[regions], rel=1e-6)
    assert counts[16] - counts[8] == pytest.approx(counts[8] - counts[0])
    assert count_gflops(build(), 256) == pytest.approx(counts[16])  # the target fraction, a quarter
