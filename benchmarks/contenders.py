"""The networks that benchmarks/inference.py runs, each in every runtime in which it is compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelkeep.blocks import SpaceToDepth

STOCK = ("yolov5n", "yolov5s", "yolo11n", "yolo26n", "yolo26n-p2")  # Ultralytics' own definitions
WAYS = ("slices", "unfolded", "folded")  # ways to run yolov5-spd
EXPORTED = (("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))
Run = Callable[[Tensor], Any]


class Slices(nn.Module):
    """SpaceToDepth as four strided slices and a concat."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) -> (N, 4C, H/2, W/2), H and W even."""
        return torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 1::2]], 1)


def build(name: str) -> nn.Module:
    """Return a network whose outputs vary with its images; near-constant outputs would make any two networks agree."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(name, verbose=False)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0  # one batch sets the statistics; with initial ones the signal fades by layers
        nn.init.uniform_(m.weight, 0.7, 1.3)
        nn.init.normal_(m.bias, 0, 0.2)
    with torch.no_grad():
        model.train()(torch.rand(2, 3, 128, 128))
    head = model.eval().model[-1]
    for layers in (*head.cv2, *head.cv3):
        nn.init.normal_(layers[-1].weight, 0, 0.002)  # rounding stays far below `SAME`
        nn.init.zeros_(layers[-1].bias)  # scores around 0.5: those of a new head are all close to 0
    head.end2end = False  # boxes of all places, as exported files output them
    model.task, model.names = "detect", {i: str(i) for i in range(80)}
    return model


def networks(scales: str, others: bool) -> dict[str, nn.Module]:
    """Return the networks by name, BatchNorms folded; all ways of yolov5-spd at one scale have the same weights."""
    five = [f"yolov5{scale}" for scale in scales]
    stock = [name for name in STOCK if name in five or (others and not name.startswith("yolov5"))]
    built = {name: build(f"{name}.yaml").fuse(verbose=False) for name in stock}
    for scale in scales:
        name = f"yolov5-spd-{scale}"
        for way in WAYS:
            built[f"{name}, {way}"] = build(name).fuse(verbose=False, fold=way == "folded")
        rows = built[f"{name}, slices"].model
        for number, row in enumerate(rows):
            if isinstance(row, SpaceToDepth):
                rows[number] = Slices()
                rows[number].i, rows[number].f, rows[number].type, rows[number].np = row.i, row.f, row.type, 0
    return built


def on_cpu(built: dict[str, nn.Module], imgsz: int, batch: int, exports: bool) -> dict[str, Run]:
    """Return the runs on a CPU for one batch size; PyTorch uses channels_last, as val and detect do."""
    runs: dict[str, Run] = {f"{name}, pytorch fp32": net for name, net in built.items()}
    for net in built.values():
        net.to(memory_format=torch.channels_last)
    if exports:
        for name, net in built.items():
            if name in ("yolov5n", "yolov5s") or name.endswith((", slices", ", folded")):
                for form, precision in EXPORTED:
                    if name.endswith(", slices") and precision != "fp32":
                        continue
                    runs[f"{name}, {form} {precision}"] = exported(net, form, precision, imgsz, batch)
    return runs


def exported(net: nn.Module, form: str, precision: str, imgsz: int, batch: int) -> Run:
    """Return a network in another runtime, exported as by ``pixelkeep export`` and opened as by ``detect``."""
    from pixelkeep.ultra.export import files, parity
    from pixelkeep.ultra.export.quantizing import QUANTIZERS
    from pixelkeep.ultra.network.folding import fold
    from pixelkeep.ultra.weights.formats import FORMATS

    folder = Path(tempfile.mkdtemp())  # not removed: OpenVINO reads its weights as it runs
    path = folder / f"net{FORMATS[form].suffix}"
    source = deepcopy(net).to(memory_format=torch.contiguous_format)
    if was := getattr(net, "folding", None):  # fold anew: exports keep the two convolutions that C3 begins with apart
        assert was["places"]
        scale = net.yaml["scale"]
        source = fold(build(f"yolov5-spd-{scale}"), join=False)
    settings = dict(format=form, imgsz=[imgsz, imgsz], batch=batch, device="cpu", quantize=32)
    files.write(source, path, settings, {"precision": precision})
    if precision == "int8":
        made = path.with_name(f"int8{path.name}")
        images = torch.rand(2 * batch, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
        with files.quietly():
            QUANTIZERS[form](path, made, len(net.model) - 1, images, "last")
        path = made
    return parity.opened(path, torch.device("cpu"))


def on_cuda(built: dict[str, nn.Module], image: Tensor) -> dict[str, Run]:
    """Return the runs on a GPU for images of this shape: fp32 and fp16, each eagerly and as one CUDA graph."""
    runs: dict[str, Run] = {}
    for name, net in built.items():
        for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
            ready = deepcopy(net).to(image.device, dtype, memory_format=torch.contiguous_format)
            shown = image.to(dtype)
            runs[f"{name}, eager {precision}"] = lambda _, ready=ready, shown=shown: ready(shown)
            runs[f"{name}, graph {precision}"] = captured(ready, shown)
    return runs


def captured(net: nn.Module, image: Tensor) -> Run:
    """Return a run that replays a CUDA graph of a network on images of this shape."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(beside):
        for _ in range(3):  # the first runs choose algorithms and allocate memory, which must not be captured
            net(image)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        net(image)
    return lambda _: graph.replay()
