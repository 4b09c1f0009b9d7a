"""Compare the epoch time (training plus validation) of ``yolo train`` and ``pixelkeep train`` on stock yolov5n.

Both train the same network on the demo data with the same settings, in turn, each in a process of its own, so that
each has its own threads and allocator. The first epoch of each run is a warm-up and is left out. The ratios of time and
of peak memory are medians over pairs of runs. ``--allocator`` instead compares pixelkeep with and without its allocator
setting.

    python benchmarks/training.py --pairs 3
    python benchmarks/training.py --allocator --model yolov5-spd-n
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = {"imgsz": 256, "batch": 8, "nbs": 8, "optimizer": "AdamW", "lr0": 0.002, "plots": False, "seed": 0}
STOCK = "from ultralytics.cfg import entrypoint; import sys; sys.argv = ['yolo', *sys.argv[1:]]; entrypoint()"
OURS = "from pixelkeep.cli.main import run; run()"
NO_ALLOCATOR = "from pixelkeep.ultra.running import environment as e; e.keep_large_buffers = lambda: False; " + OURS


def demo_yaml() -> Path:
    """Write the demo data if it does not exist yet, and return its YAML with absolute paths."""
    from pixelkeep import assets
    from pixelkeep.datasets.demo import write_demo

    return write_demo(assets.home() / "datasets" / "demo")


def command(code: str, model: str, data: Path, epochs: int, folder: Path) -> list[str]:
    """Return the command line of one training."""
    settings = {**SETTINGS, "epochs": epochs}
    if code is STOCK:
        pairs = [f"{key}={value}" for key, value in settings.items()]
        return [sys.executable, "-c", code, "train", f"model={model}", f"data={data}", f"project={folder}", *pairs]
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [
        sys.executable,
        "-c",
        code,
        "train",
        "--model",
        model,
        "--data",
        str(data),
        "--project",
        str(folder),
        *pairs,
    ]


def run(code: str, model: str, data: Path, epochs: int) -> tuple[float, float]:
    """Train once, and return the seconds per epoch after the first and the peak memory in MiB."""
    environment = {**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    with tempfile.TemporaryDirectory() as folder:
        line = command(code, model, data, epochs, Path(folder))
        log = Path(folder) / "log.txt"
        with log.open("w") as output:
            process = subprocess.Popen(line, env=environment, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        found = sorted(Path(folder).rglob("results.csv"))
        if status or not found:
            sys.exit(f"training failed:\n{log.read_text()[-3000:]}")
        with found[0].open(newline="") as file:
            times = [float(row["time"]) for row in csv.DictReader(file, skipinitialspace=True)]
    return (times[-1] - times[0]) / (len(times) - 1), usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs a run, the first not counted (default: 4)")
    parser.add_argument("--model", default=None, help="model of --allocator (default: yolov5-n)")
    parser.add_argument("--allocator", action="store_true", help="compare the allocator setting instead")
    args = parser.parse_args()
    data = demo_yaml()
    if args.allocator:
        names, codes, model = ("default allocator", "kept buffers"), (NO_ALLOCATOR, OURS), args.model or "yolov5-n"
    else:
        names, codes, model = ("yolo train", "pixelkeep train"), (STOCK, OURS), "yolov5n.yaml"
    print(f"{model}, {os.cpu_count()} cores, seconds an epoch (train + val)\n{names[0]:>18} {names[1]:>18}  ratio")
    ratios, growth = [], []
    for _ in range(args.pairs):
        (a, memory), (b, more) = (run(code, model, data, args.epochs) for code in codes)
        ratios.append(b / a)
        growth.append(more / memory)
        print(f"{a:18.2f} {b:18.2f}  {b / a:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} (lower is faster for {names[1]})")
    print(f"median ratio of peak memory {statistics.median(growth):.2f}")


if __name__ == "__main__":
    main()
