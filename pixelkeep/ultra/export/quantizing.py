"""int8: a file in fp32 made into one whose convolutions compute in eight bits, calibrated on training images.

Weights get a scale for each output channel, activations one for each tensor, from the range that the calibration
images show. What turns the head's last maps into boxes stays in float: one scale would have to span pixels and scores.
Its last convolutions, where eight bits must hold the distribution of a box's side, do as well; whether all of the head
does is measured, on the calibration images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pixelkeep.errors import ExportError, storage_error
from pixelkeep.ultra.export.files import quietly, reason
from pixelkeep.ultra.running.signal_stack import signal_stack_kept

STEPS = ("decode", "last", "head")  # what may stay in float, ever more of it
LADDER = STEPS[1:]  # what is tried: the last convolutions weigh next to nothing (docs/deploy.md)
_BRANCH = re.compile(r"^[./](one2one_cv\d|cv\d|classifier|conv|linear)\b")  # of a head, what is not decoding
_LAST = re.compile(r"cv\d+\.\d+\.2\b|\bclassifier\.1\b|\blinear\b")
# Share of detections matched, or labels alike, on the calibration images: no more stays in float. More asks for the
# whole head in float: files half as large again, for AP that is higher or lower by a few thousandths (docs/deploy.md).
ENOUGH = 0.95


def quantize(form: str, path: Path, network: nn.Module, images: Tensor, judge: Callable[[Path], float]) -> dict:
    """Make a file, or folder, of fp32 one of int8.

    Args:
        form: onnx or openvino.
        path: What is there in fp32, replaced.
        network: That it is from.
        images: To calibrate on, (n, C, H, W) from 0 to 1, as many a step as the file takes at once.
        judge: Says of a file how far it agrees with the network, from 0 to 1.

    Returns:
        What was done: {"images": ..., "float": one of `LADDER`, "agreed": by step, what was tried}.

    Raises:
        ExportError: It fails, or no step agrees at all.
    """
    head = len(network.model) - 1
    tried: dict[str, float] = {}
    for step in LADDER:
        made = path.with_name(f"{step}{path.name}")
        with quietly(), _told(form, path):
            QUANTIZERS[form](path, made, head, images, step)
        tried[step] = round(judge(made), 4)
        if tried[step] >= ENOUGH:
            break
    best = max(tried, key=tried.get)
    if not tried[best]:
        raise ExportError(f"{form}: nothing that the network finds is found in int8")
    path.rename(path.with_name(f"fp32{path.name}"))
    path.with_name(f"{best}{path.name}").rename(path)
    return {"images": len(images), "float": best, "agreed": tried}


@contextmanager
def _told(form: str, path: Path) -> Iterator[None]:
    """Tell in one line what a quantizer fails of.

    Raises:
        ExportError: Inside, where it fails.
    """
    try:
        yield
    except Exception as error:  # each has errors of its own
        if told := storage_error(error, path.parent):
            raise told from error
        raise ExportError(f"{form}: this network cannot be quantized ({reason(error)})") from error


def stays_float(name: str, head: int, step: str) -> bool:
    """Whether an operation of the head stays in float.

    Args:
        name: Of a node, as PyTorch's tracer derives it from the module's, e.g. ``/model.24/cv2.0/cv2.0.2/Conv``.
        head: The number of the head's row.
        step: One of `STEPS`.
    """
    inside = re.search(rf"\bmodel\.{head}\b(.*)", name)
    if inside is None:
        return False
    rest = inside.group(1)
    if step == "head" or not _BRANCH.match(rest):
        return True
    return step == "last" and _LAST.search(rest) is not None


def _onnx(source: Path, target: Path, head: int, images: Tensor, step: str) -> None:
    """Write ``target`` with pairs of QuantizeLinear and DequantizeLinear around convolutions and matrix products."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    graph = onnx.load(source).graph
    name, size = graph.input[0].name, graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    batches = _batches(images, size)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict | None:
            batch = next(batches, None)
            return None if batch is None else {name: batch.numpy()}

    left_out = [
        node.name
        for node in graph.node
        if node.op_type not in ("Conv", "Gemm", "MatMul") or stays_float(node.name, head, step)
    ]
    quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=left_out,
    )


def _openvino(source: Path, target: Path, head: int, images: Tensor, step: str) -> None:
    """Write ``target`` with FakeQuantize nodes, which the runtime turns into operations in eight bits."""
    import nncf
    import openvino

    file = next(source.glob("*.xml"))
    model = openvino.Core().read_model(file)
    shape = model.input().get_partial_shape()
    size = 1 if shape[0].is_dynamic else shape[0].get_length()
    operations = model.get_ordered_ops()
    left_out = {op.get_friendly_name() for op in operations if stays_float(op.get_friendly_name(), head, step)}
    left_out |= {each.get_friendly_name() for op in operations for each in _weighted(op)}
    batches = [batch.numpy() for batch in _batches(images, size)]
    with signal_stack_kept():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,  # activations that are not symmetric get a zero point
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=sorted(left_out), validate=False),
        )
    target.mkdir()
    openvino.save_model(quantized, target / file.name, compress_to_fp16=False)
    for other in source.iterdir():
        if other.suffix not in (".xml", ".bin"):
            (target / other.name).write_bytes(other.read_bytes())


def _weighted(operation: Any) -> Iterator[Any]:
    """Give an exponential and all that is computed with it up to the division by its sum; nothing of anything else.

    LIP's weights go from 1 to exp(12): eight bits between them leave next to none but the largest.
    """
    if operation.get_type_name() != "Exp":
        return
    left, seen = [operation], set()
    while left:
        each = left.pop()
        if each.get_type_name() in ("Convolution", "MatMul") or each.get_friendly_name() in seen:
            continue
        seen.add(each.get_friendly_name())
        yield each
        if each.get_type_name() != "Divide":
            left += [inside.get_node() for output in each.outputs() for inside in output.get_target_inputs()]


def _batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """Give whole batches, and one at least."""
    if len(images) < size:
        images = images.repeat(-(-size // len(images)), 1, 1, 1)
    return (images[start : start + size] for start in range(0, len(images) - size + 1, size))


QUANTIZERS: dict[str, Callable[[Path, Path, int, Tensor, str], Any]] = {"onnx": _onnx, "openvino": _openvino}
