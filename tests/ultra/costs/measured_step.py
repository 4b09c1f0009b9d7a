"""Print how many bytes two real training steps on the CPU add to the peak of this process's memory.

Run as a process of its own: python measured_step.py MODEL BATCH SIZE OBJECTS
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from pixelkeep.ultra.running import environment

environment.prepare()

import torch  # noqa: E402
from ultralytics.nn.tasks import DetectionModel  # noqa: E402
from ultralytics.utils import DEFAULT_CFG  # noqa: E402
from ultralytics.utils.torch_utils import ModelEMA  # noqa: E402

CLASSES = 4


def run(name: str, batch: int, size: int, objects: int) -> None:
    """Build a model with its optimizer and its moving average, and take two steps."""
    network = DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False)
    network.args = DEFAULT_CFG
    average, optimizer = ModelEMA(network), torch.optim.AdamW(network.parameters())
    labels = {
        "cls": torch.zeros(batch * objects, 1),
        "bboxes": torch.rand(batch * objects, 4) * 0.1 + 0.4,
        "batch_idx": torch.arange(batch).repeat_interleave(objects).float(),
    }
    for _ in range(2):
        loss, _ = network({"img": torch.rand(batch, 3, size, size), **labels})
        loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(network)


def status(key: str) -> int:
    """Return a figure of this process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run("yolov5-n", 2, 64, 4)  # so that what libraries set up once is not counted as the step's
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # gives freed memory back, so that the steps do not take it uncounted
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:  # so that the peak counts from here
        file.write("5")
    run(sys.argv[1], *map(int, sys.argv[2:5]))
    print(status("VmHWM") - before)
