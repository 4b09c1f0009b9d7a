"""Proves that folding keeps a network's output, removes each SpaceToDepth that it can, and that copies work."""

from __future__ import annotations

import io
import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from ultralytics.nn.modules import Concat
from ultralytics.nn.tasks import ClassificationModel, DetectionModel
from varied import image, output, varied

from pixelkeep.blocks import SliceSamp, SpaceToDepth
from pixelkeep.errors import OptionError
from pixelkeep.ultra.network import folding
from pixelkeep.ultra.network.choosing import folding_by, rows_of
from pixelkeep.ultra.weights.checkpoints import load

torch.set_num_threads(1)
HOSTS = ("yolov5", "yolov8", "yolo11", "yolo26")
NETWORKS = [f"{host}-{block}-n" for host in HOSTS for block in ("spd", "spdconv")]
SIZES = [(64, 64), (64, 128)]


def rearrangements(model: DetectionModel) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, SpaceToDepth)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_fold__same_boxes_and_scores(name, size):
    """Folding keeps outputs within 1e-9 in double precision, and within 1e-3 pixels and 1e-5 in score in single."""
    model = varied(name)
    expected = output(deepcopy(model).double(), image(*size, torch.float64))
    assert (expected[0] - expected[1])[4:].std() > 0.002  # not nearly constant
    folded = deepcopy(model).double().fuse(verbose=False)
    assert rearrangements(model) and not rearrangements(folded)
    torch.testing.assert_close(output(folded, image(*size, torch.float64)), expected, rtol=0, atol=1e-9)
    plain = output(deepcopy(model).fuse(verbose=False, fold=False), image(*size))
    single = output(model.fuse(verbose=False), image(*size))
    assert (single - plain)[:, :4].abs().max() < 1e-3 and (single - plain)[:, 4:].abs().max() < 1e-5


@pytest.mark.parametrize("size", [(31, 64), (29, 61), (64, 63)])
@pytest.mark.parametrize("host", HOSTS)
def test_fold__odd_images(host, size):
    """For odd images, and maps that become odd further on, folding keeps the shape and values of the output."""
    model = varied(f"{host}-spdconv-n").double()
    expected = output(model, image(*size, torch.float64))
    folded = model.fuse(verbose=False)
    torch.testing.assert_close(output(folded, image(*size, torch.float64)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("host", HOSTS)
def test_fold__odd_maps_after_the_stem(host):
    """In the published layering folding keeps the output where maps become odd after the stem."""
    model = varied(f"{host}-spd-n").double()
    expected = output(model, image(62, 58, torch.float64))
    folded = model.fuse(verbose=False)
    torch.testing.assert_close(output(folded, image(62, 58, torch.float64)), expected, rtol=0, atol=1e-9)


def test_fold__published_layering_has_no_concat_before_a_convolution():
    """In yolov5-spd folding removes all seven SpaceToDepth and the two Concats that read one; the other two stay."""
    model = varied("yolov5-spd-n").fuse(verbose=False)
    places = model.folding["places"]
    assert [place["rows"] for place in places] == [
        [0],
        [2, 3],
        [5, 6],
        [8, 9],
        [11, 12],
        [23, 24, 25],
        [27, 28, 29],
    ]
    assert [place["kind"] for place in places] == ["Focus"] + ["C3"] * 6
    assert [m.i for m in model.model if isinstance(m, Concat)] == [16, 20]
    assert [m.i for m in model.model] == list(range(31))


def test_fold__what_it_does_not_touch(tmp_path):
    """Stock networks and SliceSamp have nothing to fold, and a SpaceToDepth that two rows read stays."""
    for name in ("yolov5n.yaml", "yolov5-slicesamp-n"):
        model = varied(name).fuse(verbose=False)
        assert not hasattr(model, "folding")
    assert any(isinstance(m, SliceSamp) and isinstance(m.rearrange, SpaceToDepth) for m in model.modules())
    shared = varied(
        {
            "nc": 3,
            "backbone": [
                [-1, 1, "Conv", [8, 3, 1]],
                [-1, 1, "SpaceToDepth", []],
                [-1, 1, "Conv", [8, 1, 1]],
                [1, 1, "Conv", [8, 1, 1]],
                [[2, 3], 1, "Concat", [1]],
            ],
            "head": [[[4], 1, "Detect", ["nc"]]],
        }
    ).double()
    expected = output(shared, image(32, 32, torch.float64))
    assert torch.allclose(output(shared.fuse(verbose=False), image(32, 32, torch.float64)), expected, atol=1e-9)
    assert len(rearrangements(shared)) == 1


def test_fold__conv_after_space_to_depth():
    """A Conv of any kernel after SpaceToDepth, and after a Concat with it, is folded as well."""
    rows = [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "SpaceToDepth", []],
        [-1, 1, "Conv", [12, 3, 1]],
        [0, 1, "SpaceToDepth", []],
        [[2, 3], 1, "Concat", [1]],
        [-1, 1, "Conv", [16, 3, 1]],
    ]
    model = varied({"nc": 3, "backbone": rows, "head": [[[5], 1, "Detect", ["nc"]]]}).double()
    expected = output(model, image(36, 34, torch.float64))
    torch.testing.assert_close(
        output(model.fuse(verbose=False), image(36, 34, torch.float64)), expected, rtol=0, atol=1e-9
    )
    assert not rearrangements(model) and not [m for m in model.modules() if isinstance(m, Concat)]


@pytest.mark.parametrize("name", ["yolov5-spd-n", "yolov8-spdconv-n"])
def test_fold__again_and_copied(name, tmp_path):
    """Folding again changes nothing, and a deepcopy, a pickle and a checkpoint give the same output."""
    model = varied(name).fuse(verbose=False)
    x = image(64, 64)
    expected, places = output(model, x), deepcopy(model.folding)
    assert torch.equal(output(model.fuse(verbose=False), x), expected) and model.folding == places
    pickled = pickle.dumps(model)
    assert b"pixelkeep.deploy" not in pickled and b"pixelkeep.ultra" not in pickled
    buffer = io.BytesIO()
    torch.save({"model": model}, tmp_path / "folded.pt")
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for twin in (deepcopy(model), pickle.loads(pickled), loaded, load(tmp_path / "folded.pt")["model"]):
        assert torch.equal(output(twin, x), expected) and twin.folding == places


def test_fold__leaves_the_original():
    """Folding a copy changes nothing in the original network."""
    model = varied("yolov5-spd-n")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deepcopy(model).fuse(verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fold__int8_keeps_its_form():
    """A convolution trained for int8 keeps the kernel that its ranges belong to; the others are folded."""
    model = varied("yolov5-spdconv-n")
    model.model[0].conv.weight_quantizer = nn.Identity()
    model.fuse(verbose=False)
    assert len(rearrangements(model)) == 1 and isinstance(model.model[0].rearrange, SpaceToDepth)


RATIOS = [0.5, 1.5, 0.9, 1.0, 2.0, 0.99, 0.7]


def measured(monkeypatch, together: float, layout=torch.contiguous_format):
    """Fold yolov5-spd-n by given ratios in place of measured ones; return it, and outputs and inputs as timed."""
    ratios = iter([*RATIOS, together])
    seen = []

    def ratio(before, after, inputs, device):
        seen.append((before(inputs), after(inputs), inputs))
        return next(ratios)

    monkeypatch.setattr(folding, "ratio", ratio)
    model = varied("yolov5-spd-n").double().to(memory_format=layout)
    expected = output(model, image(64, 96, torch.float64))
    folding.fold(model, "measured", [64, 96], batch=2)
    torch.testing.assert_close(output(model, image(64, 96, torch.float64)), expected, rtol=0, atol=1e-9)
    return model, seen


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fold__measured_choice_is_recorded(monkeypatch, layout):
    """Exactly the places whose measured ratio is below 1 are folded, and the record says so."""
    model, seen = measured(monkeypatch, 0.97, layout)
    assert [place["folded"] for place in model.folding["places"]] == [ratio < 1 for ratio in RATIOS]
    assert [place["ratio"] for place in model.folding["places"]] == RATIOS
    assert (model.folding["choose"], model.folding["choice"]) == ("measured", "0,6,25,29")
    assert model.folding["ratio"] == 0.97 and len(rearrangements(model)) == 3
    for before, after, _ in seen[:-1]:
        assert before.shape[0] == 2
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)
    together = [outputs[-1] for outputs in seen[-1][:2]]  # outputs of the last row that is folded
    assert len(seen) == 8 and torch.allclose(*together, rtol=0, atol=1e-9)
    strided = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (2, 2)]
    assert len(strided) >= 3 and all(weight.is_contiguous(memory_format=layout) for weight in strided)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fold__keeps_the_layout(layout):
    """Kernels folded by rule keep the memory layout of the network, which detect has set by then."""
    model = folding.fold(varied("yolov5-spdconv-n").to(memory_format=layout))
    strided = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert len(strided) == 7 and all(weight.is_contiguous(memory_format=layout) for weight in strided)


def test_fold__measured_is_nowhere_slower(monkeypatch):
    """Where all places together are not faster than the unfolded network, none is folded, whatever their own ratios."""
    model, _ = measured(monkeypatch, 1.0)
    assert not folding.was_folded(model) and len(rearrangements(model)) == 6  # Focus is the seventh
    assert (model.folding["choice"], model.folding["ratio"]) == ("none", 1.0)


def test_fold__rows_repeat_a_choice(monkeypatch):
    """A choice that one run measured is repeated without measuring: the same rows, and bit for bit the same output."""
    first, _ = measured(monkeypatch, 0.5)
    again = folding.fold(varied("yolov5-spd-n").double(), first.folding["choice"])
    assert [p["folded"] for p in again.folding["places"]] == [p["folded"] for p in first.folding["places"]]
    assert again.folding["choice"] == first.folding["choice"] == "0,6,25,29"
    assert torch.equal(output(again, image(64, 64, torch.float64)), output(first, image(64, 64, torch.float64)))


@pytest.mark.parametrize("choice", ["none", "static", "25", "0, 29"])
def test_fuse__by_choice(choice):
    """``fuse`` folds by the choice of the context around it; each place loses the one SpaceToDepth that it holds."""
    with folding_by(choice):
        model = varied("yolov5-spd-n").fuse(verbose=False)
    places = {p["rows"][-1]: p["folded"] for p in model.folding["places"]}
    assert [row for row, done in places.items() if done] == sorted(rows_of(choice, list(places)))
    assert len(rearrangements(model)) == 6 - sum(done for row, done in places.items() if row)  # row 0 is Focus


@pytest.mark.parametrize(
    ("choice", "told"), [("5", "row 5 cannot be folded; those that can are 0, 3, 6"), ("", "'' is unknown")]
)
def test_fold__rows_that_cannot(choice, told):
    """Rows that hold nothing to fold are refused, and the message names those that can be folded."""
    with pytest.raises(OptionError, match=told):
        folding.fold(varied("yolov5-spd-n"), choice)


def test_fold__really_measures():
    """Without a stub each place gets a positive ratio."""
    model = folding.fold(varied("yolov8-spdconv-n"), "measured", 64)
    assert all(place["ratio"] > 0 for place in model.folding["places"]) and len(model.folding["places"]) == 7


def test_fold__unknown_choice():
    """An unknown choice is refused by name."""
    with pytest.raises(OptionError, match="'fastest' is unknown; give one of static, none, measured, or numbers"):
        folding.fold(varied("yolov5-spd-n"), "fastest")


def test_folds__says_what_the_static_rule_does():
    """What can be folded is known in advance: seven places in each variant, none in a stock network."""
    assert len(folding.folds(varied("yolov5-spdconv-n"))) == 7
    assert not folding.folds(varied("yolov8n.yaml"))


def test_is_folded__before_and_after():
    """is_folded answers the same for a checkpoint's network, which is folded only when it runs, and once folded."""
    for name, expected in (("yolov5-spd-n", True), ("yolov8-spdconv-n", True), ("yolov8n.yaml", False)):
        model = varied(name)
        assert folding.is_folded(model) is expected
        assert folding.is_folded(model.fuse(verbose=False)) is expected


def test_is_folded__not_where_something_rearranges_still():
    """A residual SPD network with only its stem folded does not count as folded, nor does one with two of seven."""
    for name in ("resnet18-spd-cls", "resnet50-spd-cls"):
        model = ClassificationModel(f"{name}.yaml", nc=5, verbose=False).eval()
        assert len(folding.folds(model)) == 1 and not folding.is_folded(model)
        model.fuse(verbose=False)
        assert model.folding["choice"] == "0" and not folding.is_folded(model) and not folding.was_folded(model)
        assert len(rearrangements(model)) == 3
    assert not folding.was_folded(folding.fold(varied("yolov5-spd-n"), "3,9"))


@pytest.mark.parametrize("choice", ["static", "measured"])
@pytest.mark.parametrize("name", ["yolov5-select-n", "yolov5-spd-n"])
def test_fold__of_a_network_in_training(name, choice):
    """Folding runs the network on an image of zeros, from which it learns nothing; values and training mode stay."""
    model = varied(name).train()
    expected = deepcopy(model).eval().fuse(verbose=False).state_dict()
    with folding_by(choice):
        model.fuse(verbose=False)
    found = model.state_dict()
    same = [torch.equal(value, found[key]) for key, value in expected.items() if key in found]
    assert all(same) and len(same) > len(expected) / 2 and all(m.training for m in model.modules())
