"""Exports: folded graphs have no slices of our own, boxes and scores agree, and a file that differs is not kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from varied import varied, write

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import ExportError, OptionError, WeightsError
from pixelkeep.ultra.commands.asked import Asked
from pixelkeep.ultra.commands.detection import detect
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.export import exporting, files
from pixelkeep.ultra.export import images as export_images
from pixelkeep.ultra.export import parity as export_parity
from pixelkeep.ultra.export.exporting import Request, export
from pixelkeep.ultra.network import folding
from pixelkeep.ultra.weights import formats as export_formats
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of

torch.set_num_threads(1)
NAMES = {i: name for i, name in enumerate(("person", "car", "truck", "boat", "building"))}
POINT = {"schema": 1, "objective": "f1", "confidence": [0.1, 0.2, 0.3, 0.4, 0.5], "imgsz": 64, "split": "val"}
CUTS = ("Slice", "Gather", "SpaceToDepth", "Split")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Return the YAML of a generated, labelled dataset with six validation images."""
    splits = {"train": 2, "val": 6, "test": 1}
    return str(write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits=splits))


@pytest.fixture(autouse=True)
def brief(monkeypatch, data):
    """Shorten the measurement of speed, and compare on the tiny dataset by default."""
    monkeypatch.setattr(export_parity, "SECONDS", 0.0)
    resolve = export_images.resolve_data
    monkeypatch.setattr(
        export_images, "resolve_data", lambda name, **more: resolve(data if name == "demo" else name, **more)
    )


def weights(folder: Path, name: str = "yolov5-spd-n", **content) -> Path:
    model = varied(name, NAMES)
    model.task = "detect"
    point = {"operating_point": POINT | {"gt_sha256": "0"}}
    return write(model, folder / "best.pt", **point | content)


@pytest.fixture(scope="module")
def spd(tmp_path_factory) -> Path:
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def exports(spd, data) -> dict[str, Path]:
    """Export the network to ONNX and TorchScript, beside its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_parity, "SECONDS", 0.0)
        made = {name: export(Request(weights=str(spd), format=name, data=data)) for name in ("onnx", "torchscript")}
    assert all(not report.failures() and report.losses()["AP"] < 0.002 for report in made.values())
    return {name: Path(report.output) for name, report in made.items()}


def cuts(file: Path) -> Counter:
    """Count the nodes of an ONNX graph that cut something out of a tensor, by type."""
    return Counter(node.op_type for node in onnx.load(file).graph.node if node.op_type in CUTS)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return a function that writes only a network's ONNX graph and counts its cuts."""

    def counted(name: str) -> Counter:
        file = tmp_path_factory.mktemp("bare") / "network.onnx"
        path = weights(file.parent, name)
        model = model_of(load(path)).float()
        settings = dict(format="onnx", imgsz=[64, 64], batch=1, device="cpu", quantize=32)
        files.write(folding.fold(model, join=False), file, settings, {"precision": "fp32"})
        return cuts(file)

    return counted


def test_graph__nothing_is_cut_but_in_the_head(exports, bare):
    """yolov5-spd and -spdconv have only the two slices of the detection head that stock yolov5 has."""
    assert cuts(exports["onnx"]) == bare("yolov5-n") == bare("yolov5-spdconv-n") == {"Slice": 2}


@pytest.mark.slow
@pytest.mark.parametrize("host", ["yolov8", "yolo11", "yolo26"])
def test_graph__other_hosts(bare, host):
    """On the other hosts, the two rules add no cut to those of the stock network."""
    stock = bare(f"{host}-n")
    assert bare(f"{host}-spd-n") == bare(f"{host}-spdconv-n") == stock


def test_export__agrees_and_says_so(exports, spd):
    """Both files lie beside the weights, with nothing else, and their descriptions match the checkpoint."""
    assert sorted(p.name for p in spd.parent.iterdir()) == ["best.onnx", "best.pt", "best.torchscript"]
    for name, file in exports.items():
        held = load(check_weights(file, exported=True))
        model = held["model"]
        assert (model.format, model.precision, model.size, model.batch, model.folded) == (name, "fp32", 64, 1, True)
        assert model.names == NAMES and model.params == sum(p.numel() for p in model_of(load(spd)).parameters())
        assert held["operating_point"]["confidence"] == POINT["confidence"]


def test_export__another_function_is_refused(spd, tmp_path, monkeypatch):
    """An export with perturbed weights fails and leaves no file."""

    def perturbed(network: nn.Module, *others, **keywords):
        network = exporting.deepcopy(network)
        network.model[-1].cv2[0][0].conv.weight.data.mul_(1.01)
        return fold(network, *others, **keywords)

    fold = exporting.fold
    monkeypatch.setattr(exporting, "fold", perturbed)
    with pytest.raises(ExportError, match="does not compute the same results: boxes differ"):
        export(Request(weights=str(spd), output=str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_export__what_was_there_stays(spd, tmp_path, monkeypatch):
    """A failed export leaves an existing file of the same name unchanged."""
    (tmp_path / "best.onnx").write_text("older")
    monkeypatch.setattr(exporting, "write", lambda *_: (_ for _ in ()).throw(ExportError("no")))
    with pytest.raises(ExportError):
        export(Request(weights=str(spd), output=str(tmp_path)))
    assert (tmp_path / "best.onnx").read_text() == "older" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (dict(format="onx"), "onnx, openvino, torchscript, engine, ncnn, safetensors, pt; did you mean 'onnx'?"),
        (dict(format="coreml"), "not one of onnx, openvino"),
        (dict(precision="bf16"), "onnx is exported in fp32, fp16, int8"),
        (dict(format="ncnn", precision="int8"), "ncnn is exported in fp32, fp16"),
        (dict(precision="int8"), "--precision int8 needs --data"),
        (dict(format="engine", device="cpu"), "engine needs an NVIDIA GPU"),
        (dict(format="ncnn", dynamic=True), "a file in ncnn takes images of one size"),
        (dict(format="ncnn", batch=2), "ncnn takes one image at a time"),
        (dict(fold="fastest"), "'fastest' is unknown; give one of static, none, measured"),
        (dict(bounds=["matched=lots"]), "a number of at least 0"),
        (dict(format="torchscript", precision="fp16", device="cpu"), "only on a GPU"),
        (dict(output="nowhere/there.txt"), "a name that ends in .onnx"),
    ],
)
def test_export__refused(spd, request_, told):
    """An unavailable format, precision or output path is refused in one line that names what is available."""
    with pytest.raises(OptionError, match=told.replace("?", r"\?")):
        export(Request(weights=str(spd), **request_))


def test_export__missing_package(spd, monkeypatch):
    """If a package is missing, one line says what to install, and nothing is installed."""
    monkeypatch.setattr(export_formats, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"onnx needs onnx, onnxruntime, onnxslim: pip install 'pixelkeep\[onnx\]'"):
        export(Request(weights=str(spd)))
    with pytest.raises(OptionError, match=r"ncnn needs ncnn, pnnx: pip install 'pixelkeep\[ncnn\]'"):
        export(Request(weights=str(spd), format="ncnn"))
    monkeypatch.setattr(export_formats, "find_spec", lambda name: name != "nncf" or None)
    with pytest.raises(OptionError, match=r"openvino in int8 needs nncf: pip install 'pixelkeep\[int8\]'"):
        export(Request(weights=str(spd), format="openvino", precision="int8"))
    monkeypatch.setattr(export_formats, "find_spec", lambda name: name not in ("openvino", "nncf") or None)
    with pytest.raises(OptionError, match=r"needs openvino, nncf: pip install 'pixelkeep\[int8\]'"):  # int8 has both
        export(Request(weights=str(spd), format="openvino", precision="int8"))
    monkeypatch.setattr(export_formats, "find_spec", lambda name: name != "tensorrt" or None)
    line = r"engine needs an NVIDIA GPU, .*, and tensorrt: pip install tensorrt 'pixelkeep\[onnx\]'; onnx needs no GPU"
    with pytest.raises(OptionError, match=line):  # one message names both the missing GPU and the missing package
        export(Request(weights=str(spd), format="engine", device="cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(OptionError, match=r"engine needs tensorrt: pip install tensorrt 'pixelkeep\[onnx\]'"):
        export(Request(weights=str(spd), format="engine"))


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_val__as_the_checkpoint(exports, spd, data, tmp_path, name):
    """AP and AP_S of the file are within 0.002 of the checkpoint's; metrics.json names format and precision."""
    alike = dict(data=data, plots=False, project=str(tmp_path), device="cpu")
    own, _ = validate({"weights": str(spd), "imgsz": [64, 64], **alike})
    found, _ = validate({"weights": str(exports[name]), **alike})
    assert abs(own.AP - found.AP) < 0.002 and abs((own.AP_S or 0) - (found.AP_S or 0)) < 0.002
    assert (found.protocol.format, found.protocol.precision, found.protocol.imgsz) == (name, "fp32", [64, 64])
    assert (own.protocol.format, found.params, found.gflops) == ("pytorch", own.params, own.gflops)


def test_detect__as_the_checkpoint(exports, spd, data, tmp_path):
    """detect finds the same objects at the confidence of each class, which the file holds as well."""
    source = [str(Path(data).parent / "images" / "val")]
    asked = Asked(sources=source, auto_conf=True)
    made = dict(save=False, project=str(tmp_path), device="cpu", verbose=False)
    own = detect({"weights": str(spd), "rect": False, **made}, asked)
    for file in exports.values():
        found = detect({"weights": str(file), **made}, asked)
        assert found.detections == own.detections and sum(own.detections.values()) > 0
        assert found.confidence == dict(zip(NAMES.values(), POINT["confidence"], strict=True))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"imgsz": 96}, "takes only 64"),
        ({"batch": 4}, "takes only 1"),
        ({"quantize": 16}, "is in fp32, as it was exported"),
        ({"augment": True}, "augment: has no effect"),
    ],
)
def test_val__what_the_file_cannot(exports, data, settings, told):
    """An image size, batch or precision other than the file's is refused, as is a setting without effect."""
    with pytest.raises(OptionError, match=told):
        validate({"weights": str(exports["onnx"]), "data": data, **settings})


def test_val__the_files_own_size_in_two_numbers(exports, data):
    """The file's own size is accepted when it is given as height and width."""
    result, _ = validate({"weights": str(exports["onnx"]), "data": data, "imgsz": [64, 64], "plots": False})
    assert result.protocol.imgsz == [64, 64]


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "foreign"])
def test_damaged_file__one_line(exports, data, tmp_path, name, damage):
    """Files that are empty, truncated or of another kind are refused by name."""
    whole = exports[name].read_bytes()
    content = {"empty": b"", "truncated": whole[: len(whole) * 2 // 3], "foreign": b"nothing of the kind" * 99}
    file = tmp_path / exports[name].name
    file.write_bytes(content[damage])
    with pytest.raises(WeightsError, match=f"weights '{file}': "):
        validate({"weights": str(file), "data": data})


def test_torchscript__that_uses_files_is_refused(exports, tmp_path):
    """TorchScript that contains torch's operator for reading files is refused before it is loaded."""

    class Reader(nn.Module):
        def forward(self, x):
            return x + torch.from_file("/etc/hostname", size=1)

    extra = {"config.txt": '{"task": "detect"}'}
    file = tmp_path / "best.torchscript"
    torch.jit.save(torch.jit.script(Reader()), str(file), _extra_files=extra)
    with pytest.raises(WeightsError, match="refused without executing it"):
        check_weights(file, exported=True)


@pytest.mark.slow
def test_openvino__computes_in_the_precision_that_is_named(spd, tmp_path, data):
    """OpenVINO computes in fp32 where nothing else is named, also on CPUs on which it would choose bf16 itself."""
    pytest.importorskip("openvino")
    single = export(Request(weights=str(spd), format="openvino", output=str(tmp_path), data=data))
    assert single.parity.boxes_max < 1e-3 and single.parity.scores_max < 1e-5
    found, _ = validate({"weights": single.output, "data": data, "plots": False, "project": str(tmp_path)})
    assert (found.protocol.format, found.protocol.precision) == ("openvino", "fp32")
