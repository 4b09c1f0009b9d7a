"""Exports to int8: calibrated on training images, the head in float only as far as needed, and all of it recorded."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from exports import briefly, checkpoint, tiny
from onnx.numpy_helper import to_array

from pixelkeep.blocks import LIP
from pixelkeep.deploy.parity import Parity
from pixelkeep.errors import ExportError, PixelkeepError
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.export import exporting, files, parity, quantizing
from pixelkeep.ultra.export.exporting import Request, export
from pixelkeep.ultra.export.images import images_of
from pixelkeep.ultra.network.folding import fold
from pixelkeep.ultra.network.rows import put
from pixelkeep.ultra.weights.checkpoints import load, model_of

torch.set_num_threads(1)
LOOSE = ("matched=0", "ap=1", "ap_s=1")  # bounds that an untrained network can meet
TRACED = "__module.model.24"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return tiny(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def spd(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    briefly(monkeypatch)


@pytest.fixture(scope="module")
def quantized(spd, data):
    """Export the network to ONNX in int8 and return the report."""
    with pytest.MonkeyPatch.context() as patch:
        briefly(patch)
        return export(Request(weights=str(spd), precision="int8", data=data, bounds=LOOSE))


def test_int8__weights_in_eight_bits_by_channel(quantized):
    """Nearly all convolutions read int8 weights with one scale per channel; the decoding of boxes stays in float."""
    graph = onnx.load(quantized.output).graph
    kinds = Counter(node.op_type for node in graph.node)
    values = {item.name: to_array(item) for item in graph.initializer}
    scales = {n.input[0]: values[n.input[1]] for n in graph.node if n.op_type == "DequantizeLinear"}
    convs = [n for n in graph.node if n.op_type == "Conv"]
    made = {n.output[0]: n for n in graph.node}
    eight = [n for n in convs if made.get(n.input[1]) and made[n.input[1]].op_type == "DequantizeLinear"]
    assert len(eight) >= len(convs) - 19 and kinds["QuantizeLinear"] > 30  # the head has 19 convolutions
    weights = [made[n.input[1]].input[0] for n in eight]
    assert all(values[name].dtype == np.int8 and len(scales[name]) == len(values[name]) for name in weights)
    float_ = {n.name for n in convs} - {n.name for n in eight}
    assert any("dfl" in name for name in float_) and all("/model.30/" in name for name in float_)


def test_int8__file_and_record(quantized, spd):
    """The file name says int8, and the number of calibration images and what stayed in float are recorded."""
    path = Path(quantized.output)
    assert path == spd.parent / "best_int8.onnx" and sorted(p.name for p in spd.parent.iterdir()) == [
        "best.pt",
        "best_int8.onnx",
    ]
    held = load(path)["model"]
    assert (held.precision, held.folded, held.folding["choice"]) == ("int8", True, "0,3,6,9,12,25,29")
    record = quantized.quantized
    assert record["images"] == 4 and record["float"] in quantizing.STEPS
    assert record["agreed"][record["float"]] == max(record["agreed"].values())
    assert quantized.to_dict()["quantized"] == record and quantized.megabytes < 4.5  # 3.0 M weights of one byte each


def test_int8__calibrated_on_training_images(spd, data, monkeypatch):
    """Only images of the training split are used for calibration."""
    asked = []

    def images(*arguments, **keywords):
        asked.append(arguments[3:])
        return images_of(*arguments, **keywords)

    monkeypatch.setattr(exporting, "images_of", images)
    monkeypatch.setattr(exporting, "quantize", lambda *_: (_ for _ in ()).throw(ExportError("far enough")))
    with pytest.raises(ExportError, match="far enough"):
        export(Request(weights=str(spd), precision="int8", data=data))
    assert asked == [(), ("train", 128)]
    network = model_of(load(spd)).float()
    assert len(images_of(data, [64, 64], network, "train", 128)) == 4


def test_int8__val_computes_in_it(quantized, data, tmp_path):
    """val accepts the int8 file and reports its precision."""
    found, _ = validate({"weights": quantized.output, "data": data, "plots": False, "project": str(tmp_path)})
    assert (found.protocol.format, found.protocol.precision) == ("onnx", "int8")


def test_bound__of_the_user_fails_an_export(spd, data, tmp_path):
    """A bound that no network can meet fails the export, and leaves nothing behind."""
    with pytest.raises(ExportError, match=r"of the detections match \(bound 101.0%\)"):
        export(Request(weights=str(spd), data=data, bounds=["matched=1.01"], output=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("agreed", "kept", "tried"),
    [
        ({"last": 0.95}, "last", 1),
        ({"last": 0.94, "head": 0.95}, "head", 2),
        ({"last": 0.9, "head": 0.85}, "last", 2),
        ({"last": 0.8, "head": 0.85}, "head", 2),
    ],
)
def test_ladder__no_more_in_float_than_needed(tmp_path, monkeypatch, agreed, kept, tried):
    """The first step that agrees well enough is kept; if none does, the one that agrees best."""
    path = tmp_path / "net.onnx"
    path.write_text("fp32")
    network = fold(model_of(load(checkpoint(tmp_path))).float())
    network.task = "detect"
    monkeypatch.setitem(
        quantizing.QUANTIZERS, "onnx", lambda source, target, head, images, step: target.write_text(step)
    )
    record = quantizing.quantize("onnx", path, network, torch.zeros(3, 3, 64, 64), lambda p: agreed[p.read_text()])
    assert path.read_text() == kept == record["float"]
    assert len(record["agreed"]) == tried and record["images"] == 3


def test_ladder__nothing_agrees(tmp_path, monkeypatch):
    """If no detection is found again in int8, one line says so."""
    monkeypatch.setitem(quantizing.QUANTIZERS, "onnx", lambda source, target, head, images, step: None)
    network = model_of(load(checkpoint(tmp_path))).float()
    with pytest.raises(ExportError, match="none of the network's detections are found in int8"):
        quantizing.quantize("onnx", tmp_path / "net.onnx", network, torch.zeros(1, 3, 64, 64), lambda p: 0.0)


def test_ladder__a_network_that_finds_nothing(tmp_path, monkeypatch):
    """If the network itself finds nothing, the error does not blame int8."""
    silent = Parity(**dict.fromkeys((f.name for f in fields(Parity)), 0) | {"images": 3, "matched": None})
    monkeypatch.setattr(parity, "opened", lambda *_: None)
    monkeypatch.setattr(parity, "agreement", lambda *_: silent)
    with pytest.raises(
        ExportError, match=r"^int8: the network finds nothing above 0\.25 in the 3 images to calibrate on"
    ):
        exporting._agrees(None, torch.zeros(3, 3, 64, 64), 1, torch.device("cpu"), tmp_path)


def test_quantizer__fails_in_one_line(tmp_path, monkeypatch):
    """A quantizer's error is reported by its first line, or as a full disk where that is the cause."""
    network = model_of(load(checkpoint(tmp_path))).float()
    for error, told in (
        (ImportError("no onnx here\nmore"), r"^onnx: this network cannot be quantized \(no onnx here\)$"),
        (OSError(errno.ENOSPC, "full"), "No space left on device"),
    ):

        def fail(*_, error=error):
            raise error

        monkeypatch.setitem(quantizing.QUANTIZERS, "onnx", fail)
        with pytest.raises(PixelkeepError, match=told):
            quantizing.quantize("onnx", tmp_path / "net.onnx", network, torch.zeros(1, 3, 64, 64), lambda p: 1.0)


@pytest.mark.parametrize(
    ("name", "decode", "last", "head"),
    [
        ("/model.24/cv2.0/cv2.0.2/Conv", False, True, True),
        ("/model.24/cv3.1/cv3.1.0/conv/Conv", False, False, True),
        ("/model.24/one2one_cv3.0/one2one_cv3.0.2/Conv", False, True, True),
        ("/model.24/dfl/conv/Conv", True, True, True),
        ("/model.24/Sigmoid", True, True, True),
        ("/model.2/cv2/conv/Conv", False, False, False),
        ("/model.23/cv3/conv/Conv", False, False, False),
        (f"{TRACED}.cv2.2.2/aten::_convolution/Convolution", False, True, True),
        (f"{TRACED}.cv3.2.1.conv/aten::_convolution/Convolution", False, False, True),
        (f"{TRACED}.dfl.conv/aten::_convolution/Convolution", True, True, True),
        (f"{TRACED}/aten::sigmoid/Sigmoid", True, True, True),
        (f"{TRACED}.classifier.1/aten::_convolution/Convolution", False, True, True),
        (f"{TRACED}.classifier.0.conv/aten::_convolution/Convolution", False, False, True),
        ("/model.24/linear/Gemm", False, True, True),
        ("/model.24/conv/conv/Conv", False, False, True),
    ],
)
def test_stays_float__by_name(name, decode, last, head):
    """The steps keep in float the decoding, then each branch's last convolution, then the head; never what precedes."""
    assert [quantizing.stays_float(name, 24, step) for step in quantizing.STEPS] == [decode, last, head]


def test_batches__whole_and_one_at_least():
    """With fewer images than the file's batch they are repeated; otherwise an incomplete last batch is left out."""
    images = torch.arange(5.0).reshape(5, 1, 1, 1)
    assert [b.flatten().tolist() for b in quantizing._batches(images, 2)] == [[0, 1], [2, 3]]
    assert [b.flatten().tolist() for b in quantizing._batches(images[:2], 3)] == [[0, 1, 0]]


def test_annotate__keeps_what_else_is_there(tmp_path):
    """annotate replaces our own facts in a folder's description and keeps everything else."""
    folder = tmp_path / "net_openvino_model"
    folder.mkdir()
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"task": "detect", "pixelkeep": "{}", "names": {0: "a"}}))
    files.annotate(folder, {"precision": "int8"})
    found = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert found == {"task": "detect", "pixelkeep": '{"precision": "int8"}', "names": {0: "a"}}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("Exporting failed\n\nthe operator 'aten::x' is not supported\nmore"), "the operator 'aten::x'"),
        (ValueError("first\nsecond"), "first"),
        (KeyError(), "KeyError"),
    ],
)
def test_reason__names_the_operator_that_is_lacking(error, told):
    """Of an exporter's message, the line that names the missing operator is kept, otherwise the first."""
    assert files.reason(error).startswith(told)


def test_reason__ends_with_a_whole_word():
    """A long line is cut between words, and a request for contributions is left out."""
    asks = "Unsupported: ONNX export of operator x. Please feel free to request support"
    assert files.reason(RuntimeError(asks)) == "Unsupported: ONNX export of operator x"
    assert files.reason(RuntimeError("word " * 99)) == "word " * 32 + "..."
    assert files.reason(RuntimeError("x" * 999)) == "x" * 160 + " ..."


def test_write__operator_that_the_format_lacks(spd, tmp_path):
    """A network with an operator that ONNX lacks fails in one line that names the operator."""

    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    network = fold(model_of(load(spd)).float(), join=False)
    put(network.model, 1, torch.nn.Sequential(network.model[1], Odd()))
    settings = dict(format="onnx", imgsz=[64, 64], batch=1, device="cpu", quantize=32)
    with pytest.raises(ExportError, match=r"onnx: this network cannot be written in this format .*bessel_j0"):
        files.write(network, tmp_path / "net.onnx", settings, {"precision": "fp32"})


@pytest.mark.slow
def test_openvino__int8(spd, data, tmp_path):
    """The graph is quantised throughout, the folder records its precision, the report its calibration images."""
    pytest.importorskip("nncf")
    import openvino

    report = export(
        Request(weights=str(spd), format="openvino", precision="int8", data=data, bounds=LOOSE, output=str(tmp_path))
    )
    folder = tmp_path / "best_int8_openvino_model"
    model = openvino.Core().read_model(next(folder.glob("*.xml")))
    made = Counter(op.get_type_name() for op in model.get_ops())
    assert made["FakeQuantize"] > 30 and load(folder)["model"].precision == "int8"
    assert report.quantized["images"] == 4 and Path(report.output) == folder


def test_openvino__weights_of_lip_stay_in_float(tmp_path):
    """LIP's exponentials reach exp(12), so int8 would keep only the largest; left in float, the output stays close."""
    pytest.importorskip("nncf")
    import openvino

    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), LIP(16, 16)).eval()
    torch.nn.init.normal_(block[1].pool.head.conv.weight)  # not zero, which gives equal weights
    images = torch.rand(16, 3, 33, 33)
    source, target = tmp_path / "fp32", tmp_path / "int8"
    source.mkdir()
    with torch.no_grad():
        expected = block(images[:1]).numpy()
        openvino.save_model(openvino.convert_model(block, example_input=images[:1]), source / "lip.xml")
    with files.quietly():
        quantizing.QUANTIZERS["openvino"](source, target, 99, images, "last")
    model = openvino.Core().read_model(target / "lip.xml")
    reads = [
        i.get_source_output().get_node().get_type_name()
        for op in model.get_ops()
        for i in op.inputs()
        if op.get_type_name() in ("Exp", "AvgPool", "Divide")
    ]
    found = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images[:1].numpy())[0]
    assert len(reads) >= 5 and "FakeQuantize" not in reads
    assert np.abs(found - expected).mean() < 0.1 * expected.std()
