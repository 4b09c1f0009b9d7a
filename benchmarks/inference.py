"""How fast networks run: stock yolov5, yolov5-spd as one would write it down, and ours unfolded and folded.

Four networks of one size run in turn, round after round, on the same threads and inputs: stock yolov5; yolov5-spd with
four strided slices and a concat for SpaceToDepth; yolov5-spd as it is here, BatchNorms folded; the same with
SpaceToDepth folded too, as val and detect run it. Every figure is the median over the rounds of a ratio within one
round, so a load that comes and goes hits both sides alike; above 1.00 the first named is faster. Outputs are compared
first: a faster network that computes something else is none.

    python benchmarks/inference.py
    python benchmarks/inference.py --scale s --batch 1 --rounds 30 --threads 4
    python benchmarks/inference.py --slicesamp        # whether folding SliceSamp would pay
    python benchmarks/inference.py --device cuda --half
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "1")
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too
import pixelkeep  # noqa: F401  registers the blocks
from pixelkeep.blocks import SpaceToDepth, space_to_depth

PAIRS = (("folded", "slices"), ("folded", "unfolded"), ("unfolded", "slices"), ("folded", "stock"))


class Slices(nn.Module):
    """SpaceToDepth as four strided slices and a concat."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) -> (N, 4C, H/2, W/2), H and W even."""
        return torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 1::2]], 1)


def networks(scale: str, device: torch.device, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Return the four networks, the last three with the same weights, BatchNorms folded in all."""
    from ultralytics.nn.tasks import DetectionModel

    def build(name: str) -> nn.Module:
        torch.manual_seed(0)
        model = DetectionModel(name, verbose=False).eval()
        for m in model.modules():  # else every output is near-constant, and anything agrees
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.2)
                m.running_var.uniform_(0.3, 1.2)
        for layers in (*model.model[-1].cv2, *model.model[-1].cv3):
            nn.init.normal_(layers[-1].weight, 0, 0.05)
        return model

    built = {
        "stock": build(f"yolov5{scale}.yaml").fuse(verbose=False),
        "slices": build(f"yolov5-spd-{scale}").fuse(verbose=False, fold=False),
        "unfolded": build(f"yolov5-spd-{scale}").fuse(verbose=False, fold=False),
        "folded": build(f"yolov5-spd-{scale}").fuse(verbose=False),
    }
    rows = built["slices"].model
    for number, row in enumerate(rows):
        if isinstance(row, SpaceToDepth):
            rows[number] = Slices()
            rows[number].i, rows[number].f = row.i, row.f
    return {name: model.to(device, dtype) for name, model in built.items()}


def seconds(run: Callable[[Tensor], object], x: Tensor) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    run(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rounds(runs: dict[str, Callable[[Tensor], object]], x: Tensor, count: int) -> dict[str, list[float]]:
    """Return the seconds of each in every round, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for number in range(count + 2):
            for name, run in runs.items():
                spent = seconds(run, x)
                if number > 1:
                    times[name].append(spent)
    return times


def compare(options: argparse.Namespace, device: torch.device) -> None:
    """Print the ratios of the four networks."""
    dtype = torch.float16 if options.half else torch.float32
    models = networks(options.scale, device, dtype)
    x = torch.rand(1, 3, options.imgsz, options.imgsz, device=device, dtype=dtype)
    with torch.inference_mode():
        outputs = {name: model(x)[0] for name, model in models.items() if name != "stock"}
    worst = max(float((output - outputs["slices"]).abs().max()) for output in outputs.values())
    print(f"largest difference of any output to the slices: {worst:.1e}")
    for batch in options.batch:
        x = torch.rand(batch, 3, options.imgsz, options.imgsz, device=device, dtype=dtype)
        times = rounds(models, x, options.rounds)
        shown = ", ".join(f"{name} {1000 * statistics.median(spent):.1f}" for name, spent in times.items())
        print(f"yolov5-spd-{options.scale} at {options.imgsz}, batch {batch}: ms {shown}")
        for first, second in PAIRS:
            ratio = statistics.median(b / a for a, b in zip(times[first], times[second], strict=True))
            print(f"  {first:9} is {ratio:.2f} times as fast as {second}", flush=True)


def slicesamp(options: argparse.Namespace, device: torch.device) -> None:
    """Print what a strided depthwise convolution in place of SliceSamp's first two steps would bring."""
    for channels, side in ((3, 640), (16, 320), (32, 160), (64, 80), (128, 40)):
        x = torch.rand(1, channels, side, side, device=device)
        cells = torch.rand(4 * channels, 1, 3, 3, device=device)
        pixels = torch.rand(4 * channels, 1, 6, 6, device=device)
        runs = {
            "as it is": lambda x, w=cells, c=channels: F.conv2d(space_to_depth(x), w, padding=1, groups=4 * c),
            "strided": lambda x, w=pixels, c=channels: F.conv2d(x, w, stride=2, padding=2, groups=c),
        }
        times = rounds(runs, x, options.rounds)
        ratio = statistics.median(a / b for a, b in zip(times["as it is"], times["strided"], strict=True))
        print(f"{channels} channels, {side} x {side}: strided is {ratio:.2f} times as fast", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="n", choices=list("nsmlx"))
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="fp16, on a GPU")
    parser.add_argument("--slicesamp", action="store_true", help="measure whether folding SliceSamp would pay")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(f"PyTorch {torch.__version__}, {device}, {options.threads} threads, {options.rounds} rounds")
    (slicesamp if options.slicesamp else compare)(options, device)


if __name__ == "__main__":
    main()
