"""Measure what a content-adaptive stage costs by its share of active regions, in time and multiply-adds.

Each competitor is a stage of the same residual blocks on the same feature map. The masks are filled ellipses of random
place, size and proportion, drawn until the share of active regions is reached; each round uses another mask. All stages
get the map in contiguous memory, as Ultralytics runs its networks. The dense stages run a second time in channels_last,
which is often faster. With --channels-last every stage runs that way, "dense fine" included. In every round each
competitor runs once, in turn. A ratio is the median over the rounds of a competitor's time divided by that of "dense
fine" in the same round; the quartiles are printed beside it.

    python benchmarks/adaptive.py
    python benchmarks/adaptive.py --channels-last
    python benchmarks/adaptive.py --stage basic --rounds 30 --threads 2 --plot docs/images/adaptive.png
    python benchmarks/adaptive.py --device cuda --half
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too
from pixelkeep.blocks import ContentAdaptiveStage, PlainStage
from pixelkeep.blocks.folding import Foldable
from pixelkeep.report.tables import text_table

FRACTIONS = (0.0, 0.05, 0.10, 0.25, 0.50, 1.0)
# (in channels, out channels, blocks, kind of block, side of the map)
STAGES = {"basic": (64, 64, 2, "basic", 160), "layer3": (512, 1024, 6, "bottleneck", 80)}
SIDE = 8
MASKS = 8  # different masks of each share
Run = Callable[[], Tensor]
Row = tuple[str, float, list[float], float]  # name, milliseconds, quartiles of the time ratio, multiply-adds ratio


def objects(cells: int, fraction: float, seed: int) -> Tensor:
    """Return a mask (1, 1, cells, cells) of filled ellipses whose active cells are exactly the share, rounded."""
    generator = torch.Generator().manual_seed(seed)
    wanted = round(fraction * cells**2)
    axis = torch.arange(cells) + 0.5
    mask = torch.zeros(cells, cells, dtype=torch.bool)
    while mask.sum() < wanted:
        row, column = (torch.rand(2, generator=generator) * cells).tolist()
        tall, wide = (0.5 + torch.rand(2, generator=generator) * cells / 6).tolist()
        distance = ((axis[:, None] - row) / tall) ** 2 + ((axis[None] - column) / wide) ** 2
        new = (distance <= 1) & ~mask
        missing = wanted - int(mask.sum())
        if new.sum() > missing:  # keep the cells nearest to the last ellipse's centre
            nearest = distance.masked_fill(~new, torch.inf).flatten().argsort()[:missing]
            new = torch.zeros_like(mask).flatten().index_fill(0, nearest, True).view_as(mask)
        mask |= new
    return mask.float()[None, None]


def folded(network: nn.Module) -> nn.Module:
    """Fold the BatchNorms of a network, as for inference, and return the network."""
    for layer in list(network.eval().modules()):
        if isinstance(layer, Foldable):
            layer.fuse()
    return network


def competitors(name: str, device: str, dtype: torch.dtype, memory: torch.memory_format) -> dict[str, Run]:
    """Return the competitors' runs by name; "dense fine" is the stage that all are compared with."""
    inputs, outputs, blocks, kind, side = STAGES[name]
    torch.manual_seed(0)
    stage = ContentAdaptiveStage(inputs, outputs, blocks, None, kind, side=SIDE)
    x = torch.randn(1, inputs, side, side, device=device, dtype=dtype).to(memory_format=memory)
    runs: dict[str, Run] = {}
    for label, fine in (("dense fine", True), ("dense strided", False)):
        plain = PlainStage(inputs, outputs, blocks, fine, kind)
        plain.load_state_dict(stage.state_dict())
        plain = folded(plain).to(device, dtype, memory_format=memory)
        runs[label] = lambda plain=plain: plain(x)
        if memory == torch.contiguous_format:
            other, own = deepcopy(plain).to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
            runs[f"{label}, channels_last"] = lambda other=other, own=own: other(own)
    stage = folded(stage).to(device, dtype, memory_format=memory)
    for fraction in FRACTIONS:
        drawn = [objects(side // SIDE, fraction, 100 * seed + int(100 * fraction)) for seed in range(MASKS)]
        masks = itertools.cycle([mask.to(device, dtype) for mask in drawn])
        runs[f"adaptive {fraction:.0%}"] = lambda masks=masks: stage(x, next(masks))
    return runs


def seconds(run: Run) -> float:
    """Return the wall time of one run in seconds."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measured(runs: dict[str, Run], rounds: int) -> list[Row]:
    """Return a row per competitor: its median time, and its time and multiply-adds relative to "dense fine"."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        for _ in range(MASKS if name.startswith("adaptive") else 1):
            seconds(run)
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    work = {}
    for name, run in runs.items():
        with FlopCounterMode(display=False) as counter:
            run()
        work[name] = counter.get_total_flops()
    rows = []
    for name, own in times.items():
        ratios = statistics.quantiles((a / b for a, b in zip(own, times["dense fine"], strict=True)), n=4)
        rows.append((name, 1e3 * statistics.median(own), ratios, work[name] / work["dense fine"]))
    return rows


def draw(path: Path, results: dict[str, list[Row]]) -> None:
    """Plot time and multiply-adds against the active share, with one panel per stage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(5 * len(results), 3.6), squeeze=False, sharey=True)
    for axis, (name, rows) in zip(axes[0], results.items(), strict=True):
        adaptive = {row[0].removeprefix("adaptive "): row for row in rows if row[0].startswith("adaptive ")}
        share = [float(label.rstrip("%")) for label in adaptive]
        axis.plot(share, [row[2][1] for row in adaptive.values()], "o-", label="time")
        axis.plot(share, [row[3] for row in adaptive.values()], "s--", label="multiply-adds")
        styles = {"dense fine": "-", "dense fine, channels_last": "-.", "dense strided, channels_last": ":"}
        for label, style in styles.items():
            value = next((row[2][1] for row in rows if row[0] == label), None)
            if value is None:  # --channels-last measures no competitor of this name
                continue
            axis.axhline(value, color="grey", linestyle=style, label=f"{label}, time")
        axis.set(title=name, xlabel="active regions (%)", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("relative to the dense fine stage")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rounds", type=int, default=15, help="at least 2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="float16")
    parser.add_argument("--channels-last", action="store_true", help="use this memory format for all maps and weights")
    parser.add_argument("--plot", type=Path, help="a PNG of time and multiply-adds")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, got {options.rounds}")
    torch.set_num_threads(options.threads)
    dtype = torch.float16 if options.half else torch.float32
    memory = torch.channels_last if options.channels_last else torch.contiguous_format
    results = {}
    with torch.inference_mode():
        for name in options.stage:
            results[name] = measured(competitors(name, options.device, dtype, memory), options.rounds)
            inputs, outputs, blocks, kind, side = STAGES[name]
            print(f"\n{name}: {blocks} {kind} blocks, {inputs} to {outputs} channels, {side}x{side}, batch 1")
            rows = [
                [label, f"{ms:.1f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{work:.2f}"]
                for label, ms, (low, middle, high), work in results[name]
            ]
            print(text_table(["", "ms", "time ratio", "quartiles", "multiply-adds ratio"], rows, left=1))
    if options.plot:
        draw(options.plot, results)


if __name__ == "__main__":
    main()
