"""Compare the time of LIP's pooling and normalisation with that of other exact ways to compute them.

Pooling: two average poolings (what the modules do), one average pooling of both maps concatenated, and `lip`, which
needs no bound on its logits. Normalisation: InstanceNorm as group normalisation, and torch.nn.InstanceNorm2d. The
shapes are those of maps that yolov5-lip-n and resnet50-lip-cls pool. Each ratio is the other way's time divided by
ours, the median over interleaved pairs of runs, so that a varying load on the machine affects both alike. Above 1.00
ours is faster. Takes about half a minute.

    python benchmarks/pooling.py
    python benchmarks/pooling.py --threads 4 --seconds 2
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too
from pixelkeep.blocks import InstanceNorm, lip
from pixelkeep.blocks.lip import bounded_lip

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SHAPES = [(1, 32, 160, 160), (8, 64, 80, 80), (1, 256, 56, 56)]


def together(x: Tensor, logit: Tensor) -> Tensor:
    """Compute LIP by one pooling of the weighted values and the weights, concatenated along the channels."""
    weight = logit.exp()
    total, norm = F.avg_pool2d(torch.cat((x * weight, weight), 1), 3, 2, 1).chunk(2, 1)
    return total / norm


def seconds(function: Callable[..., Tensor], inputs: list[Tensor], train: bool) -> float:
    """Return the seconds of one forward pass, and of the backward pass too if ``train``."""
    for x in inputs:
        x.grad = None
    start = time.perf_counter()
    with torch.set_grad_enabled(train):
        y = function(*inputs)
    if train:
        y.backward(torch.ones_like(y))
    return time.perf_counter() - start


def ratio(other: Callable, ours: Callable, inputs: list[Tensor], train: bool, budget: float) -> float:
    """Return the median of other/ours over interleaved pairs, after checking that both give the same output."""
    with torch.no_grad():
        torch.testing.assert_close(other(*inputs), ours(*inputs), rtol=1e-3, atol=1e-3)
    pairs = []
    stop = time.perf_counter() + budget
    while len(pairs) < 5 or (time.perf_counter() < stop and len(pairs) < 200):
        pairs.append((seconds(other, inputs, train), seconds(ours, inputs, train)))
    return statistics.median(a / b for a, b in pairs)


def main() -> None:
    """Print one row per shape, layout and direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time per figure")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, CPU, float32; ratio = the other way / ours\n")
    print(f"{'shape':<20}{'layout':<15}{'run':<10}{'together':>10}{'lip':>10}{'InstanceNorm2d':>16}")
    for shape in SHAPES:
        ours, native = InstanceNorm(shape[1]), nn.InstanceNorm2d(shape[1], affine=True)
        for name, layout in LAYOUTS.items():
            maps = [m.to(memory_format=layout).requires_grad_() for m in (torch.randn(shape), 12 * torch.rand(shape))]
            for train in (False, True):
                figures = [
                    ratio(together, lambda x, logit: bounded_lip(x, logit, 3), maps, train, args.seconds),
                    ratio(lip, lambda x, logit: bounded_lip(x, logit, 3), maps, train, args.seconds),
                    ratio(native, ours, maps[:1], train, args.seconds),
                ]
                row = f"{'x'.join(map(str, shape)):<20}{name:<15}{'training' if train else 'inference':<10}"
                print(row + f"{figures[0]:>10.2f}{figures[1]:>10.2f}{figures[2]:>16.2f}", flush=True)


if __name__ == "__main__":
    main()
