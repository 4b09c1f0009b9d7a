"""Proves that folding changes no output of a network, leaves no SpaceToDepth where it should not, and can be copied."""

from __future__ import annotations

import io
import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from ultralytics.nn.modules import Concat
from ultralytics.nn.tasks import DetectionModel
from varied import image, output, varied

from pixelkeep.blocks import SliceSamp, SpaceToDepth
from pixelkeep.errors import OptionError
from pixelkeep.ultra.network import folding
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
    """In double precision within 1e-9 of the network unfused, in single within 1e-4 pixels and 1e-5 in score."""
    model = varied(name)
    expected = output(deepcopy(model).double(), image(*size, torch.float64))
    assert expected[:, 4:].std() > 0.05 and expected[:, :4].std() > 5  # nothing near-constant
    folded = deepcopy(model).double().fuse(verbose=False)
    assert rearrangements(model) and not rearrangements(folded)
    torch.testing.assert_close(output(folded, image(*size, torch.float64)), expected, rtol=0, atol=1e-9)
    plain = output(deepcopy(model).fuse(verbose=False, fold=False), image(*size))
    single = output(model.fuse(verbose=False), image(*size))
    assert (single - plain)[:, :4].abs().max() < 1e-4 and (single - plain)[:, 4:].abs().max() < 1e-5


@pytest.mark.parametrize("size", [(31, 64), (29, 61), (64, 63)])
@pytest.mark.parametrize("host", HOSTS)
def test_fold__odd_images(host, size):
    """Odd images, and maps that are odd further on, give shape and values of the network as it was."""
    model = varied(f"{host}-spdconv-n").double()
    expected = output(model, image(*size, torch.float64))
    folded = model.fuse(verbose=False)
    torch.testing.assert_close(output(folded, image(*size, torch.float64)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("host", HOSTS)
def test_fold__odd_maps_after_the_stem(host):
    """In the published layering, maps that are odd after the stem."""
    model = varied(f"{host}-spd-n").double()
    expected = output(model, image(62, 58, torch.float64))
    folded = model.fuse(verbose=False)
    torch.testing.assert_close(output(folded, image(62, 58, torch.float64)), expected, rtol=0, atol=1e-9)


def test_fold__published_layering_has_no_concat_before_a_convolution():
    """In yolov5-spd all seven SpaceToDepth go, and the two Concats that take one; the other two stay."""
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
    """Stock networks and SliceSamp have nothing to fold; a SpaceToDepth that two rows read stays."""
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
    """Folding again changes nothing; deepcopy, pickling and a checkpoint of it give the same output."""
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
    """Folding a copy changes nothing in the network that it was copied from."""
    model = varied("yolov5-spd-n")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deepcopy(model).fuse(verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fold__int8_keeps_its_form():
    """A convolution that is trained for int8 keeps the kernel that its ranges belong to; the others are folded."""
    model = varied("yolov5-spdconv-n")
    model.model[0].conv.weight_quantizer = nn.Identity()
    model.fuse(verbose=False)
    assert len(rearrangements(model)) == 1 and isinstance(model.model[0].rearrange, SpaceToDepth)


def test_fold__measured_choice_is_recorded(monkeypatch):
    """Each place is folded exactly where the measured ratio is below 1, and the record says so."""
    ratios = iter([0.5, 1.5, 0.9, 1.0, 2.0, 0.99, 0.7])
    seen = []

    def ratio(before, after, inputs, device):
        seen.append((before(inputs), after(inputs)))
        return next(ratios)

    monkeypatch.setattr(folding, "ratio", ratio)
    model = varied("yolov5-spd-n").double()
    expected = output(model, image(64, 96, torch.float64))
    folding.fold(model, "measured", [64, 96], batch=2)
    assert [place["folded"] for place in model.folding["places"]] == [True, False, True, False, False, True, True]
    assert [place["ratio"] for place in model.folding["places"]] == [0.5, 1.5, 0.9, 1.0, 2.0, 0.99, 0.7]
    assert model.folding["choose"] == "measured" and len(rearrangements(model)) == 3
    torch.testing.assert_close(output(model, image(64, 96, torch.float64)), expected, rtol=0, atol=1e-9)
    for before, after in seen:
        assert before.shape[0] == 2
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


def test_fold__really_measures():
    """Without a stand-in the ratios are positive numbers, one for each place."""
    model = folding.fold(varied("yolov8-spdconv-n"), "measured", 64)
    assert all(place["ratio"] > 0 for place in model.folding["places"]) and len(model.folding["places"]) == 7


def test_fold__unknown_choice():
    """Another choice is refused by name."""
    with pytest.raises(OptionError, match="choose 'fastest' is unknown; one of static, measured"):
        folding.fold(varied("yolov5-spd-n"), "fastest")


def test_folds__says_what_the_static_rule_does():
    """What can be folded is known before: seven places in each variant, none in a stock network."""
    assert len(folding.folds(varied("yolov5-spdconv-n"))) == 7
    assert not folding.folds(varied("yolov8n.yaml"))


def test_is_folded__before_and_after():
    """The answer for a checkpoint's network, which is folded only when it runs, is that for the folded one."""
    for name, expected in (("yolov5-spd-n", True), ("yolov8-spdconv-n", True), ("yolov8n.yaml", False)):
        model = varied(name)
        assert folding.is_folded(model) is expected
        assert folding.is_folded(model.fuse(verbose=False)) is expected
