"""Compare the time of SpaceToDepth with that of four strided slices and torch.cat, forward and backward.

The shapes are the inputs of the seven SpaceToDepth places of yolov5-spd-n and -s, at 640 and 320 pixels. Each ratio is
the median over pairs of runs, ours and then the slices, so that a varying load on the machine affects both alike. Below
1.00 ours is faster. The gradient reaches the input at every place, the stem included. Takes about 90 seconds on two
cores.

    python benchmarks/rearrangement.py
    python benchmarks/rearrangement.py --threads 4 --batch 1 16 --seconds 1
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too
from pixelkeep.blocks import space_to_depth

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SCALES = {"n": 1, "s": 2}  # width, in units of yolov5-n
STRIDED = [(32, 2), (64, 4), (128, 8), (256, 16), (64, 8), (128, 16)]  # channels at n, stride: backbone, then neck


def slices(x: Tensor) -> Tensor:
    """Rearrange in the straightforward way: (N, C, H, W) -> (N, 4C, H/2, W/2) for even H and W."""
    return torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 1::2]], 1)


def shapes(scales: list[str], sizes: list[int]) -> list[tuple[int, int]]:
    """Return the distinct (channels, height) of the maps that the networks rearrange, largest first."""
    found = {(3, size) for size in sizes}
    for width in (SCALES[scale] for scale in scales):
        found |= {(channels * width, size // stride) for channels, stride in STRIDED for size in sizes}
    return sorted(found, key=lambda shape: (-shape[1], shape[0]))


def seconds(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    x.grad = None
    start = time.perf_counter()
    function(x).backward(grad)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(x: Tensor, budget: float) -> tuple[float, float]:
    """Return the median of ours/slices over interleaved pairs, and the median time of ours in milliseconds."""
    x.requires_grad_()
    ours = space_to_depth(x)
    if not torch.equal(ours, slices(x)):
        raise RuntimeError(f"space_to_depth differs from the slices at {tuple(x.shape)}")
    grad = torch.ones_like(ours)
    for function in (space_to_depth, slices):
        seconds(function, x, grad)  # warm-up
    pairs: list[tuple[float, float]] = []
    stop = time.perf_counter() + budget
    while len(pairs) < 5 or (time.perf_counter() < stop and len(pairs) < 200):
        pairs.append((seconds(space_to_depth, x, grad), seconds(slices, x, grad)))
    return statistics.median(a / b for a, b in pairs), 1000 * statistics.median(a for a, _ in pairs)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", nargs="+", default=["n", "s"], choices=SCALES, help="scales of yolov5-spd")
    parser.add_argument("--size", nargs="+", type=int, default=[640, 320], help="image sizes in pixels")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="images per batch")
    parser.add_argument("--seconds", type=float, default=0.4, help="time per row and layout")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda:0")
    return parser.parse_args()


def main() -> None:
    """Print one row per shape, then the worst and the median ratio."""
    args = arguments()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}, float32")
    print("forward + backward; ratio = ours / four slices and torch.cat; ms = ours\n")
    print(f"{'batch x channels x height x width':<34}" + "".join(f"{name:>14}{'ms':>9}" for name in LAYOUTS))
    ratios: list[float] = []
    for batch in args.batch:
        for channels, side in shapes(args.scale, args.size):
            row = f"{f'{batch} x {channels} x {side} x {side}':<34}"
            for layout in LAYOUTS.values():
                x = torch.randn(batch, channels, side, side, device=args.device).to(memory_format=layout)
                ratio, milliseconds = measure(x, args.seconds)
                ratios.append(ratio)
                row += f"{ratio:>14.2f}{milliseconds:>9.2f}"
            print(row, flush=True)
    print(f"\nworst ratio {max(ratios):.2f}, median {statistics.median(ratios):.2f}, over {len(ratios)} cases")


if __name__ == "__main__":
    main()
