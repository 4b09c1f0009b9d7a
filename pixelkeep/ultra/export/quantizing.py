"""int8: quantize an fp32 file so that its convolutions compute in eight bits, calibrated on training images.

Weights get one scale per output channel, activations one per tensor, from the range seen in the calibration images.
The operations that decode the head's last maps into boxes stay in float: a single scale would have to span pixels and
scores. The head's last convolutions stay in float too, as eight bits would have to hold the distribution of a box's
distances. Whether the whole head stays in float is decided by measurement on the calibration images.
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

STEPS = ("decode", "last", "head")  # parts of the head that may stay in float, each including the one before
LADDER = STEPS[1:]  # steps tried; the last convolutions in float add hardly any bytes (docs/deploy.md)
_BRANCH = re.compile(r"^[./](one2one_cv\d|cv\d|classifier|conv|linear)\b")  # layers of a head, all but its decoding
_LAST = re.compile(r"cv\d+\.\d+\.2\b|\bclassifier\.1\b|\blinear\b")
# Share of detections matched, or of equal labels, on the calibration images from which on no more of the head stays in
# float. A higher share would need the whole head in float: files half as large again, for AP that is higher or lower by
# a few thousandths (docs/deploy.md).
ENOUGH = 0.95


def quantize(form: str, path: Path, network: nn.Module, images: Tensor, judge: Callable[[Path], float]) -> dict:
    """Replace an exported fp32 file, or folder, by its int8 version.

    Args:
        form: Format of the file, onnx or openvino.
        path: File or folder in fp32, which is replaced.
        network: Network that was exported.
        images: Calibration images, (n, C, H, W) from 0 to 1, fed in batches of the size that the file takes.
        judge: Function that returns how far a file agrees with the network, from 0 to 1.

    Returns:
        What was done: {"images": number of images, "float": the step of `LADDER` that was kept, "agreed": agreement by
        step tried}.

    Raises:
        ExportError: Quantizing fails, or no step agrees with the network at all.
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
        raise ExportError(f"{form}: none of the network's detections are found in int8")
    path.rename(path.with_name(f"fp32{path.name}"))
    path.with_name(f"{best}{path.name}").rename(path)
    return {"images": len(images), "float": best, "agreed": tried}


@contextmanager
def _told(form: str, path: Path) -> Iterator[None]:
    """Turn any error of a quantizer inside the context into an error of one line.

    Raises:
        ExportError: The quantizer fails.
        StorageError: The disk is full, or the file cannot be written.
    """
    try:
        yield
    except Exception as error:  # each quantizer raises errors of its own types
        if told := storage_error(error, path.parent):
            raise told from error
        raise ExportError(f"{form}: this network cannot be quantized ({reason(error)})") from error


def stays_float(name: str, head: int, step: str) -> bool:
    """Return whether an operation of the head stays in float.

    Args:
        name: Name of a node, as PyTorch's tracer derives it from the module's, e.g. ``/model.24/cv2.0/cv2.0.2/Conv``.
        head: Index of the head's row in the model definition.
        step: Part of the head that stays in float, one of `STEPS`.
    """
    inside = re.search(rf"\bmodel\.{head}\b(.*)", name)
    if inside is None:
        return False
    rest = inside.group(1)
    if step == "head" or not _BRANCH.match(rest):
        return True
    return step == "last" and _LAST.search(rest) is not None


def _onnx(source: Path, target: Path, head: int, images: Tensor, step: str) -> None:
    """Write an ONNX file with QuantizeLinear and DequantizeLinear pairs around convolutions and matrix products."""
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
    """Write an OpenVINO folder with FakeQuantize nodes, which the runtime turns into eight-bit operations."""
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
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations get a zero point
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=sorted(left_out), validate=False),
        )
    target.mkdir()
    openvino.save_model(quantized, target / file.name, compress_to_fp16=False)
    for other in source.iterdir():
        if other.suffix not in (".xml", ".bin"):
            (target / other.name).write_bytes(other.read_bytes())


def _weighted(operation: Any) -> Iterator[Any]:
    """Yield an exponential and the operations that use it, up to the division by its sum; nothing for other operations.

    LIP's weights range from 1 to exp(12); quantized to eight bits, hardly any but the largest would be left.
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
    """Return full batches of images, at least one, repeating the images if there are too few."""
    if len(images) < size:
        images = images.repeat(-(-size // len(images)), 1, 1, 1)
    return (images[start : start + size] for start in range(0, len(images) - size + 1, size))


QUANTIZERS: dict[str, Callable[[Path, Path, int, Tensor, str], Any]] = {"onnx": _onnx, "openvino": _openvino}
