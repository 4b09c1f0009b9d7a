"""``pixelkeep export``: a folded network in another runtime's format, run there, and kept only if it agrees.

Ultralytics' exporter writes the file. Before it the network is folded, so that no slice or gather of ours is left;
after it the file is run on images beside the network in PyTorch, and moved to its name if both compute the same.
"""

from __future__ import annotations

import json
import logging
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ultralytics.engine.exporter import Exporter
from ultralytics.utils import LOGGER

from pixelkeep.deploy.parity import BOUNDS
from pixelkeep.errors import ExportError, OptionError, PixelkeepError, storage_error
from pixelkeep.report.export import Export
from pixelkeep.ultra.costs.latency import device_of
from pixelkeep.ultra.costs.measure import count_gflops, count_parameters
from pixelkeep.ultra.export.parity import accuracy, agreement, images_of
from pixelkeep.ultra.network.folding import fold, is_folded
from pixelkeep.ultra.running.runs import newest_weights
from pixelkeep.ultra.running.settings import check
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.weights.exported import KEY
from pixelkeep.ultra.weights.formats import check_format
from pixelkeep.writing import staged_tree

PRECISION = {"fp32": 32, "fp16": 16, "bf16": 32}  # in Ultralytics' numbers; bf16 is a matter of how OpenVINO runs it


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be exported, and how.

    Attributes:
        weights: A checkpoint of a detection model; None for that trained last.
        format: One of :data:`pixelkeep.ultra.weights.formats.FORMATS`.
        precision: fp32, fp16 or bf16.
        imgsz: Image size in pixels, a side or height and width; None for as trained.
        batch: Images at once.
        data: A dataset whose val images, and AP on them, are compared; None for generated images.
        device: As for training.
        output: The file to write, or a folder that is there; None for beside the weights.
    """

    weights: str | None = None
    format: str = "onnx"
    precision: str = "fp32"
    imgsz: int | list[int] | None = None
    batch: int = 1
    data: str | None = None
    device: str | None = None
    output: str | None = None


def export(request: Request) -> Export:
    """Export a network.

    Raises:
        OptionError: A value that is not allowed, or a package that is missing.
        ExportError: The network cannot be written in the format, or does not compute the same there; nothing is left
            under the file's name then that was not there before.
        PixelkeepError: Weights, data or folder cannot be used.
    """
    form = check_format(request.format, request.precision, request.device)
    check({"imgsz": request.imgsz, "device": request.device} if request.imgsz else {"device": request.device})
    weights = check_weights(request.weights or newest_weights())
    checkpoint = load(weights)
    network = deepcopy(model_of(checkpoint)).float().eval()
    if network.task != "detect":
        raise OptionError(f"weights '{weights}' are for task '{network.task}'; export serves detection models")
    stride, asked = int(max(network.stride)), request.imgsz or trained_size(checkpoint)
    height, width = [asked] * 2 if isinstance(asked, int) else asked
    sides = [max(stride, -(-side // stride) * stride) for side in (height, width)]
    target = _target(request.output, weights, form.suffix)
    device = device_of(request.device)
    images = images_of(request.data, sides, network)
    facts = _facts(checkpoint, request.precision, sides)
    with staged_tree(target) as partial:
        _write(network, partial, request, sides, device, facts)
        done = Export(
            model=Path(str(checkpoint.get("train_args", {}).get("model") or weights)).stem,
            weights=str(weights),
            output=str(target),
            format=request.format,
            precision=request.precision,
            imgsz=sides,
            batch=request.batch,
            folded=facts["folded"],
            megabytes=round(_size(partial) / 1e6, 2),
            bounds=BOUNDS[request.precision],
        )
        done.parity, done.speed, done.machine = agreement(network, partial, images, request.batch, device)
        if request.data and not done.failures():
            done.accuracy = accuracy(weights, partial, request.data, sides, request.device)
        if failures := done.failures():
            raise ExportError(f"{request.format}: the export does not compute the same: {'; '.join(failures)}")
    return done


def _target(output: str | None, weights: Path, suffix: str) -> Path:
    """Return what is to be written."""
    path = Path(output).expanduser() if output else weights.parent
    if not path.name.lower().endswith(suffix):
        if not path.is_dir():
            raise OptionError(f"--output {output}: give a folder that is there, or a name that ends in {suffix}")
        path = path / f"{weights.stem}{suffix}"
    if path.exists() and path.is_dir() != suffix.startswith("_"):
        raise OptionError(f"--output {path}: there is {'a folder' if path.is_dir() else 'a file'} of this name")
    return path.resolve()


def _facts(checkpoint: dict, precision: str, sides: list[int]) -> dict[str, Any]:
    """Return what an exported file must know besides what Ultralytics writes into it."""
    model, trained = model_of(checkpoint), checkpoint.get("train_args", {})
    kept = {key: checkpoint[key] for key in ("operating_point",) if key in checkpoint}
    return kept | {
        "precision": precision,
        "folded": is_folded(model),
        "stretch": model.yaml.get("stretch"),
        "params": count_parameters(model),
        "gflops": round(count_gflops(model, tuple(sides), model.yaml.get("channels", 3)), 3),
        "training": {key: trained[key] for key in ("model", "data", "seed") if key in trained},
    }


def _write(
    network: torch.nn.Module, path: Path, request: Request, sides: list[int], device: torch.device, facts: dict
) -> None:
    """Let Ultralytics write a network in another format, and move what it writes to ``path``.

    Raises:
        ExportError: It cannot.
    """
    folded = fold(deepcopy(network), join=False)
    folder = path.parent / "writing"
    folder.mkdir()
    folded.pt_path = str(folder / "network.pt")  # from which Ultralytics derives the name of what it writes
    settings = dict(format=request.format, imgsz=sides, batch=request.batch, quantize=PRECISION[request.precision])
    exporter = Exporter(overrides=settings | {"device": str(device).removeprefix("cuda:"), "task": "detect"})
    exporter.add_callback("on_export_start", lambda e: e.metadata.update({KEY: json.dumps(facts, default=str)}))
    level = LOGGER.level
    LOGGER.setLevel(max(level, logging.CRITICAL))  # what goes wrong is told in one line
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = Path(exporter(folded))
    except PixelkeepError:
        raise
    except Exception as error:  # tracers, converters and compilers have errors of their own
        if told := storage_error(error, path.parent):
            raise told from error
        lines = [line for line in str(error).splitlines() if line.strip()]
        shown = " ".join((lines[0] if lines else type(error).__name__).split())[:160]
        raise ExportError(f"{request.format}: this network cannot be written in it ({shown})") from error
    finally:
        LOGGER.setLevel(level)
    if path.is_dir():
        path.rmdir()
    written.rename(path)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
