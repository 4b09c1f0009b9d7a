"""Measure how fast networks run: stock ones, yolov5-spd as straightforward slices, and ours unfolded, folded, exported.

All runs take turns in one process, with the same threads, inputs and allocator settings, in an order drawn anew for
each round. A ratio is computed within each round and its median over the rounds is printed, so that a varying load
affects both sides alike; above 1.00 the network named first is faster. Before that, boxes and scores of everything in
fp32 are compared, since a faster network must compute the same: yolov5-spd with its straightforward form in PyTorch
(SpaceToDepth as four slices and a concat), exports of stock networks with PyTorch. CUDA graphs are not compared, nor
are bf16, fp16 and int8, whose outputs differ; `pixelkeep export` and scripts/measure_exports.py say by how much. On a
CPU: PyTorch (channels_last), ONNX Runtime and OpenVINO, the latter in fp32, bf16 and int8 (calibrated on noise, which
says nothing of its accuracy). On a GPU: PyTorch in fp32 and fp16, eagerly and as CUDA graphs. "of the peak" is the
share of the machine's fp32 peak, measured before and after by a large matrix product and a large convolution.

    python benchmarks/inference.py --quick               # scale n, batch 1 and 4: minutes
    python benchmarks/inference.py --json speeds.json    # scales n and s, batches 1 to 8
    python benchmarks/inference.py --scales n --batch 1 --rounds 30 --threads 4 --no-exports
    python benchmarks/inference.py --device cuda
    python benchmarks/inference.py --slicesamp           # whether folding SliceSamp would pay
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too

from pixelkeep.ultra.running.environment import keep_large_buffers, prepare, threads

prepare()  # before Ultralytics is imported, which would leave only one thread

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from contenders import Run, networks, on_cpu, on_cuda  # noqa: E402
from torch import Tensor  # noqa: E402

from pixelkeep.blocks import space_to_depth  # noqa: E402
from pixelkeep.ultra.costs.latency import name_of, rounds_within, summarise, take_turns  # noqa: E402
from pixelkeep.ultra.costs.measure import count_gflops  # noqa: E402

SAME = 5e-2, 5e-4  # pixels and scores: several times the effect of rounding in fp32, far below that of bf16
COMPARED = ("pytorch fp32", "eager fp32", "onnx fp32", "openvino fp32")
AIMS = (  # first, second, least ratio of their speeds; {} stands for the scale, then for the runtime
    ("yolov5-spd-{}, folded, {}", "yolov5-spd-{}, slices, {}", 0.98),
    ("yolov5-spd-{}, folded, {}", "yolov5-spd-{}, unfolded, {}", 1.0),
    ("yolov5-spd-{}, folded, {}", "yolov5{}, {}", None),
)
MORE = {"onnx fp32": 1.25, "eager fp32": 1.3}  # least ratio to four slices by runtime; the latter for single images
EXPORTED = 1.2  # least ratio of exports in fp32 to stock yolov5 in PyTorch


def peak(device: torch.device) -> float:
    """Return the machine's peak GFLOP/s in fp32: the best of several matrix products and convolutions."""
    a = torch.rand(2048, 2048, device=device)
    x = torch.rand(1, 128, 160, 160, device=device).to(memory_format=torch.channels_last)
    w = torch.rand(128, 128, 3, 3, device=device).to(memory_format=torch.channels_last)
    work = [(lambda: a @ a, 2 * 2048**3), (lambda: F.conv2d(x, w, padding=1), 2 * 9 * 128**2 * 160**2)]
    best = 0.0
    with torch.inference_mode():
        for run, flops in work:
            for _ in range(8):
                start = time.perf_counter()
                run()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                best = max(best, flops / (time.perf_counter() - start) / 1e9)
    return best


def differences(runs: dict[str, Run], x: Tensor) -> dict[str, tuple[float, float]]:
    """Return how far boxes and scores of the runs in fp32 are from those of the plain network in PyTorch.

    Args:
        runs: The runs by name; see `contenders`.
        x: The images, (N, 3, H, W).

    Returns:
        The largest differences of boxes (in pixels) and scores, by the run's name. The plain networks themselves are
        left out: yolov5-spd as four slices and a concat, and the stock ones.
    """
    found = {}
    for name, run in runs.items():
        network, *way, runtime = name.split(", ")
        plain = ", ".join([network, *(["slices"] if way else []), next(iter(runs)).rsplit(", ", 1)[1]])
        if runtime not in COMPARED or name == plain:
            continue
        with torch.inference_mode():
            own, expected = (_raw(each(x)) for each in (run, runs[plain]))
        apart = (own - expected).abs()
        found[name] = float(apart[:, :4].max()), float(apart[:, 4:].max())
    return found


def require_same(found: dict[str, tuple[float, float]]) -> None:
    """Print the largest differences, and end the program if they show that another network was computed.

    Raises:
        SystemExit: A difference exceeds its bound in `SAME`, or is not a number.
    """
    for name, apart in found.items():
        if not all(value <= bound for value, bound in zip(apart, SAME, strict=True)):
            raise SystemExit(f"{name} differs by {apart[0]:.1e} pixels and {apart[1]:.1e} in score: another network")
    boxes, scores = (max(column, default=0.0) for column in zip(*found.values(), strict=True)) if found else (0, 0)
    print(f"{len(found)} in fp32 compared: boxes differ by at most {boxes:.1e} pixels, scores by {scores:.1e}")


def _raw(output: object) -> Tensor:
    """Return the boxes and scores of every place, (N, 4 + classes, places), on the CPU."""
    return (output[0] if isinstance(output, (list, tuple)) else output).float().cpu().clone()


def measure(runs: dict[str, Run], x: Tensor, options: argparse.Namespace) -> tuple[list[str], object]:
    """Return the names of the runs and their times in seconds, (rounds, names)."""

    def step(run: Run) -> Callable[[], None]:
        def call() -> None:
            with torch.inference_mode():
                run(x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)

        return call

    steps = {name: step(run) for name, run in runs.items()}
    torch.set_num_threads(options.threads)  # exporting has reduced them by one
    if options.rounds:
        take_turns(steps, 2)
        return list(steps), take_turns(steps, options.rounds)
    return list(steps), rounds_within(steps, options.seconds, 60)


def table(names: list[str], times: object, batch: int, gflops: dict[str, float], top: float) -> list[dict]:
    """Print the measured speeds of one batch size as a table, and return its rows."""
    baseline = names[0]
    rows = []
    print(f"\nbatch {batch}, {len(times)} rounds, ratios to {baseline}\n")
    print("| network, runtime | ms an image | times as fast (middle half) | GFLOP/s | of the peak |")
    print("|---|--:|--:|--:|--:|")
    for name, found in summarise(names, times, baseline).items():
        ms = found.ms / batch
        rate = gflops[name.rsplit(", ", 1)[0]] / ms * 1e3
        middle = f"{1 / found.ratio:.2f} ({1 / found.ratio_high:.2f}-{1 / found.ratio_low:.2f})"
        print(f"| {name} | {ms:.1f} | {middle} | {rate:.0f} | {rate / top:.0%} |", flush=True)
        row = {"name": name, "batch": batch, "ms": ms, "times": 1 / found.ratio, "gflops_s": rate, "peak": rate / top}
        rows.append(row)
    return rows


def ratio(names: list[str], times: object, first: str, second: str) -> float | None:
    """Return how many times as fast the first run is as the second: the median of the rounds' ratios."""
    if first not in names or second not in names:
        return None
    return float(statistics.median(times[:, names.index(second)] / times[:, names.index(first)]))


def aims(names: list[str], times: object, scales: str, batch: int) -> list[dict]:
    """Print the speed ratios of `AIMS`, `MORE` and `EXPORTED` for each runtime, and return them."""
    found = []
    runtimes = sorted({name.rsplit(", ", 1)[1] for name in names})
    for scale in scales:
        pairs = [(a.format(scale, r), b.format(scale, r), least) for a, b, least in AIMS for r in runtimes]
        pairs += [
            (f"yolov5-spd-{scale}, folded, {r}", f"yolov5-spd-{scale}, slices, {r}", least)
            for r, least in MORE.items()
            if batch == 1 or r != "eager fp32"
        ]
        exported = [r for r in runtimes if r in ("onnx fp32", "openvino fp32")]
        pairs += [(f"yolov5-spd-{scale}, folded, {r}", f"yolov5{scale}, pytorch fp32", EXPORTED) for r in exported]
        for first, second, least in pairs:
            if (value := ratio(names, times, first, second)) is not None:
                told = "" if least is None else f"  (at least {least}: {'yes' if value >= least else 'NO'})"
                print(f"{first} is {value:.2f} times as fast as {second}{told}", flush=True)
                found.append({"batch": batch, "first": first, "second": second, "times": value, "least": least})
    return found


def best_batches(rows: list[dict]) -> dict[str, dict]:
    """Print the best batch size of each run, and return its row by name."""
    best: dict[str, dict] = {}
    for row in rows:
        if row["name"] not in best or row["ms"] < best[row["name"]]["ms"]:
            best[row["name"]] = row
    print("\nbest batch of each\n\n| network, runtime | batch | ms an image | of the peak |\n|---|--:|--:|--:|")
    for name, row in best.items():
        print(f"| {name} | {row['batch']} | {row['ms']:.1f} | {row['peak']:.0%} |")
    return best


def compare(options: argparse.Namespace, device: torch.device) -> dict:
    """Measure and print all networks and batch sizes, and return the document for --json."""
    built = networks(options.scales, not options.quick)
    gflops = {name: count_gflops(net, options.imgsz, 3) for name, net in built.items()}
    document = {"machine": name_of(device), "threads": torch.get_num_threads(), "torch": torch.__version__}
    rows, ratios, before = [], [], peak(device)
    for batch in options.batch:
        x = torch.rand(batch, 3, options.imgsz, options.imgsz, device=device)
        runs = on_cuda(built, x) if x.is_cuda else on_cpu(built, options.imgsz, batch, options.exports)
        require_same(differences(runs, x))
        names, times = measure(runs, x, options)
        top = max(before, peak(device))
        rows += table(names, times, batch, gflops, top)
        print()
        ratios += aims(names, times, options.scales, batch)
    print(f"\npeak: {top:.0f} GFLOP/s in fp32")
    return document | {"peak_gflops_s": top, "rows": rows, "ratios": ratios, "best": best_batches(rows)}


def slicesamp(options: argparse.Namespace, device: torch.device) -> dict:
    """Print the speed of a strided depthwise convolution relative to SliceSamp's first two steps, and return it."""
    found = {}
    for channels, side in ((3, 640), (16, 320), (32, 160), (64, 80), (128, 40)):
        x = torch.rand(1, channels, side, side, device=device)
        cells = torch.rand(4 * channels, 1, 3, 3, device=device)
        pixels = torch.rand(4 * channels, 1, 6, 6, device=device)
        runs = {
            "as it is": lambda x, w=cells, c=channels: F.conv2d(space_to_depth(x), w, padding=1, groups=4 * c),
            "strided": lambda x, w=pixels, c=channels: F.conv2d(x, w, stride=2, padding=2, groups=c),
        }
        value = ratio(*measure(runs, x, options), "strided", "as it is")
        print(f"{channels} channels, {side} x {side}: strided is {value:.2f} times as fast", flush=True)
        found[f"{channels}x{side}"] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", default="ns", help="letters of n s m l x")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, help="rounds of each batch size; by default as many as --seconds allows")
    parser.add_argument("--seconds", type=float, default=90, help="of each batch size")
    parser.add_argument("--threads", type=int, default=threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-exports", dest="exports", action="store_false", help="PyTorch alone")
    parser.add_argument("--quick", action="store_true", help="scale n of yolov5 alone, batches 1 and 4")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    parser.add_argument("--slicesamp", action="store_true", help="measure whether folding SliceSamp would pay")
    options = parser.parse_args()
    if options.quick:
        options.scales, options.batch, options.seconds = "n", [1, 4], min(options.seconds, 60)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    torch.backends.cudnn.benchmark = True
    device = torch.device(options.device)
    kept = "kept by the allocator" if keep_large_buffers() else "as the allocator has them"
    print(f"PyTorch {torch.__version__}, {name_of(device)}, {options.threads} threads, large buffers {kept}")
    document = (slicesamp if options.slicesamp else compare)(options, device)
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
