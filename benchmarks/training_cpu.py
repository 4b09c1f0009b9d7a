"""Measure a training step on a CPU with channels innermost, as `pixelkeep train` lays maps out, and in bf16.

A step is forward, loss, backward and AdamW. The four forms of a network begin with the same weights and take turns in
every round. A ratio is the wall time divided by that of fp32 in Ultralytics' memory layout in the same round, the
median over the rounds; below 1.00 is faster. The middle half of the rounds is in brackets.

    python benchmarks/training_cpu.py [--quick]
    python benchmarks/training_cpu.py --models yolov5-spd-n --imgsz 640 --batch 8
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout works too
from pixelkeep.ultra.running import environment

environment.prepare()

import torch  # noqa: E402
from training_step import batch_of  # noqa: E402
from ultralytics.nn.tasks import BaseModel, DetectionModel  # noqa: E402
from ultralytics.utils import DEFAULT_CFG, LOGGER  # noqa: E402

import pixelkeep  # noqa: E402, F401  registers the blocks
from pixelkeep.report.tables import text_table  # noqa: E402
from pixelkeep.ultra.running.whole import replaced  # noqa: E402
from pixelkeep.ultra.trainers import cpu  # noqa: E402

FORMS = {"fp32": (False, False), "innermost": (True, False), "bf16": (False, True), "innermost, bf16": (True, True)}
LOGGER.setLevel("WARNING")


class Training:
    """A network in training, in one of the `FORMS`."""

    def __init__(self, name: str, form: str) -> None:
        innermost, self.halved = FORMS[form]
        torch.manual_seed(0)
        model = DetectionModel(f"{name}.yaml", nc=4, verbose=False).train()
        model.args = DEFAULT_CFG
        self.model = cpu.with_channels_innermost(model) if innermost else model
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """Take a step, and return its wall time in seconds."""
        predict = cpu.in_bf16(BaseModel.predict) if self.halved else BaseModel.predict
        start = time.perf_counter()
        with replaced(BaseModel, "predict", predict):
            self.model(batch)[0].sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start


def rows(name: str, batch: dict[str, torch.Tensor], rounds: int) -> list[list]:
    """Return the table rows of one network, one per form."""
    trainings = {form: Training(name, form) for form in FORMS if cpu.has_bf16() or not FORMS[form][1]}
    seconds: dict[str, list[float]] = {form: [] for form in trainings}
    for number in range(rounds + 2):  # two to warm up
        for form, training in trainings.items():
            spent = training.step(batch)
            if number > 1:
                seconds[form].append(spent)
    cells = []
    for form, spent in seconds.items():
        ratios = [one / other for one, other in zip(spent, seconds["fp32"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells.append([name, form, f"{statistics.median(spent):.3f}", f"{middle:.2f} ({low:.2f}-{high:.2f})"])
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["yolov5-n", "yolov5-spd-n", "yolov5-slicesamp-n", "yolo11-n"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="3 rounds of yolov5-n: to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.models, options.rounds = ["yolov5-n"], 3
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {options.batch} images of {options.imgsz} pixels")
    batch = batch_of(options.batch, options.imgsz, torch.device("cpu"))
    found = [row for name in options.models for row in rows(name, batch, options.rounds)]
    print(text_table(["network", "form", "s", "of fp32's time"], found))


if __name__ == "__main__":
    main()
