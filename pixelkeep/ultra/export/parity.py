"""An exported file run beside the network that it is from: the same images, the same threads, turn by turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import nms

from pixelkeep.deploy.label_parity import LabelParity, compare_classes, compare_pixels
from pixelkeep.deploy.parity import CONFIDENCE, SLACK, Parity, compare
from pixelkeep.errors import ExportError
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.costs.latency import Latency, name_of, rounds_within, summarise
from pixelkeep.ultra.running.environment import threads, use_all_cores
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.tiled.images import Request as Tiling
from pixelkeep.ultra.weights import backends

SECONDS, MOST = 15.0, 40  # of the rounds that measure the speed
UNFOLDED, FOLDED, EXPORTED = "PyTorch", "PyTorch, folded", "exported"
UNLIMITED = 1e9  # seconds: how much NMS finishes must not depend on how busy the machine is
FIGURES = {"detect": ("AP", "AP_S"), "classify": ("top1", "top5"), "semantic": ("mIoU", "pixel_accuracy")}


def opened(exported: Path, device: torch.device) -> Any:
    """Return an exported file ready to run in turns with others, in its own precision and on our threads."""
    with replaced(backends, "SPINNING", False), backends.careful():
        return AutoBackend(str(exported), device=device, fp16=False, verbose=False).eval()


def folded_of(network: nn.Module, device: torch.device, dense: bool = False) -> nn.Module:
    """Return a folded copy of a network: what exports are compared with.

    Args:
        network: As it was loaded.
        device: Where it is to run.
        dense: Whether every place puts out something, as in exports: yolov5-cad leaves out what its mask does.
    """
    folded = _ready(deepcopy(network).fuse(verbose=False), device)
    if dense and network.task == "detect":
        folded.model[-1].export = True
    return folded


def agreement(reference: nn.Module, exported: Any, images: Tensor, batch: int, device: torch.device) -> Any:
    """Return how far an exported file is from its network.

    Args:
        reference: From :func:`folded_of`.
        exported: From :func:`opened`.
        images: (n, C, H, W) from 0 to 1.
        batch: How many the file takes at once.
        device: Where both run.

    Returns:
        A `Parity`, or a `LabelParity` of networks that classify.

    Raises:
        ExportError: The file puts out something of another shape.
    """
    parts = in_batches(images, batch)
    raw = [_outputs(reference, parts, device)[: len(images)]]
    with _told():
        raw.append(_outputs(exported, parts, device)[: len(images)])
    if reference.task == "semantic":
        raw = [_classes(found, images.shape[2:]) for found in raw]
    if raw[0].shape != raw[1].shape:
        raise ExportError(f"its output has shape {tuple(raw[1].shape)}, and not {tuple(raw[0].shape)}")
    return _compared(reference.task, *raw)


def check_runs(exported: Any, images: Tensor, device: torch.device) -> None:
    """Run a file once.

    Args:
        exported: From :func:`opened`.
        images: One batch, (n, C, H, W).
        device: Where it runs.

    Raises:
        ExportError: It cannot be run.
    """
    with _told():
        _outputs(exported, [images], device)


@contextmanager
def _told() -> Iterator[None]:
    """Tell in one line what a runtime fails of; each has errors of its own."""
    try:
        yield
    except Exception as error:
        told = " ".join(str(error).split())[:160] or type(error).__name__
        raise ExportError(f"what was written cannot be run ({told})") from error


def _compared(task: str, reference: Tensor, other: Tensor) -> Parity | LabelParity:
    if task == "detect":
        found = (_detections(raw) for raw in (reference, other))
        return compare(reference.numpy(), other.numpy(), *found)
    return (compare_classes if task == "classify" else compare_pixels)(reference.numpy(), other.numpy())


def share(parity: Parity | LabelParity) -> float:
    """Return how far two networks agree, from 0 to 1: detections matched, or labels alike."""
    return parity.agreed if isinstance(parity, LabelParity) else parity.matched or 0.0


def speeds(
    network: nn.Module, exported: dict[str, Any], images: Tensor, device: torch.device
) -> tuple[dict[str, Latency], dict[str, Any]]:
    """Return the times of a network in PyTorch, unfolded and folded, and of exported files; and what it was run on.

    Args:
        network: As it was loaded, in fp32.
        exported: From :func:`opened`, by name.
        images: One batch, (n, C, H, W).
        device: Where all run.
    """
    plain = _ready(deepcopy(network).fuse(verbose=False, fold=False), device)
    runs = {UNFOLDED: plain, FOLDED: folded_of(network, device), **exported}
    steps = {name: _step(run, images.to(device)) for name, run in runs.items()}
    use_all_cores()  # in PyTorch as in the others: opening a file with Ultralytics leaves out one
    times = rounds_within(steps, SECONDS, MOST)
    machine = {"device": name_of(device), "threads": threads(), "rounds": len(times), "torch": torch.__version__}
    return summarise(list(steps), times, UNFOLDED), machine


def accuracy(
    files: dict[str, Path], data: str, task: str, sides: list[int], device: str | None, tile: int | None = None
) -> dict[str, dict[str, float | None]]:
    """Return the task's figures of checkpoint and exported file, validated alike.

    Args:
        files: Both, by what is said of them; the checkpoint first, which is given images of exactly these sides.
        data: The dataset.
        task: Of the network.
        sides: Height and width in pixels.
        device: As for training.
        tile: Pixels of an image that the network sees at once, if it was trained in tiles.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            settings = dict(weights=str(file), data=data, project=folder, name=file.stem, device=device, plots=False)
            if tile or file is files[UNFOLDED]:
                settings["imgsz"] = sides[0] if tile or task != "detect" else sides
            given = {key: value for key, value in settings.items() if value is not None}
            result, _ = validate(given, tiling=Tiling(tile=tile))
            found[name] = {key: getattr(result, key) for key in FIGURES[task]}
    return found


def in_batches(images: Tensor, batch: int) -> list[Tensor]:
    """Return images in batches that are full, the last one filled up: files take whole batches alone."""
    parts = list(images.split(batch))
    if (short := batch - len(parts[-1])) > 0:
        parts[-1] = torch.cat([parts[-1], images[:1].expand(short, -1, -1, -1)])
    return parts


def _ready(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network as detect and val run it: boxes of all places, and on CPUs channels last."""
    if network.task == "detect":
        network.model[-1].end2end = False  # exported files leave the choice of the best to NMS as well
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return network.to(device, memory_format=layout).eval()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (list, tuple)) else output


@torch.inference_mode()
def _outputs(run: Callable[[Tensor], Any], parts: list[Tensor], device: torch.device) -> Tensor:
    """Return raw outputs on the CPU: (n, 4 + classes, places), (n, classes), or of pixels logits or classes."""
    return torch.cat([_first(run(part.to(device))).float().cpu().clone() for part in parts])


def _classes(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the class of each pixel, (n, H, W), of logits (n, classes, h, w) or of classes, as val does."""
    if raw.ndim == 3:
        return raw
    return F.interpolate(raw, tuple(size), mode="bilinear", align_corners=False).max(1).indices.float()


def _detections(raw: Tensor) -> list[np.ndarray]:
    """Return what NMS leaves of raw outputs, for each image (n, 6)."""
    found = nms.non_max_suppression(raw.clone(), CONFIDENCE - SLACK, 0.7, max_time_img=UNLIMITED)
    return [rows[:, :6].numpy() for rows in found]


def _step(run: Any, images: Tensor) -> Callable[[], None]:
    """Return a call that runs a network once, and waits until it is done."""

    def step() -> None:
        with torch.inference_mode():
            run(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    return step
