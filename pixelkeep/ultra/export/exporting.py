"""``pixelkeep export``: a folded network in another runtime's format, run there, and kept only if it agrees.

Ultralytics' exporter writes the file. Before that, the network is folded, so that no slice or gather of this project's
blocks is left. Afterwards the file and the PyTorch network are run on the same images, and the file is moved to its
name if both compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial as bound_to
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import LOGGER

from pixelkeep.deploy.bounds import bounds_for
from pixelkeep.errors import ExportError, OptionError
from pixelkeep.report.export import Export
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.costs.latency import device_of
from pixelkeep.ultra.costs.measure import count_gflops, count_parameters
from pixelkeep.ultra.data.resolving import resolve_data, write_resolved
from pixelkeep.ultra.export import parity
from pixelkeep.ultra.export.files import PRECISION, annotate, size_of, write
from pixelkeep.ultra.export.images import CALIBRATED, images_of
from pixelkeep.ultra.export.quantizing import quantize
from pixelkeep.ultra.network.choosing import check_choice
from pixelkeep.ultra.network.folding import fold, folds, was_folded
from pixelkeep.ultra.running.runs import newest_weights
from pixelkeep.ultra.running.settings import check
from pixelkeep.ultra.tiled.auto import own_tile
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.weights.formats import FORMATS, check_format
from pixelkeep.ultra.weights.integrity import LARGEST
from pixelkeep.ultra.weights.manifest import beside
from pixelkeep.writing import staged_tree

UNFOLDED = f"{parity.EXPORTED}, unfolded"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be exported, and how.

    Attributes:
        weights: Checkpoint to export; None for the one trained last.
        format: Name of the format, one of :data:`pixelkeep.ultra.weights.formats.FORMATS`.
        precision: fp32, fp16, bf16 or int8, as far as the format supports it.
        imgsz: Image size in pixels, one side or height and width; None for the size of training.
        batch: Number of images per call.
        dynamic: Whether the file is to take images of any size, and any number of them.
        data: Dataset whose val images are used to compare outputs and metrics, and whose train images calibrate int8;
            None for generated images.
        device: Device, named as for training.
        output: File to write, or an existing folder; None for a file beside the weights, or in the current folder
            if the weights are published ones.
        fold: What is folded, see :mod:`pixelkeep.ultra.network.choosing`; with ``measured`` the network is written both
            ways, and the file that is faster in its own runtime is kept.
        bounds: Changed bounds of the parity check, as ``NAME=VALUE``; see :mod:`pixelkeep.deploy.bounds`.
    """

    weights: str | None = None
    format: str = "onnx"
    precision: str = "fp32"
    imgsz: int | list[int] | None = None
    batch: int = 1
    dynamic: bool = False
    data: str | None = None
    device: str | None = None
    output: str | None = None
    fold: str = "static"
    bounds: Sequence[str] = ()


@dataclass(frozen=True)
class _Source:
    """The network to export, as it was loaded and in fp32, with its request and the facts that belong to it."""

    request: Request
    weights: Path
    checkpoint: dict[str, Any]
    network: nn.Module
    sides: list[int]
    device: torch.device
    tile: int | None  # side in image pixels of the tiles that the network was trained on; None for whole images

    def images(self, *which: Any) -> Tensor:
        """Return images in the form in which the network takes them; see :func:`images_of`."""
        return images_of(self.request.data, self.sides, self.network, *which, tile=self.tile)


def export(request: Request) -> Export:
    """Export a network, and return a report on the file.

    Raises:
        OptionError: A value is not allowed, or a package is missing.
        ExportError: The network cannot be written in the format, or does not compute the same there. Whatever had the
            name of the file before is then left as it was.
        PixelkeepError: Weights, data or folder cannot be used.
    """
    more = dict(batch=request.batch, dynamic=request.dynamic, data=request.data)
    check_format(request.format, request.precision, request.device, **more)
    source = _source(request)
    network, sides, device = source.network, source.sides, source.device
    bounds = bounds_for(network.task, request.precision, request.bounds)
    target = _target(request, source.weights)
    images = source.images()
    with staged_tree(target) as partial:
        reference = parity.folded_of(network, device, dense=True)
        made = _write(source, partial, reference)
        runs = {name: parity.opened(path, device) for name, (path, _) in made.items()}
        batch = parity.in_batches(images, request.batch)[0]
        for run in runs.values():
            parity.check_runs(run, batch, device)
        speed, machine = parity.speeds(network, runs, batch, device)
        chosen = min(made, key=lambda name: speed[name].ratio)
        path, facts = made[chosen]
        done = _report(source, target, bounds, facts, speed, machine)
        done.megabytes = round(size_of(path) / 1e6, 2)
        done.parity = parity.agreement(reference, runs[chosen], images, request.batch, device)
        if request.dynamic:
            smaller = _smaller(sides, int(max(network.stride)))
            shown = images_of(request.data, smaller, network, most=4)
            try:
                done.elsewhere = parity.agreement(reference, runs[chosen], shown, 2, device)
            except ExportError as error:  # networks whose work depends on the image are written for one size
                raise ExportError(
                    f"--dynamic: at {'x'.join(map(str, smaller))} {error}; leave --dynamic out"
                ) from error
        path.rename(partial)
        if request.data and not done.failures():
            files = {parity.UNFOLDED: source.weights, parity.EXPORTED: partial}
            done.accuracy = parity.accuracy(files, request.data, network.task, sides, request.device, source.tile)
        if failures := done.failures():
            raise ExportError(f"{request.format}: the export does not compute the same results: {'; '.join(failures)}")
    return done


def _source(request: Request) -> _Source:
    """Load the network, and determine the image size of the export."""
    check_choice(request.fold)
    check({"imgsz": request.imgsz, "device": request.device} if request.imgsz else {"device": request.device})
    weights = check_weights(request.weights or newest_weights())
    checkpoint = load(weights)
    network = deepcopy(model_of(checkpoint)).float().eval()
    task = tasks.of_model(weights)
    if request.dynamic and task is not tasks.DETECT:
        raise OptionError(f"--dynamic: only detection models can be exported so, and '{weights}' is for {task.noun}")
    stride, asked = int(max(network.stride)), request.imgsz or trained_size(checkpoint)
    height, width = [asked] * 2 if isinstance(asked, int) else asked
    sides = [max(stride, -(-side // stride) * stride) for side in (height, width)]
    if max(sides) > LARGEST:
        raise OptionError(f"--imgsz {max(height, width)}: an export takes at most {LARGEST} pixels a side")
    if sides != [height, width]:
        used = "x".join(map(str, sides))
        LOGGER.warning(f"imgsz {height}x{width} is not a multiple of the network's stride {stride}: using {used}")
    if task is not tasks.DETECT and sides[0] != sides[1]:
        raise OptionError(f"--imgsz {height} {width}: give one side; networks for {task.noun} are exported square")
    square = task is tasks.DETECT and sides[0] == sides[1]  # tiles are square
    tile = own_tile(checkpoint, sides[0]) if square else None
    return _Source(request, weights, checkpoint, network, sides, device_of(request.device), tile)


def _target(request: Request, weights: Path) -> Path:
    """Return the path to write; a precision other than fp32 becomes part of a derived name."""
    output, suffix = request.output, FORMATS[request.format].suffix
    path = Path(output).expanduser() if output else beside(weights)
    if not path.name.lower().endswith(suffix):
        if not path.is_dir():
            raise OptionError(f"--output {output}: give an existing folder, or a name that ends in {suffix}")
        kind = "" if request.precision == "fp32" else f"_{request.precision}"
        path = path / f"{weights.stem}{kind}{suffix}"
    if path.exists() and path.is_dir() != suffix.startswith("_"):
        raise OptionError(f"--output {path}: there is already {'a folder' if path.is_dir() else 'a file'} of this name")
    return path.resolve()


def _write(source: _Source, partial: Path, reference: nn.Module) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Write the network beside ``partial``; return the files and their facts by name, the default first."""
    request, network = source.request, source.network
    ways = {parity.EXPORTED: request.fold}
    if request.fold == "measured":
        ways = {parity.EXPORTED: "static"} | ({UNFOLDED: "none"} if folds(network) else {})
    settings = dict(format=request.format, imgsz=source.sides, batch=request.batch, device=source.device)
    settings |= dict(quantize=PRECISION[request.precision], dynamic=request.dynamic)
    calibration = None
    if request.precision == "int8" and FORMATS[request.format].quantizer:
        calibration = source.images("train", CALIBRATED)
    elif request.precision == "int8":
        spec = write_resolved(resolve_data(request.data, needs=("train",)))
        settings |= dict(quantize=8, data=str(spec), split="train")
    made = {}
    for number, (name, way) in enumerate(ways.items()):
        path = partial.with_name(f"{number}{partial.name}")
        folded = fold(deepcopy(network), way, join=False)
        facts = _facts(source, folded)
        write(folded, path, settings, facts)
        if calibration is not None:
            judge = bound_to(_agrees, reference, calibration, request.batch, source.device)
            facts["quantized"] = quantize(request.format, path, network, calibration, judge)
            annotate(path, facts)
        made[name] = path, facts
    return made


def _agrees(reference: nn.Module, images: Tensor, batch: int, device: torch.device, path: Path) -> float:
    """Return how far a file agrees with the network, from 0 to 1, on the images that it was calibrated on.

    Raises:
        ExportError: The network itself detects nothing in these images.
    """
    found = parity.agreement(reference, parity.opened(path, device), images, batch, device)
    if getattr(found, "matched", 1.0) is None:
        told = f"the network finds nothing above {found.confidence} in the {found.images} images to calibrate on"
        raise ExportError(f"int8: {told}, so the cost of int8 cannot be judged; give --data with objects that it finds")
    return parity.share(found)


def _facts(source: _Source, folded: nn.Module) -> dict[str, Any]:
    """Return the facts that an exported file must hold besides what Ultralytics writes into it."""
    request, model, trained = source.request, source.network, source.checkpoint.get("train_args", {})
    kept = {key: source.checkpoint[key] for key in ("operating_point",) if key in source.checkpoint}
    record = getattr(folded, "folding", {})
    return kept | {
        "precision": request.precision,
        "folded": was_folded(folded),
        "folding": {"choose": request.fold, "choice": record.get("choice", "none")},
        "stretch": model.yaml.get("stretch"),
        "tile": own_tile(source.checkpoint, max(source.sides)),
        "params": count_parameters(model),
        "gflops": round(count_gflops(model, tuple(source.sides), model.yaml.get("channels", 3)), 3),
        "bounds": list(request.bounds),
        "training": {key: trained[key] for key in ("model", "data", "seed") if key in trained},
    }


def _smaller(sides: list[int], stride: int) -> list[int]:
    """Return another, smaller image size of another shape, which a dynamic file must also take."""
    return [max(stride, side // 2 // stride * stride) + stride * number for number, side in enumerate(sides)]


def _report(
    source: _Source, target: Path, bounds: Any, facts: dict, speed: dict[str, Any], machine: dict[str, Any]
) -> Export:
    request, trained = source.request, source.checkpoint.get("train_args", {})
    return Export(
        model=Path(str(trained.get("model") or source.weights)).stem,
        task=source.network.task,
        weights=str(source.weights),
        output=str(target),
        format=request.format,
        precision=request.precision,
        imgsz=source.sides,
        batch=request.batch,
        dynamic=request.dynamic,
        tile=source.tile,
        folded=facts["folded"],
        folding=facts["folding"],
        quantized=facts.get("quantized"),
        bounds=bounds,
        speed=speed,
        machine=machine,
    )
