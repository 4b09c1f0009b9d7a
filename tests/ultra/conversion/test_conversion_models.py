"""Proves that converted checkpoints compute what their sources compute, and that the report says what was done."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from ultralytics.nn.modules import C3, Conv, Focus
from ultralytics.nn.tasks import DetectionModel
from varied import NAMES, branches, image, output, varied, write

import pixelkeep
from pixelkeep.blocks import SpaceToDepth, SPDConv
from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import ModelError, OptionError, PixelkeepError, WeightsError
from pixelkeep.report.conversion import conversion_table
from pixelkeep.ultra.conversion.channels import with_channels
from pixelkeep.ultra.conversion.fit import read_images
from pixelkeep.ultra.conversion.models import carried_over, convert_model
from pixelkeep.ultra.conversion.pretrained import adapted
from pixelkeep.ultra.data.resolving import resolve_data, write_resolved
from pixelkeep.ultra.network.names import parse
from pixelkeep.ultra.weights.checkpoints import forget, load, model_of

torch.set_num_threads(1)
HOSTS = {"yolov5": "yolov5n.yaml", "yolov8": "yolov8n.yaml", "yolo11": "yolo11n.yaml", "yolo26": "yolo26n.yaml"}
EXACT = [(host, block) for host in HOSTS for block in ("spdconv", "spd")]


def definition(name: str) -> dict:
    return parse(name).definition()


def dataset(folder: Path, names: str) -> str:
    """Write a dataset of one image."""
    import cv2
    import numpy as np

    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "1.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\nnames: [{names}]\n")
    return str(folder / "data.yaml")


@pytest.fixture
def source(tmp_path):
    """Return the file of a yolov5n with three classes."""
    return write(varied("yolov5n.yaml"), tmp_path / "source.pt")


@pytest.mark.parametrize(("host", "block"), EXACT)
def test_convert__same_boxes_and_scores(host, block, tmp_path):
    """For every host, outputs agree: 1e-9 in double precision, 1e-3 pixels and 1e-5 in score in single, also folded."""
    start = varied(HOSTS[host])
    path = write(deepcopy(start), tmp_path / "source.pt")
    report = convert_model(path, f"{host}-{block}-n", tmp_path / "converted.pt")
    assert report.exact and report.share == 1 and report.checked < 1e-9 and not report.left
    start, end = start.half().float(), model_of(load(tmp_path / "converted.pt")).float()
    assert any(isinstance(m, SpaceToDepth) for m in end.modules())
    x = image(96, 64, torch.float64)
    expected = output(deepcopy(start).double(), x)
    of_images = expected[0] - expected[1]
    assert of_images[4:].std() > 0.002 and of_images[:4].std() > 0.1  # not nearly constant
    torch.testing.assert_close(output(deepcopy(end).double(), x), expected, rtol=0, atol=1e-9)
    raw = branches(deepcopy(start).double(), x)
    assert len(raw) == (4 if host == "yolo26" else 2)  # with the branch without NMS
    torch.testing.assert_close(branches(deepcopy(end).double(), x), raw, rtol=0, atol=1e-9)
    single = output(start, x.float())
    for network in (deepcopy(end), end):
        if network is end:
            end.model[-1].end2end = False  # otherwise fusing removes the branch that is compared
            end.fuse(verbose=False)
        difference = (output(network, x.float()) - single).abs()
        assert difference[:, :4].max() < 1e-3 and difference[:, 4:].max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("block", ["spdconv", "spd"])
def test_convert__trained_yolo26(block, trained_yolo26, tmp_path):
    """Weights that plain Ultralytics trained give the same detections without NMS, one by one, also folded."""
    convert_model(trained_yolo26, f"yolo26-{block}-n", tmp_path / "to.pt")
    start, end = (deepcopy(model_of(load(p))).float().eval() for p in (trained_yolo26, tmp_path / "to.pt"))
    assert start.model[-1].end2end == end.model[-1].end2end
    for network in (start, end):
        network.model[-1].end2end = True  # releases of Ultralytics leave either in a checkpoint
    images = read_images(str(trained_yolo26.parent / "images"), 160, 3)
    with torch.no_grad():
        expected = deepcopy(start).double()(images.double())[0]  # (N, 300, 6): corners, score, class
        assert expected.shape[-1] == 6 and expected[..., 4].max() > 0.1 and expected[..., :4].std(1).max() > 5
        found = deepcopy(end).double()(images.double())[0]
        single, folded = start(images)[0], end.fuse(verbose=False)(images)[0]
    # Detections are sorted by score, so that equal ones may change places; the branches have every box in its place.
    torch.testing.assert_close(found[..., 4], expected[..., 4], rtol=0, atol=1e-9)
    assert (folded[..., 4] - single[..., 4]).abs().max() < 1e-5
    files = trained_yolo26, tmp_path / "to.pt"
    pair = [branches(deepcopy(model_of(load(path))).double(), images.double()) for path in files]
    torch.testing.assert_close(*pair, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def trained_yolo26(tmp_path_factory) -> Path:
    """Return a yolo26n that plain Ultralytics trained on some images of the demo for a few epochs."""
    from ultralytics import YOLO

    folder = tmp_path_factory.mktemp("yolo26")
    data = write_demo(folder / "demo", splits={"train": 24, "val": 4, "test": 1})
    settings = dict(epochs=30, imgsz=160, batch=4, nbs=4, optimizer="AdamW", lr0=0.002, warmup_epochs=1, mosaic=0.0)
    place = dict(project=str(folder), name="run", device="cpu", workers=0, plots=False, val=False, verbose=False)
    YOLO("yolo26n.yaml").train(data=str(write_resolved(resolve_data(str(data)))), **settings, **place)
    (folder / "images").symlink_to(next(path for path in (folder / "demo").rglob("val") if any(path.glob("*.jpg"))))
    (folder / "yolo26n.pt").write_bytes((folder / "run" / "weights" / "last.pt").read_bytes())
    return folder / "yolo26n.pt"


@pytest.mark.parametrize("host", ["yolov5", "yolo26"])
def test_convert__folded_is_the_start(host, tmp_path):
    """A strided network converted to SPDConv and folded has the same kernels, strides and paddings, bit for bit."""
    start = varied(HOSTS[host])
    end, _ = carried_over(start, definition(f"{host}-spdconv-n"), "converted")
    start, end = start.fuse(verbose=False), end.fuse(verbose=False)
    for one, other in zip(start.model, end.model, strict=True):
        if isinstance(other, SPDConv):
            assert torch.equal(one.conv.weight, other.conv.weight) and torch.equal(one.conv.bias, other.conv.bias)
            assert (one.conv.stride, one.conv.padding) == (other.conv.stride, other.conv.padding)
        else:
            assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_convert__what_a_checkpoint_keeps(tmp_path):
    """Both networks, names, BatchNorm settings and training settings are kept; an optimizer's state is not."""
    model, ema = varied("yolov5n.yaml"), varied("yolov5n.yaml")
    with torch.no_grad():
        ema.model[0].conv.weight.mul_(2)
        ema.model[3].bn.running_mean.add_(1)
    model.model[0].bn.eps, ema.model[0].bn.momentum = 0.01, 0.5
    path = write(model, tmp_path / "last.pt", ema=ema.float(), epoch=7, optimizer={"state": {}}, best_fitness=0.5)
    convert_model(path, "yolov5-spdconv-n", tmp_path / "to.pt")
    content = load(tmp_path / "to.pt")
    given, averaged = content["model"], content["ema"]
    assert given.model[0].norm.eps == 0.01 and averaged.model[0].norm.momentum == 0.5
    assert next(given.parameters()).dtype == torch.float16 and next(averaged.parameters()).dtype == torch.float32
    torch.testing.assert_close(
        averaged.model[0].conv.weight, 2 * given.model[0].conv.weight.float(), rtol=1e-3, atol=1e-5
    )
    assert torch.equal(averaged.model[3].norm.running_mean, ema.model[3].bn.running_mean)
    assert averaged.names == given.names == NAMES
    assert content["train_args"]["imgsz"] == 64 and content["best_fitness"] == 0.5
    assert content["optimizer"] is None and content["epoch"] == -1  # nothing to resume
    assert content["converted"]["from"] == "last.pt" and content["converted"]["to"] == "yolov5-spdconv-n"
    assert len(content["converted"]["sha256"]) == 64 and content["converted"]["exact"]


def test_convert__zeros_are_free_to_learn(source, tmp_path):
    """Every weight of the converted blocks gets a gradient, including those that start at zero."""
    convert_model(source, "yolov5-spdconv-n", tmp_path / "to.pt")
    model = model_of(load(tmp_path / "to.pt")).float()
    weight = model.model[3].conv.weight.requires_grad_()
    assert weight.eq(0).float().mean() > 0.7  # 9 of 36 places are taken
    model(image(64, 64))[0].sum().backward()
    assert weight.grad[weight == 0].ne(0).float().mean() > 0.99


def test_convert__noise(source, tmp_path):
    """Noise goes into the zeros alone, has the given spread, and is the same every time."""
    plain, told = carried_over(model_of(load(source)), definition("yolov5-spdconv-n"), "x")
    zeros = sum(int((value == 0).sum()) for name, value in plain.named_parameters() if name.endswith("conv.weight"))
    assert sum(part.free for part in told.parts) == pytest.approx(zeros, abs=10)  # a trained weight may round to zero
    found = []
    for number in range(2):
        report = convert_model(source, "yolov5-spdconv-n", tmp_path / f"{number}.pt", noise=0.1)
        assert not report.exact and report.checked is None
        assert report.summary().endswith("noise 0.1 in the zeros, so not the same function")
        found.append(model_of(load(tmp_path / f"{number}.pt")).float())
    for i in (1, 3, 5):
        one, other, start = (m.model[i].conv.weight.detach() for m in (*found, plain))
        assert torch.equal(one, other)
        free = start == 0
        torch.testing.assert_close(one[~free], start[~free], rtol=1e-3, atol=1e-6)
        spread = one[free].std() / start[~free].square().mean().sqrt()
        assert spread == pytest.approx(0.1, rel=0.05)


def test_convert__classes_by_name(source, tmp_path):
    """Classes of the data that the source knows keep their scores, whatever their case and order; others are new."""
    data = dataset(tmp_path, "fish, dog, cat, horse")
    report = convert_model(source, "yolov5-spdconv-n", tmp_path / "to.pt", data=data)
    assert not report.exact
    notes = {part.role: part.note for part in report.parts}
    assert notes["head P3 class"] == "2 of 4 classes by name; new: fish, horse"
    end = model_of(load(tmp_path / "to.pt")).float()
    assert list(end.names.values()) == ["fish", "dog", "cat", "horse"] and end.model[-1].nc == 4
    x = image(64, 96)
    expected, found = output(model_of(load(source)).float(), x), output(end, x)
    assert found.shape[1] == 8
    assert (found[:, :4] - expected[:, :4]).abs().max() < 1e-3
    assert (found[:, [6, 5]] - expected[:, [4, 5]]).abs().max() < 1e-5
    assert found[:, [4, 7]].max() < 0.5  # new classes are rare at first


def test_convert__same_classes_in_another_order(source, tmp_path):
    """Where only the order of the classes differs, every class keeps its scores."""
    data = dataset(tmp_path, "bird, cat, dog")
    convert_model(source, "yolov5-spd-n", tmp_path / "to.pt", data=data)
    x = image(64, 64)
    expected = output(model_of(load(source)).float(), x)[:, [6, 4, 5]]
    found = output(model_of(load(tmp_path / "to.pt")).float(), x)[:, 4:]
    assert (found - expected).abs().max() < 1e-5


def test_convert__where_nothing_is_exact(source, tmp_path):
    """For SliceSamp all other layers are taken by their role, the seven replaced ones are fresh, as the report says."""
    report = convert_model(source, "yolov5-slicesamp-n", tmp_path / "to.pt")
    fresh = [part.role for part in report.parts if part.how == "fresh"]
    assert fresh == [f"backbone P{level} down" for level in range(1, 6)] + ["neck P4 down", "neck P5 down"]
    assert {part.how for part in report.parts} == {"fresh", "taken"} and not report.exact
    start, end = model_of(load(source)), model_of(load(tmp_path / "to.pt"))
    assert all(map(torch.equal, start.model[13].state_dict().values(), end.model[13].state_dict().values()))
    text = conversion_table(report)
    assert "backbone P1 down" in text and max(map(len, text.splitlines())) <= 80


def test_convert__by_role_not_by_row(source, tmp_path):
    """Layers of the same role are taken although the rows of a P2 head shift their row numbers."""
    report = convert_model(source, "yolov5-p2-n", tmp_path / "to.pt")
    start, end = model_of(load(source)), model_of(load(tmp_path / "to.pt"))
    head = {int(stride): i for i, stride in enumerate(end.stride)}
    old = {int(stride): i for i, stride in enumerate(start.stride)}
    for stride in (8, 16, 32):
        one, other = start.model[-1].cv2[old[stride]], end.model[-1].cv2[head[stride]]
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    how = {part.role: part.how for part in report.parts}
    assert how["backbone P5 SPPF"] == "taken" and how["head P2 box"] == "fresh" and how["head P3 box"] == "taken"


@pytest.mark.parametrize("target", ["yolov5-slicesamp-n", "yolov5-slicesamp-up-n"])
def test_convert__fit(target, tmp_path):
    """Fitting on images brings each replaced layer nearer to the source's, and so the whole network."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(16):  # like those that the network runs on below
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), rng.integers(0, 256, (256, 256, 3), np.uint8))
    size = {"imgsz": 256, "model": "yolov5n.yaml"}  # more positions at stride 32 than a layer has features
    source = write(varied("yolov5n.yaml"), tmp_path / "source.pt", train_args=size)
    convert_model(source, target, tmp_path / "fresh.pt")
    report = convert_model(source, target, tmp_path / "fitted.pt", fit=tmp_path / "images")
    fitted = [part for part in report.parts if part.how == "fitted"]
    assert len(fitted) >= 7 and all(part.error_after < part.error_before for part in fitted)
    assert sum(part.error_after for part in fitted) < 0.9 * sum(part.error_before for part in fitted)
    x = image(256, 256)
    expected = output(model_of(load(source)).float(), x)
    errors = [(output(model_of(load(tmp_path / f"{n}.pt")).float(), x) - expected).norm() for n in ("fitted", "fresh")]
    assert errors[0] < errors[1]


def test_convert__fit_on_too_little(source, tmp_path):
    """A layer with more weights than there are positions to fit them on starts fresh, and the report says why."""
    import cv2

    cv2.imwrite(str(tmp_path / "one.png"), (image(64, 64)[0].permute(1, 2, 0).numpy() * 255).astype("uint8"))
    report = convert_model(source, "yolov5-slicesamp-n", tmp_path / "to.pt", fit=tmp_path / "one.png")
    part = {part.role: part for part in report.parts}["backbone P5 down"]
    assert part.how == "fresh" and part.note == "fitting 512 weights takes more than 4 positions: give more images"


def test_convert__other_host(tmp_path):
    """From yolov8 to a yolov5 variant downsampling is converted, and other blocks are not taken for the same."""
    path = write(varied("yolov8n.yaml"), tmp_path / "source.pt")
    report = convert_model(path, "yolov5-spdconv-n", tmp_path / "to.pt")
    how = {part.role: (part.how, part.note) for part in report.parts}
    assert how["backbone P3 down"][0] == "rewritten" and how["backbone P3 block"] == ("fresh", "C3, not C2f")
    assert how["neck P5 conv"] == ("fresh", "the source has no such part")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("yolov5-spdconv-s", "yolov5-spdconv-n matches them"),
        ("yolov5-spd-m", "yolov5-spd-n matches them"),
        ("yolov5-spdcon-n", "did you mean 'yolov5-spdconv-n'"),
        ("yolov8n-seg", "task"),
    ],
)
def test_convert__refuses_targets(source, target, words, tmp_path):
    """Another size, an unknown name and another task are refused in one line, and nothing is written."""
    with pytest.raises(ModelError, match=words) as caught:
        convert_model(source, target, tmp_path / "to.pt")
    assert "\n" not in str(caught.value) and not (tmp_path / "to.pt").exists()


def test_convert__refuses_sources(source, tmp_path):
    """Files that are damaged, of another task, fused, or no checkpoint are refused in one line."""
    other = {
        "cut.pt": (source.read_bytes()[:5000], "damaged"),
        "empty.pt": (b"", "empty"),
        "notes.txt": (b"x", "PyTorch checkpoint"),
    }
    for name, (content, words) in other.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=words):
            convert_model(tmp_path / name, "yolov5-spdconv-n", tmp_path / "to.pt")
    forget()
    write(varied("yolov5n.yaml").fuse(verbose=False), tmp_path / "fused.pt")
    with pytest.raises(WeightsError, match="fused for inference"):
        convert_model(tmp_path / "fused.pt", "yolov5-spdconv-n", tmp_path / "to.pt")
    from ultralytics.nn.tasks import SegmentationModel

    write(SegmentationModel("yolov8n-seg.yaml", nc=2, verbose=False), tmp_path / "masks.pt")
    with pytest.raises(WeightsError, match="a SegmentationModel with head Segment; only detection"):
        convert_model(tmp_path / "masks.pt", "yolov8-spdconv-n", tmp_path / "to.pt")
    assert not (tmp_path / "to.pt").exists()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"noise": -1.0}, "noise must be a number of 0 or more"),
        ({"noise": float("nan")}, "noise must be"),
        ({"output": "to.onnx"}, "ending in .pt"),
        ({"fit": "nowhere"}, "nowhere"),
        ({"data": "nowhere.yaml"}, "nowhere"),
    ],
)
def test_convert__refuses_options(source, keywords, words):
    """Invalid options are refused by name."""
    with pytest.raises(PixelkeepError, match=words):
        convert_model(source, "yolov5-spdconv-n", **keywords)


def test_convert__to_a_checkpoint(source):
    """A checkpoint is refused as the target."""
    with pytest.raises(OptionError, match="name the model to convert to"):
        convert_model(source, str(source))


def test_adapted__for_training():
    """Pretrained weights of the strided network start the variant with the same function; its own are left alone."""
    start = varied("yolov5n.yaml")
    x = image(64, 64)
    found = adapted(start, definition("yolov5-spdconv-n"))[0]
    assert isinstance(found.model[0], SPDConv)
    assert (output(found, x) - output(start, x)).abs().max() < 1e-3
    assert adapted(start, "yolov5n.yaml")[0] is start and adapted(None, definition("yolov5-spd-n"))[0] is None
    own = varied("yolov5-spd-n")
    assert adapted(own, definition("yolov5-spd-n"))[0] is own
    with pytest.raises(ModelError, match="yolov5-spdconv-n matches them"):
        adapted(start, definition("yolov5-spdconv-m"))[0]


def test_adapted__head_and_names_go_through_ultralytics():
    """Ultralytics then loads all of the adapted weights into the network to train, with the classes by name."""
    start, target = varied("yolov8n.yaml"), DetectionModel("yolov8-spdconv-n.yaml", nc=2, verbose=False)
    target.names = {0: "bird", 1: "fish"}
    target.load(adapted(start, target.yaml)[0], verbose=False)
    x = image(64, 64)
    expected, found = output(start, x), output(target, x)
    assert (found[:, :4] - expected[:, :4]).abs().max() < 1e-3
    assert (found[:, 4] - expected[:, 6]).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["yolov5n.yaml", "yolov5-spdconv-n", "yolov5-spd-n"])
def test_channels__same_function(name):
    """On grey images a network computes what it did on them in colour, and additional channels change nothing."""
    start, x = varied(name), image(64, 64)
    grey = x[:, :1]
    assert (output(with_channels(start, 1), grey) - output(start, grey.expand(-1, 3, -1, -1))).abs().max() < 1e-3
    assert (output(with_channels(start, 5), torch.cat((x, x[:, :2]), 1)) - output(start, x)).abs().max() < 1e-3
    assert with_channels(start, 3) is start and start.yaml.get("channels", 3) == 3


@pytest.mark.parametrize("name", ["yolov5n.yaml", "yolov5-spdconv-n"])
def test_adapted__images_of_one_channel(name):
    """Weights for colour start the SPD network for grey images with the same function, in every slice of its stem."""
    start, target = varied(name), DetectionModel("yolov5-spdconv-n.yaml", ch=1, nc=3, verbose=False).eval()
    target.load(adapted(start, target.yaml, 1)[0], verbose=False)
    grey = image(64, 64)[:, :1]
    assert (output(target, grey) - output(start, grey.expand(-1, 3, -1, -1))).abs().max() < 1e-3


def test_adapted__head_of_regions():
    """yolov5-cad, whose rows are shifted by its level of stride 4, starts with the head of the strided network."""
    start, target = varied("yolov5n.yaml"), DetectionModel("yolov5-cad-n.yaml", nc=3, verbose=False)
    target.load(adapted(start, target.yaml)[0], verbose=False)
    theirs, own = start.model[-1], target.model[-1]
    for name in ("cv2", "cv3"):
        for level in range(3):
            pairs = zip(
                getattr(theirs, name)[level].parameters(), getattr(own, name)[level + 1].parameters(), strict=True
            )
            assert all(torch.equal(a, b) for a, b in pairs)


def test_convert__regions_to_a_portable_file(source, tmp_path):
    """The class branch of the new level is as wide as the ones carried over, and a portable file holds them."""
    convert_model(source, "yolov5-cad-n", tmp_path / "cad.safetensors")
    head = load(tmp_path / "cad.safetensors")["model"].model[-1]
    assert {branch[-1].in_channels for branch in head.cv3} == {64} and len(head.cv3) == 4


def test_api__is_lazily_exported():
    """``pixelkeep.convert_model`` is this function."""
    assert pixelkeep.convert_model is convert_model


@pytest.mark.parametrize(("name", "kinds"), [("yolov5-spd-n", (Focus, Conv, C3)), ("yolov5-spdconv-n", (SPDConv,))])
def test_convert__spd_to_itself(name, kinds, tmp_path):
    """A variant's own checkpoint is taken as it is."""
    start = varied(name)
    report = convert_model(write(deepcopy(start), tmp_path / "a.pt"), name, tmp_path / "b.pt")
    assert report.exact and {part.how for part in report.parts} == {"taken"}
    assert any(isinstance(m, kinds) for m in start.modules())


def test_convert__spdconv_to_published_is_not_exact(tmp_path):
    """A trained SPDConv uses every phase, which no convolution at full resolution does, so those layers are fresh."""
    report = convert_model(write(varied("yolov5-spdconv-n"), tmp_path / "a.pt"), "yolov5-spd-n", tmp_path / "b.pt")
    how = {part.role: part.how for part in report.parts}
    assert how["backbone P1 down"] == "rewritten"  # Focus is SPDConv
    assert how["backbone P3 down"] == "fresh" and not report.exact


def test_convert__other_activation_is_not_exact(tmp_path):
    """The same weights with another activation are not the same function."""
    changed = definition("yolov5-spdconv-n") | {"activation": "nn.ReLU()"}
    _, report = carried_over(varied("yolov5n.yaml"), changed, "changed")
    assert report.share == 1 and not report.exact
    assert not any(part.exact for part in report.parts if part.role.endswith("down"))
