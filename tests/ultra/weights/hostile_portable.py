"""Damaged and hostile portable checkpoints that anybody can write, with a matching digest where one is possible."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import hostile
import torch
from safetensors import safe_open
from safetensors.torch import save as pack

from pixelkeep.ultra.weights.checkpoints import save
from pixelkeep.ultra.weights.description import digest

GIGABYTE = 2**30


def good(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Write a good file, and return its metadata and tensors."""
    save(hostile.checkpoint(), path)
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}


def changed(change: Callable[[dict, dict], object]) -> Callable[[Path, Path], None]:
    """Return a writer of a whole file, with a matching digest, whose metadata (as values) and tensors are changed."""

    def write(path: Path, canary: Path) -> None:
        texts, tensors = good(path)
        values = {
            key: text if key in ("format", "pixelkeep_format", "digest") else json.loads(text)
            for key, text in texts.items()
        }
        values["canary"] = str(canary)
        change(values, tensors)
        del values["canary"]
        said = {
            key: value if isinstance(value, str) and key not in _TEXTS else json.dumps(value)
            for key, value in values.items()
        }
        path.write_bytes(pack(tensors, {**said, "digest": digest(said, tensors)}))

    return write


_TEXTS = ("task",)


def raw(content: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    """Return a writer of a good file whose bytes are changed."""

    def write(path: Path, _: Path) -> None:
        good(path)
        path.write_bytes(content(path.read_bytes()))

    return write


def header(change: Callable[[dict], object]) -> Callable[[Path, Path], None]:
    """Return a writer of a good file whose header is changed."""

    def rewrite(content: bytes) -> bytes:
        length = struct.unpack("<Q", content[:8])[0]
        said = json.loads(content[8 : 8 + length])
        change(said)
        text = json.dumps(said).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return raw(rewrite)


def _row(values: dict, index: int, row: list) -> None:
    values["model"]["backbone"][index] = row


def _rename(tensors: dict, before: str, after: str) -> None:
    tensors[after] = tensors.pop(before)


def _sparse(path: Path, _: Path) -> None:
    """Write a file of eight gigabytes that takes no room on the disk, with a header that fits it."""
    size = 8 * GIGABYTE
    text = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)


W = "model.0.conv.weight"
DAMAGED = {
    "empty": (raw(lambda c: b""), "the file is empty"),
    "eight bytes": (raw(lambda c: c[:8]), "not a safetensors file at all"),
    "text": (raw(lambda c: b"epoch,loss\n1,2\n" * 9), "not a safetensors file at all"),
    "checkpoint of PyTorch": (lambda p, _: hostile.save(p, hostile.checkpoint()), "not a safetensors file at all"),
    "header longer than the file": (raw(lambda c: struct.pack("<Q", 2**62) + c[8:]), "not a safetensors file at all"),
    "header of 17 MB": (raw(lambda c: struct.pack("<Q", 17 * 2**20) + b"{" + bytes(17 * 2**20)), "as no network has"),
    "eight gigabytes": (_sparse, "as no network has; refused without reading it"),
    "header cut": (raw(lambda c: struct.pack("<Q", 100) + c[8:]), "damaged or truncated"),
    "header no JSON": (raw(lambda c: c[:9] + b"[" + c[10:]), "damaged or truncated"),
    "tensor beyond the end": (header(lambda h: h[W].update(data_offsets=[0, 10**12])), "damaged or truncated"),
    "tensors that overlap": (header(lambda h: h[W].update(data_offsets=[0, 432])), "damaged or truncated"),
    "shape without end": (header(lambda h: h[W].update(shape=[2**40, 2**40, 3])), "damaged or truncated"),
    "type of another kind": (header(lambda h: h[W].update(dtype="PICKLE")), "damaged or truncated"),
    "no metadata": (header(lambda h: h.pop("__metadata__")), "does not say which network its tensors belong to"),
    "metadata no texts": (header(lambda h: h["__metadata__"].update(task=5)), "damaged or truncated"),
    "a text removed": (header(lambda h: h["__metadata__"].pop("names")), "metadata cannot be read"),
    "a text changed": (header(lambda h: h["__metadata__"].update(metrics='{"AP": 1}')), "not what was written into it"),
    "a bit changed": (raw(lambda c: c[:-9] + bytes([c[-9] ^ 1]) + c[-8:]), "not what was written into it"),
    "brackets without end": (
        header(lambda h: h["__metadata__"].update(names="[" * 100_000)),
        "metadata cannot be read",
    ),
    "more behind it": (raw(lambda c: c + b"more"), "damaged or truncated"),
}
CHANGED = {
    "format of the future": (lambda v, t: v.update(pixelkeep_format="2"), "of format 2, but this pixelkeep knows 1"),
    "format of no number": (lambda v, t: v.update(pixelkeep_format="1e9"), "it is of format '1e9'"),
    "NaN as a number": (lambda v, t: v["metrics"].update(AP=float("nan")), "NaN is not a number"),
    "task of another kind": (lambda v, t: v.update(task=["detect"]), "its 'task' is of the wrong kind"),
    "task that is not kept": (lambda v, t: v.update(task="pose"), "it is for task 'pose'"),
    "task of another head": (lambda v, t: v.update(task="classify"), "is for task 'detect'"),
    "names of another kind": (lambda v, t: v.update(names=["car", "person"]), "metadata cannot be read"),
    "names that are numbers": (lambda v, t: v.update(names={"0": 1, "1": 2}), "a name in it is not text"),
    "classes without end": (lambda v, t: v["model"].update(nc=10**12), "its model has 1000000000000 classes"),
    "channels without end": (lambda v, t: (v.update(channels=10**9), v["model"].update(channels=10**9)), "images of"),
    "channels of the model alone": (lambda v, t: v["model"].update(channels=900), "images of 3 channels"),
    "image size without end": (lambda v, t: v["training"].update(imgsz=10**9), "training arguments are damaged"),
    "strides of another network": (lambda v, t: v.update(stride=[4.0]), "it says that its strides are [4.0]"),
    "tile of another kind": (
        lambda v, t: v["model"].update(tile="abc"),
        "its model has 'abc' as 'tile', which is not a number",
    ),
    "tile of nothing": (lambda v, t: v["model"].update(tile=0), "its model has '0' as 'tile', which is not a number"),
    "file of another kind": (
        lambda v, t: v["model"].update(yaml_file=7),
        "its model has '7' as 'yaml_file', which is not te",
    ),
    "stretch of another kind": (lambda v, t: v["model"].update(stretch=[9, 1]), "'stretch' of its images is not two p"),
    "no rows": (lambda v, t: v["model"].update(backbone="Conv"), "it needs 'backbone' and 'head' with lists of rows"),
    "row of another kind": (lambda v, t: _row(v, 0, [-1, 1, ["Conv"], [8]]), "is not [from, repeats, module"),
    "module os.system": (lambda v, t: _row(v, 0, [-1, 1, "os.system", [v["canary"]]]), "unknown block 'os.system'"),
    "module of a function": (lambda v, t: _row(v, 0, [-1, 1, "load_checkpoint", [v["canary"]]]), "unknown block"),
    "unknown block": (lambda v, t: _row(v, 1, [-1, 1, "Unknown", [8]]), "unknown block 'Unknown'"),
    "activation of code": (
        lambda v, t: v["model"].update(activation=hostile.code(Path(v["canary"]))),
        "must be an activation of torch.nn",
    ),
    "argument of code": (
        lambda v, t: _row(v, 0, [-1, 1, "Conv", [hostile.code(Path(v["canary"])), 3, 2]]),
        "row 0 [-1, 1, 'Conv'",
    ),
    "block that downloads": (
        lambda v, t: _row(v, 0, [-1, 1, "TorchVision", [8, "resnet18", "DEFAULT", True, 2]]),
        "downloads weights",
    ),
    "block that reads a file": (
        lambda v, t: _row(v, 0, [-1, 1, "DetectionModel", [8, v["canary"]]]),
        "row 0 [-1, 1, 'DetectionModel'",
    ),
    "repeats without end": (lambda v, t: _row(v, 1, [-1, 10**9, "SPDConv", [8]]), "has more than 12000 parts"),
    "loop without end": (lambda v, t: _row(v, 1, [-1, 1, "SPPF", [8, 5, 10**9]]), "its tensors are not those"),
    "kernel without end": (lambda v, t: _row(v, 0, [-1, 1, "Conv", [8, 10**6, 2]]), "has shape [8, 3, 3, 3]"),
    "upsampling without end": (
        lambda v, t: v["model"]["backbone"].insert(0, [-1, 1, "nn.Upsample", [None, 10**4]]) or _shift(v, t),
        "makes feature maps of more than",
    ),
    "blocks of another kind": (lambda v, t: v.update(blocks={"SPDConv": "1"}), "of its blocks are not numbers"),
    "block without version": (lambda v, t: v.update(blocks={}), "does not say which version of SPDConv"),
    "block of the future": (lambda v, t: v.update(blocks={"SPDConv": 2}), "it holds version 2 of block 'SPDConv'"),
    "tensor missing": (lambda v, t: t.pop(W), f"there is no {W}"),
    "tensor too many": (lambda v, t: t.update({"model.9.weight": t[W].clone()}), "it has no place for model.9.weight"),
    "tensor renamed": (lambda v, t: _rename(t, W, "model.0.conv.wight"), f"there is no {W}"),
    "shape of another": (lambda v, t: t.update({W: t[W][:4].clone()}), f"tensor {W} has shape [4, 3, 3, 3]"),
    "integers as weights": (lambda v, t: t.update({W: t[W].to(torch.int8)}), f"tensor {W} is of type torch.int8"),
    "numbers as a count": (
        lambda v, t: t.update({"model.0.bn.num_batches_tracked": torch.tensor(0.5)}),
        "is of type torch.float32",
    ),
    "eight-bit floats": (lambda v, t: t.update({W: t[W].to(torch.float8_e4m3fn)}), "which no network here has"),
    "NaN": (lambda v, t: t[W].fill_(float("nan")), f"NaN in tensor {W}:"),
    "shared with nothing": (lambda v, t: (t.pop(W), v.update(shared={W: "model.99.weight"})), "shares tensors that"),
    "shared twice": (lambda v, t: v.update(shared={W: W}), "shares tensors that it does not have, or has them twice"),
    "buffer that is a parameter": (lambda v, t: v.update(buffers=[W]), f"it has no place for {W}"),
    "layout that is none": (lambda v, t: v.update(layouts={W: [0, 1, 2, 2]}), f"the layout of tensor {W} is not an"),
    "buffer that is none": (lambda v, t: v.update(buffers=["model.0.gone"]), "it lacks buffers that it lists"),
    "confidences of another kind": (lambda v, t: v.update(operating_point=[1]), "'operating_point' is of the wrong"),
}
CASES = DAMAGED | {name: (changed(change), told) for name, (change, told) in CHANGED.items()}


def _shift(values: dict, tensors: dict) -> None:
    """Rename all tensors to the next row."""
    values["model"]["head"][0][0] = [3]
    for name in sorted(tensors, reverse=True):
        _, row, rest = name.split(".", 2)
        _rename(tensors, name, f"model.{int(row) + 1}.{rest}")
