"""An exported file run beside the network that it is from: the same images, the same threads, turn by turn."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import nms

from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.pixels import read_pixels
from pixelkeep.deploy.parity import CONFIDENCE, SLACK, Parity, compare
from pixelkeep.errors import ExportError, OptionError
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.costs.latency import Latency, name_of, rounds_within, summarise
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running.environment import threads
from pixelkeep.ultra.weights.backends import careful

IMAGES = 16  # that are compared
SECONDS, MOST = 15.0, 40  # of the rounds that measure the speed
UNFOLDED, FOLDED, EXPORTED = "PyTorch", "PyTorch, folded", "exported"
UNLIMITED = 1e9  # seconds: how much NMS finishes must not depend on how busy the machine is


def images_of(data: str | None, sides: list[int], network: nn.Module) -> Tensor:
    """Return images from all over a dataset's val split, (n, C, H, W) from 0 to 1; generated ones without a dataset.

    Raises:
        OptionError: The network takes images of other channels.
        DataError: The dataset cannot be used.
    """
    channels, stretch = network.yaml.get("channels", 3), network.yaml.get("stretch")
    if data is None and channels != 3:
        raise OptionError(f"--data: give images of {channels} channels; the generated ones have 3")
    spec = resolve_data(data or "demo", needs=("val",))
    if spec.channels != channels:
        raise OptionError(f"--data {data}: its images have {spec.channels} channels, and the network takes {channels}")
    records = load_split(spec, "val").records
    chosen = np.unique(np.linspace(0, len(records) - 1, IMAGES).round().astype(int))
    shown = [LetterBox(tuple(sides))(image=read_pixels(records[i].path, channels, stretch)) for i in chosen]
    shown = [image[..., None] if image.ndim == 2 else image for image in shown]  # (H, W, C)
    stacked = np.stack([image[..., ::-1] if channels == 3 else image for image in shown])  # BGR to RGB
    return torch.from_numpy(np.ascontiguousarray(stacked)).permute(0, 3, 1, 2).float() / 255


def agreement(
    network: nn.Module, exported: Path, images: Tensor, batch: int, device: torch.device
) -> tuple[Parity, dict[str, Latency], dict[str, Any]]:
    """Run an exported file beside its network in PyTorch.

    Args:
        network: As it was loaded, in fp32.
        exported: The file.
        images: (n, C, H, W) from 0 to 1.
        batch: How many the file takes at once.
        device: Where both run.

    Returns:
        How far the file is from the folded network in fp32; the times of both, and of the network as it is; and what
        they were measured on.
    """
    runs: dict[str, Any] = {
        UNFOLDED: _ready(deepcopy(network).fuse(verbose=False, fold=False), device),
        FOLDED: _ready(deepcopy(network).fuse(verbose=False), device),
    }
    with careful():
        runs[EXPORTED] = AutoBackend(str(exported), device=device, fp16=False, verbose=False).eval()
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    if len(parts[-1]) < batch:  # files take whole batches alone
        parts[-1] = torch.cat([parts[-1], images[:1].expand(batch - len(parts[-1]), -1, -1, -1)])
    raw = {name: _outputs(runs[name], parts, device)[: len(images)] for name in (FOLDED, EXPORTED)}
    if raw[FOLDED].shape != raw[EXPORTED].shape:
        raise ExportError(f"its output has shape {tuple(raw[EXPORTED].shape)}, and not {tuple(raw[FOLDED].shape)}")
    parity = compare(*(raw[name].numpy() for name in raw), *(_detections(raw[name]) for name in raw))
    steps = {name: _step(run, parts[0].to(device)) for name, run in runs.items()}
    times = rounds_within(steps, SECONDS, MOST)
    machine = {"device": name_of(device), "threads": threads(), "rounds": len(times), "torch": torch.__version__}
    return parity, summarise(list(steps), times, UNFOLDED), machine


def accuracy(
    weights: Path, exported: Path, data: str, sides: list[int], device: str | None
) -> dict[str, dict[str, float | None]]:
    """Return AP and AP_S of checkpoint and exported file, validated alike: on images of exactly these sides."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, file, own in ((UNFOLDED, weights, {"imgsz": sides}), (EXPORTED, exported, {})):
            settings = dict(weights=str(file), data=data, project=folder, name=file.stem, device=device, plots=False)
            result, _ = validate({key: v for key, v in (settings | own).items() if v is not None})
            found[name] = {"AP": result.AP, "AP_S": result.AP_S}
    return found


def _ready(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network as detect and val run it: boxes of all places, and on CPUs channels last."""
    network.model[-1].end2end = False  # exported files leave the choice of the best to NMS as well
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return network.to(device, memory_format=layout).eval()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (list, tuple)) else output


@torch.inference_mode()
def _outputs(run: Any, parts: list[Tensor], device: torch.device) -> Tensor:
    """Return raw outputs, (n, 4 + classes, places) on the CPU."""
    return torch.cat([_first(run(part.to(device))).float().cpu().clone() for part in parts])


def _detections(raw: Tensor) -> list[np.ndarray]:
    """Return what NMS leaves of raw outputs, for each image (n, 6)."""
    found = nms.non_max_suppression(raw.clone(), CONFIDENCE - SLACK, 0.7, max_time_img=UNLIMITED)
    return [rows[:, :6].numpy() for rows in found]


def _step(run: Any, images: Tensor) -> Any:
    """Return a call that runs a network once, and waits until it is done."""

    def step() -> None:
        with torch.inference_mode():
            run(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    return step
