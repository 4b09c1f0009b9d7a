"""Converts a checkpoint into one of another model, with the same function where that is possible, and reports on it.

Whatever the target's structure, weights are assigned by the role of a layer, not by its row number (parts.py). The
rules for one part are in layers.py and those for the head in heads.py. Layers without an exact conversion can be fitted
(fit.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import DetectionModel

from pixelkeep import __version__
from pixelkeep.errors import ModelError, OptionError, WeightsError
from pixelkeep.report.conversion import FRESH, Conversion
from pixelkeep.ultra.conversion.fit import fit_parts, read_images
from pixelkeep.ultra.conversion.heads import carry_head
from pixelkeep.ultra.conversion.layers import carry
from pixelkeep.ultra.conversion.parts import channel_map, parts, probe
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.network.fusing import FUSED, was_fused
from pixelkeep.ultra.weights.checkpoints import check_weights, is_checkpoint, load, save, trained_size
from pixelkeep.ultra.weights.class_branches import even_widths
from pixelkeep.ultra.weights.confidence import KEY as OPERATING_POINT
from pixelkeep.ultra.weights.definitions import check_model, resolve_model
from pixelkeep.ultra.weights.integrity import not_numbers
from pixelkeep.ultra.weights.manifest import listed

KEY = "converted"  # key under which a checkpoint states what it was converted from
NOT_KEPT = ("model", "ema", "optimizer", "scaler", "provenance")
OF_ITS_FUNCTION = (OPERATING_POINT, "train_metrics", "train_results", "best_fitness")  # kept by exact conversions only
SEED = 0


def convert_model(
    source: str | Path,
    to: str,
    output: str | Path | None = None,
    *,
    data: str | None = None,
    fit: str | Path | None = None,
    noise: float = 0.0,
) -> Conversion:
    """Convert a checkpoint of Ultralytics or of this project into one of another model.

    Args:
        source: The checkpoint. Its moving average, BatchNorm statistics, class names and training settings are carried
            over; the optimizer's state is not.
        to: A model name such as ``yolov5-spdconv-s``, or a model YAML.
        output: The checkpoint to write; None for the report alone.
        data: A dataset whose classes the result gets; classes that the source knows by name keep their weights.
        fit: Images (a folder, file or glob) on which layers without an exact conversion are fitted, by ridge
            regression, to the outputs of the source.
        noise: Standard deviation of the noise in weights that the source leaves zero, relative to the other weights of
            the same layer. With 0 the result computes exactly what the source computes, where there is an exact
            conversion.

    Returns:
        The report, which states for each part of the target what became of it.

    Raises:
        PixelkeepError: Source, target, data or images cannot be used, or no weights of the source fit the target.
    """
    if not math.isfinite(noise) or noise < 0:
        raise OptionError(f"noise must be a number of 0 or more, got {noise}")
    path = check_weights(source)
    output = _output(output, path)
    checkpoint = load(path)
    given = _source(checkpoint, path)
    wanted = None if data is None else dict(resolve_data(data, needs=()).names)
    definition = _definition(to, given.yaml.get("channels", 3))
    images = None if fit is None else read_images(str(fit), trained_size(checkpoint), given.yaml.get("channels", 3))
    report = Conversion(str(path), to, [], noise=noise, output=None if output is None else str(output))

    def convert(model: nn.Module) -> DetectionModel:
        network, found = carried_over(model, definition, to, wanted, noise, images)
        report.parts, report.left, report.checked = found.parts, found.left, found.checked
        return network

    converted = _converted(checkpoint, convert, report, path)
    if noise and not any(part.free for part in report.parts):
        raise OptionError(f"--noise {noise:g} has no effect: the source leaves no weight of '{to}' zero; leave it out")
    if output is not None:
        save(converted, output)
    return report


def carried_over(
    source: nn.Module,
    definition: dict,
    name: str,
    wanted: dict[int, str] | None = None,
    noise: float = 0.0,
    images: Tensor | None = None,
    nothing: bool = False,
) -> tuple[DetectionModel, Conversion]:
    """Build a network and fill it with the weights of another.

    Args:
        source: A detection model, not fused.
        definition: Definition of the network to build.
        name: Name of that network for messages.
        wanted: Class names of the network by number; those of the source by default.
        noise: Noise in weights that the source leaves zero; see `convert_model`.
        images: Images to fit on, (N, C, H, W) from 0 to 1; None for no fit.
        nothing: Whether to accept a network for which no weights of the source fit.

    Returns:
        The network, in evaluation mode and single precision, and the report.

    Raises:
        ModelError: No weights of the source fit, or its widths are those of another size.
    """
    source = deepcopy(source).float().eval()
    network, report = _fill(source, definition, name, wanted, noise)
    _require_size(source, definition, name, report)
    if not nothing and not any(part.taken for part in report.parts):
        raise ModelError(f"model '{name}': nothing in the weights fits it; give weights of its own family")
    if report.exact:  # judged by the parts with weights alone, so the outputs are compared too
        report.checked = _difference(source, network)
    if images is not None:
        fit_parts(source, network, report.parts, images)
    return network, report


def _output(output: str | Path | None, source: Path) -> Path | None:
    """Check the path to write to, and return it with ``~`` expanded."""
    if output is None:
        return None
    output = Path(output).expanduser()
    if not is_checkpoint(output):
        raise OptionError(f"output '{output}': give the name of a checkpoint, ending in .pt or .safetensors")
    if output.is_dir():
        raise OptionError(f"output '{output}' is a folder; give the name of a checkpoint in it")
    if output.exists() and output.samefile(source):
        raise OptionError(f"output '{output}' is the source itself; name another file")
    if listed(output):
        raise OptionError(f"output '{output}' is a published file; name another")
    return output


def _source(checkpoint: dict, path: Path) -> nn.Module:
    """Return the network of a checkpoint, its moving average if it has one, if that can be converted."""
    return usable(checkpoint.get("model") if checkpoint.get("ema") is None else checkpoint["ema"], f"weights '{path}'")


def usable(model: nn.Module, what: str) -> nn.Module:
    """Return a model if it is a trainable detection model whose weights are all numbers.

    Raises:
        WeightsError: The model is of another kind, fused, or has weights that are not numbers.
    """
    if not isinstance(model, DetectionModel) or type(model.model[-1]) is not Detect:
        kind = f"{type(model).__name__} with head {type(model.model[-1]).__name__}"
        raise WeightsError(f"{what}: a {kind}; only detection models with Ultralytics' Detect can be converted")
    if was_fused(model):
        raise WeightsError(f"{what}: {FUSED}")
    if problem := not_numbers(model.state_dict()):
        raise WeightsError(f"{what}: {problem}")
    return model


def _definition(to: str, channels: int) -> dict:
    """Return the checked definition of the target model."""
    target = resolve_model(to)
    if isinstance(target, Path) and is_checkpoint(target):
        raise OptionError(f"--to '{to}' is a checkpoint; name the model to convert to, such as yolov5-spdconv-s")
    return check_model(target, channels)


def _fill(
    source: nn.Module, definition: dict, name: str, wanted: dict[int, str] | None, noise: float
) -> tuple[DetectionModel, Conversion]:
    """Build the target network, carry over the weights that fit, and return it with the report."""
    wanted = dict(source.names) if wanted is None else wanted
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = DetectionModel(deepcopy(definition), source.yaml.get("channels", 3), len(wanted), False).eval()
        given, own = parts(source), parts(network)
        rows, outputs, report = network.model, probe(network), []
        for role, part in own.items():
            first = part.rows[0]
            inputs = channel_map(first, rows, outputs) if first.i and isinstance(first.f, int) else None
            if part.parameters:
                report.append(carry(given.get(role), part, inputs, noise))
        head, levels = carry_head(source.model[-1], rows[-1], source.names, wanted)
        new = [level for level, carried in enumerate(head[1::2]) if carried.how == FRESH]
        for level, count in even_widths(network, definition, source.yaml.get("channels", 3), new).items():
            head[2 * level + 1].parameters += count
    network.names, network.nc, network.task = wanted, len(wanted), "detect"
    for key in ("stretch", "channels"):
        if key in source.yaml:
            network.yaml[key] = source.yaml[key]
    left = [role for role, part in given.items() if role not in own and part.parameters]
    return network, Conversion("", name, report + head, left + levels, noise=noise)


def _require_size(source: nn.Module, definition: dict, name: str, report: Conversion) -> None:
    """Raise a ModelError if another size of the target's family matches the widths and depths of the source better."""
    if not any(part.misfit for part in report.parts):
        return
    theirs = parts(source)

    def score(scale: str) -> int:
        network = tasks.BaseModel()
        network.yaml = {**definition, "scale": scale}
        with torch.device("meta"):
            network.model, _ = tasks.parse_model(deepcopy(network.yaml), source.yaml.get("channels", 3), False)
        pairs = [(theirs[role], part) for role, part in parts(network.eval()).items() if role in theirs]
        return sum((a.width == b.width) + (a.parameters == b.parameters) for a, b in pairs)

    scores = {scale: score(scale) for scale in definition.get("scales") or ()}
    best = max(scores, key=scores.get, default=None)
    if best is not None and scores[best] > scores.get(definition.get("scale"), 0):
        raise ModelError(
            f"model '{name}' differs from the weights in width or depth; {_family(definition)}-{best} matches them"
        )


def _family(definition: dict) -> str:
    """Return the family name of a definition: the name of its file without the size."""
    stem = Path(str(definition.get("yaml_file") or "model")).stem
    return stem.removesuffix(f"-{definition.get('scale')}")


@torch.no_grad()
def _difference(source: nn.Module, network: nn.Module) -> float:
    """Return the largest difference between the two networks' outputs on a random image, in double precision.

    If the heads have a second branch, which needs no NMS, both branches are compared.
    """
    cell = int(max(source.stride))
    sides = source.yaml.get("channels", 3), 4 * cell, 3 * cell
    image = torch.rand(1, *sides, generator=torch.Generator().manual_seed(SEED))
    outputs = []
    for model in (source, network):
        model = deepcopy(model).cpu().double().eval()
        model.model[-1].end2end = False  # among equal scores the two networks may select different boxes
        found, raw = model(image.double())
        other = raw.get("one2one") or {}
        outputs.append([found, *(other[name] for name in ("boxes", "scores") if name in other)])
    return max(float((one - other).abs().max()) for one, other in zip(*outputs, strict=True))


def _converted(checkpoint: dict, convert: Callable, report: Conversion, path: Path) -> dict[str, Any]:
    """Return the content of the new checkpoint: model and moving average converted, most other entries unchanged."""
    networks = {}
    for key in ("model", "ema"):  # the moving average last, because it is used and the report is to describe it
        if (model := checkpoint.get(key)) is not None:
            dtype = next(model.parameters()).dtype
            networks[key] = convert(usable(model, f"weights '{path}'")).to(dtype)
    kept = {key: value for key, value in checkpoint.items() if key not in NOT_KEPT}
    if not report.exact:
        kept = {key: value for key, value in kept.items() if key not in OF_ITS_FUNCTION}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    provenance = {"schema": 1, "from": path.name, "sha256": digest, "to": report.target}
    provenance |= {"exact": report.exact, "noise": report.noise, "version": __version__}
    trained = {"train_args": checkpoint.get("train_args", {}) | {"model": report.target}}  # results show this name
    # Training can start from this checkpoint but not resume, so it has no epoch.
    return {**kept, **trained, **networks, "ema": networks.get("ema"), "optimizer": None, "epoch": -1, KEY: provenance}
