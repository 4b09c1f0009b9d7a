"""Exported files compared with their network: on the same images, with the same threads, measured in turns."""

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

SECONDS, MOST = 15.0, 40  # limits on the rounds that measure speed: time, and number
UNFOLDED, FOLDED, EXPORTED = "PyTorch", "PyTorch, folded", "exported"
UNLIMITED = 1e9  # seconds; the result of NMS must not depend on how busy the machine is
FIGURES = {"detect": ("AP", "AP_S"), "classify": ("top1", "top5"), "semantic": ("mIoU", "pixel_accuracy")}


def opened(exported: Path, device: torch.device) -> Any:
    """Load an exported file, ready to run in turns with others, in its own precision and with our threads."""
    with replaced(backends, "SPINNING", False), backends.careful():
        return AutoBackend(str(exported), device=device, fp16=False, verbose=False).eval()


def folded_of(network: nn.Module, device: torch.device, dense: bool = False) -> nn.Module:
    """Return a folded copy of a network, with which exports are compared.

    Args:
        network: Network as it was loaded.
        device: Device on which the copy is to run.
        dense: Whether every anchor point has an output, as in exports; otherwise yolov5-cad leaves out those outside
            its mask.
    """
    folded = _ready(deepcopy(network).fuse(verbose=False), device)
    if dense and network.task == "detect":
        folded.model[-1].export = True
    return folded


def agreement(reference: nn.Module, exported: Any, images: Tensor, batch: int, device: torch.device) -> Any:
    """Compare the outputs of an exported file with those of its network.

    Args:
        reference: Network from :func:`folded_of`.
        exported: File opened by :func:`opened`.
        images: Images, (n, C, H, W) from 0 to 1.
        batch: Number of images that the file takes per call.
        device: Device on which both run.

    Returns:
        A `Parity` for detection, or a `LabelParity` for classification and semantic segmentation.

    Raises:
        ExportError: The file cannot be run, or its output has another shape.
    """
    parts = in_batches(images, batch)
    raw = [_outputs(reference, parts, device)[: len(images)]]
    with _told():
        raw.append(_outputs(exported, parts, device)[: len(images)])
    if reference.task == "semantic":
        raw = [_classes(found, images.shape[2:]) for found in raw]
    if raw[0].shape != raw[1].shape:
        raise ExportError(f"its output has shape {tuple(raw[1].shape)}, not {tuple(raw[0].shape)}")
    return _compared(reference.task, *raw)


def check_runs(exported: Any, images: Tensor, device: torch.device) -> None:
    """Run an exported file once to check that it runs at all.

    Args:
        exported: File opened by :func:`opened`.
        images: One batch of images, (n, C, H, W).
        device: Device on which the file runs.

    Raises:
        ExportError: The file cannot be run.
    """
    with _told():
        _outputs(exported, [images], device)


@contextmanager
def _told() -> Iterator[None]:
    """Turn any error of a runtime inside the context into an ExportError of one line."""
    try:
        yield
    except Exception as error:
        told = " ".join(str(error).split())[:160] or type(error).__name__
        raise ExportError(f"the written file cannot be run ({told})") from error


def _compared(task: str, reference: Tensor, other: Tensor) -> Parity | LabelParity:
    if task == "detect":
        found = (_detections(raw) for raw in (reference, other))
        return compare(reference.numpy(), other.numpy(), *found)
    return (compare_classes if task == "classify" else compare_pixels)(reference.numpy(), other.numpy())


def share(parity: Parity | LabelParity) -> float:
    """Return how far two networks agree, from 0 to 1: the share of detections matched, or of equal labels."""
    return parity.agreed if isinstance(parity, LabelParity) else parity.matched or 0.0


def speeds(
    network: nn.Module, exported: dict[str, Any], images: Tensor, device: torch.device
) -> tuple[dict[str, Latency], dict[str, Any]]:
    """Return the latency of a network in PyTorch, unfolded and folded, and of exported files, and facts on the machine.

    Args:
        network: Network as it was loaded, in fp32.
        exported: Files opened by :func:`opened`, by name.
        images: One batch of images, (n, C, H, W).
        device: Device on which all of them run.
    """
    plain = _ready(deepcopy(network).fuse(verbose=False, fold=False), device)
    runs = {UNFOLDED: plain, FOLDED: folded_of(network, device), **exported}
    steps = {name: _step(run, images.to(device)) for name, run in runs.items()}
    use_all_cores()  # for PyTorch as for the runtimes: opening a file with Ultralytics takes one core away
    times = rounds_within(steps, SECONDS, MOST)
    machine = {"device": name_of(device), "threads": threads(), "rounds": len(times), "torch": torch.__version__}
    return summarise(list(steps), times, UNFOLDED), machine


def accuracy(
    files: dict[str, Path], data: str, task: str, sides: list[int], device: str | None, tile: int | None = None
) -> dict[str, dict[str, float | None]]:
    """Return the task's metrics of a checkpoint and its exported file, both validated in the same way.

    Args:
        files: The two files by their names in the report, the checkpoint first, under `UNFOLDED`.
        data: Dataset name or YAML.
        task: Task of the network.
        sides: Height and width in pixels of the images that the checkpoint is given; the file has its own size.
        device: Device, named as for training.
        tile: Side in image pixels of the tiles that the network was trained on; None for whole images.
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
    """Split images into full batches, filling up the last one, as exported files take only full batches."""
    parts = list(images.split(batch))
    if (short := batch - len(parts[-1])) > 0:
        parts[-1] = torch.cat([parts[-1], images[:1].expand(short, -1, -1, -1)])
    return parts


def _ready(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network as detect and val run it: with the boxes of all anchor points, and channels_last on CPUs."""
    if network.task == "detect":
        network.model[-1].end2end = False  # as in exported files, which also leave the selection to NMS
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return network.to(device, memory_format=layout).eval()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (list, tuple)) else output


@torch.inference_mode()
def _outputs(run: Callable[[Tensor], Any], parts: list[Tensor], device: torch.device) -> Tensor:
    """Return raw outputs on the CPU: (n, 4 + classes, anchors), (n, classes), or logits or classes of pixels."""
    return torch.cat([_first(run(part.to(device))).float().cpu().clone() for part in parts])


def _classes(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the class of each pixel, (n, H, W), from logits (n, classes, h, w) or from classes, as val does."""
    if raw.ndim == 3:
        return raw
    return F.interpolate(raw, tuple(size), mode="bilinear", align_corners=False).max(1).indices.float()


def _detections(raw: Tensor) -> list[np.ndarray]:
    """Return the detections that NMS keeps of raw outputs, (n, 6) for each image."""
    found = nms.non_max_suppression(raw.clone(), CONFIDENCE - SLACK, 0.7, max_time_img=UNLIMITED)
    return [rows[:, :6].numpy() for rows in found]


def _step(run: Any, images: Tensor) -> Callable[[], None]:
    """Return a function that runs a network once and waits until it has finished."""

    def step() -> None:
        with torch.inference_mode():
            run(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    return step
