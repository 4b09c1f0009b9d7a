"""Measure what a training step costs: stock yolov5, yolov5-spd with straightforward slices, and ours, on one batch.

A step is forward, loss and backward. The networks take turns in every round. A ratio is a network's time divided by
that of the slices in the same round, the median over the rounds, so a varying load affects all alike; below 1.00 is
faster. On a CPU, processor time is measured, on which a busy machine has less influence.

Memory is counted in three ways. "kept" is what the forward pass saves for the backward pass, each storage once, without
weights and images. "alive" is the most that all tensors take at any time of a step, without the loss. Both follow from
shapes alone and are the same on every machine. "process" is what a real step adds to the peak memory of a process of
its own on a CPU, or to the most that PyTorch's allocator holds on a GPU.

    python benchmarks/training_step.py [--quick]
    python benchmarks/training_step.py --memory --batch 16 --imgsz 640      # "kept" and "alive", in seconds
    python benchmarks/training_step.py --others     # other ways to compute the same
    python benchmarks/training_step.py --device cuda --batch 16

--others adds three forms of ours: the stem as one strided convolution of the image (stem), that and the first two
convolutions of C3 as one strided convolution (joined), and the input of SpaceToDepth computed again in the backward
pass from what BatchNorm keeps (again). All have the same outputs and gradients, which is checked first.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType

os.environ.setdefault("YOLO_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too
from pixelkeep.ultra.running import environment

environment.prepare()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from ultralytics.nn.modules import C3, Focus  # noqa: E402
from ultralytics.nn.tasks import DetectionModel  # noqa: E402
from ultralytics.utils import DEFAULT_CFG, LOGGER  # noqa: E402

import pixelkeep  # noqa: E402, F401  registers the blocks
from pixelkeep.blocks import SpaceToDepth, depth_to_space, space_to_depth  # noqa: E402
from pixelkeep.deploy import Kernel, to_strided  # noqa: E402
from pixelkeep.report.tables import text_table  # noqa: E402
from pixelkeep.ultra.costs.memory import Tally  # noqa: E402

CLASSES, OBJECTS = 4, 8  # OBJECTS per image
KINDS, OTHERS = ("stock", "slices", "ours"), ("stem", "joined", "again")
LOGGER.setLevel("WARNING")


def slices(_: nn.Module, x: Tensor) -> Tensor:
    """Compute SpaceToDepth as four strided slices and a concat."""
    return torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 1::2]], 1)


def strided(x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of SpaceToDepth(x), padded by half its kernel, computed as a strided convolution of x."""
    kernel = to_strided(Kernel(weight, 1, weight.shape[-1] // 2))
    return F.conv2d(x, kernel.weight, stride=kernel.stride, padding=kernel.padding)


def strided_stem(self: Focus, x: Tensor) -> Tensor:
    return self.conv.act(self.conv.bn(strided(x, self.conv.conv.weight)))


def joined_c3(self: C3, x: Tensor) -> Tensor:
    """Compute C3 of SpaceToDepth(x) without computing SpaceToDepth(x)."""
    deep, direct = strided(x, torch.cat((self.cv1.conv.weight, self.cv2.conv.weight))).chunk(2, 1)
    return self.cv3(torch.cat((self.m(self.cv1.act(self.cv1.bn(deep))), self.cv2.act(self.cv2.bn(direct))), 1))


class Again(torch.autograd.Function):
    """SpaceToDepth(SiLU(BatchNorm(x))) that keeps only x, as BatchNorm does anyway, and not the input of SiLU."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, var, momentum, eps):
        normal, *statistics_ = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, *statistics_)
        ctx.eps = eps
        return space_to_depth(F.silu(normal))

    @staticmethod
    def backward(ctx, grad):
        x, weight, bias, mean, scale = ctx.saved_tensors
        gain = weight * scale
        normal = torch.addcmul((bias - mean * gain)[:, None, None], x, gain[:, None, None])
        grad = torch.ops.aten.silu_backward(depth_to_space(grad), normal)
        three = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, scale, True, ctx.eps, [True] * 3
        )
        return *three, None, None, None, None


def network(kind: str, scale: str) -> DetectionModel:
    """Return a network in training mode; all kinds but stock have the same weights."""
    torch.manual_seed(0)
    name = f"yolov5{scale}.yaml" if kind == "stock" else f"yolov5-spd-{scale}"
    model = DetectionModel(name, nc=CLASSES, verbose=False).train()
    model.args = DEFAULT_CFG
    rows = model.model
    for before, row, after in zip([None, *rows[:-1]], rows, [*rows[1:], None], strict=True):
        if isinstance(row, Focus) and kind in OTHERS[:2]:
            row.forward = MethodType(strided_stem, row)
        if not isinstance(row, SpaceToDepth):
            continue
        if kind == "slices":
            row.forward = MethodType(slices, row)
        elif kind == "joined" and type(after) is C3:
            row.forward, after.forward = MethodType(lambda _, x: x, row), MethodType(joined_c3, after)
        elif kind == "again":
            before.forward = MethodType(lambda self, x: self.conv(x), before)
            row.forward = MethodType(_again(before.bn), row)
    return model


def _again(norm: nn.BatchNorm2d) -> Callable[[nn.Module, Tensor], Tensor]:
    def forward(_: nn.Module, x: Tensor) -> Tensor:
        facts = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
        return Again.apply(x, *facts)

    return forward


def batch_of(count: int, size: int, device: torch.device) -> dict[str, Tensor]:
    """Return a batch of ``count`` images of noise, ``size`` pixels high and wide, with random boxes."""
    generator, total = torch.Generator().manual_seed(0), count * OBJECTS
    found = {
        "img": torch.rand(count, 3, size, size, generator=generator),
        "cls": torch.randint(CLASSES, (total, 1), generator=generator).float(),
        "bboxes": torch.rand(total, 4, generator=generator) * 0.2 + 0.3,
        "batch_idx": torch.arange(count).repeat_interleave(OBJECTS).float(),
    }
    return {name: value.to(device) for name, value in found.items()}


def step(model: DetectionModel, batch: dict[str, Tensor]) -> float:
    """Take a training step and return its loss."""
    model.zero_grad()
    loss = model(batch)[0].sum()
    loss.backward()
    return float(loss.detach())


def seconds(model: DetectionModel, batch: dict[str, Tensor]) -> float:
    """Return how long a step takes in seconds; on a CPU this is processor time."""
    clock = time.perf_counter if batch["img"].is_cuda else time.process_time
    start = clock()
    step(model, batch)  # it reads the loss, so a GPU has finished
    return clock() - start


def counted(kind: str, scale: str, count: int, size: int) -> tuple[int, int]:
    """Return "kept" and "alive" in bytes, counted on the meta device, where tensors have shapes but no data."""
    model, image = network(kind, scale).to("meta"), torch.empty(count, 3, size, size, device="meta")
    own = {t.untyped_storage()._cdata for t in (image, *model.parameters(), *model.buffers())}
    found: dict[int, torch.UntypedStorage] = {}  # held, since a freed storage's address is used again

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = model.predict(image)
    kept = sum(storage.nbytes() for storage in found.values())
    found.clear()
    del outputs
    with Tally() as tally:
        view = image[:]  # counts the images in every kind: slices are views of them
        outputs = model.predict(image)
        sum(leaf.sum() for leaf in tree_leaves(outputs) if leaf.requires_grad).backward()
    return kept, tally.peak - view.nbytes


def process(kind: str, options: argparse.Namespace) -> int:
    """Return the bytes that two steps add to the peak of a process of their own, weights and images included."""
    line = [sys.executable, __file__, "--process", kind, "--scale", options.scale, "--threads", str(options.threads)]
    line += ["--batch", str(options.batch[0]), "--imgsz", str(options.imgsz[0])]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_process(options: argparse.Namespace) -> None:
    """Measure and print what `process` returns; this runs in the process of its own."""
    step(network("stock", "n"), batch_of(1, 64, torch.device("cpu")))  # libraries' setup is not the step's
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    model, batch = (
        network(options.process, options.scale),
        batch_of(options.batch[0], options.imgsz[0], torch.device("cpu")),
    )
    for _ in range(2):
        step(model, batch)
    print(_status("VmHWM") - before)


def _status(key: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text(encoding="utf-8").partition(f"{key}:")[2].split()[0])


def check(models: dict[str, DetectionModel], device: torch.device) -> None:
    """Raise RuntimeError if a network's outputs or gradients differ from those of the slices, in double precision."""
    image, found = batch_of(2, 96, device)["img"].double(), {}
    for kind, model in models.items():
        outputs = [leaf for leaf in tree_leaves(model.double().predict(image)) if leaf.requires_grad]
        total = sum(leaf.square().mean() for leaf in outputs)
        total.backward()
        found[kind] = [*(x.detach() for x in outputs), *(p.grad.clone() for p in model.parameters() if p.requires_grad)]
        model.float().zero_grad()
    for kind in set(found) - {"stock"}:
        pairs = zip(found[kind], found["slices"], strict=True)
        worst = max(float((own - other).abs().max() / other.abs().max().clamp(min=1e-6)) for own, other in pairs)
        if worst > 1e-6:
            raise RuntimeError(f"{kind} differs from the slices: an output or gradient by {worst:.1e} of its largest")


def rounds(models: dict[str, DetectionModel], batch: dict[str, Tensor], count: int) -> dict[str, list[float]]:
    """Return the seconds of each network in every round, after one round of warm-up."""
    times: dict[str, list[float]] = {kind: [] for kind in models}
    for number in range(count + 1):
        for kind, model in models.items():
            spent = seconds(model, batch)
            if number:
                times[kind].append(spent)
    return times


def row(kind: str, count: int, size: int, times: dict[str, list[float]] | None, options: argparse.Namespace) -> list:
    """Return the table cells of one network at one image size and batch size."""
    cells = [kind, size, count]
    if times is not None:
        ratios = [one / other for one, other in zip(times[kind], times["slices"], strict=True)]
        cells += [f"{statistics.median(times[kind]):.3f}", f"{statistics.median(ratios):.3f}"]
    cells += [f"{value / 2**20:.1f}" for value in counted(kind, options.scale, count, size)]
    if times is not None:
        own = argparse.Namespace(**vars(options) | {"batch": [count], "imgsz": [size]})
        cells.append(f"{(process if options.device == 'cpu' else allocated)(kind, own) / 2**20:.0f}")
    return cells


def allocated(kind: str, options: argparse.Namespace) -> int:
    """Return the bytes that two steps add to the peak of PyTorch's allocator on a GPU."""
    device = torch.device(options.device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    model, batch = network(kind, options.scale).to(device), batch_of(options.batch[0], options.imgsz[0], device)
    for _ in range(2):
        step(model, batch)
    return torch.cuda.max_memory_allocated(device) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="n", choices=list("nsmlx"))
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="images (default: 4)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--others", action="store_true", help="measure other ways to compute the same as well")
    parser.add_argument("--memory", action="store_true", help="count memory alone, which takes seconds")
    parser.add_argument("--quick", action="store_true", help="320 pixels, 3 rounds: to see that it runs")
    parser.add_argument("--process", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.process:
        measure_process(options)
        return
    if options.quick:
        options.imgsz, options.rounds = [320], 3
    device = torch.device(options.device)
    print(f"PyTorch {torch.__version__}, {device}, {options.threads} threads, {options.rounds} rounds; MiB")
    kinds = KINDS + (OTHERS if options.others else ())
    models = {kind: network(kind, options.scale).to(device) for kind in kinds}
    check(models, device)
    header = ["kept", "alive"] if options.memory else ["s", "ratio", "kept", "alive", "process"]
    rows = []
    for size in options.imgsz:
        for count in options.batch:
            times = None if options.memory else rounds(models, batch_of(count, size, device), options.rounds)
            rows += [row(kind, count, size, times, options) for kind in kinds]
    print(text_table(["", "pixels", "batch", *header], rows))


if __name__ == "__main__":
    main()
