"""Publish weights of a finished run: a portable fp16 checkpoint, its metrics, a model card and a manifest entry.

Nothing about the machine that trained is published: paths are shortened to names.
"""

from __future__ import annotations

import json
import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkeep.errors import ModelError, OptionError
from pixelkeep.evaluation.bins import read_bins
from pixelkeep.report.card import Card, card_text
from pixelkeep.ultra.network import names
from pixelkeep.ultra.running.runs import is_finished, storage, write_json
from pixelkeep.ultra.weights import manifest
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, write
from pixelkeep.ultra.weights.portable import OWN, provenance
from pixelkeep.writing import staged, write_text

LIMIT = 300  # detections per image that val keeps where the size bins are not those of a benchmark
MACHINE = ("project", "name", "save_dir", "device", "workers", "exist_ok", "resume")  # settings that are not published


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is to be published.

    Attributes:
        run: Folder of a finished detection training.
        name: Name under which the weights are found, such as ``yolov5-spd-n-hituav``.
        data: Name of the training data.
        licence: Licence of the training data.
        attribution: Attribution that the training data asks for.
        recipe: Command that repeats the training.
        folder: Folder that holds the manifest.
        scored: Run folder of a validation of the best epoch on images that did not select it, whose metrics are
            published; None for the metrics of the training run.
    """

    run: Path
    name: str
    data: str
    licence: str
    attribution: str
    recipe: str
    folder: Path
    scored: Path | None = None


def publish(wanted: Publication) -> manifest.Published:
    """Write the four files of a publication, the manifest last, so that it never lists a missing file.

    Raises:
        OptionError: The run is not finished, a name or text cannot be used, or the file is too large.
        WeightsError: The run's weights cannot be used.
    """
    known = manifest.read_manifest(wanted.folder)
    figures = _figures(wanted)
    weights = check_weights(wanted.run / "weights" / "best.pt")
    checkpoint = load(weights)
    network = deepcopy(model_of(checkpoint))
    model = Path(str(network.yaml.get("yaml_file") or figures["model"])).name  # its YAML may be a local file
    network.yaml["yaml_file"] = model
    content = {key: checkpoint[key] for key in (*OWN, "date", "version", "license", "docs") if key in checkpoint}
    content |= {"train_args": _public(checkpoint.get("train_args", {})), "model": network}
    content |= {"train_metrics": checkpoint.get("train_metrics"), "provenance": _origin(wanted, checkpoint, weights)}
    file = f"{wanted.name}.safetensors"
    with storage(wanted.folder):
        with staged(wanted.folder / file) as partial:
            write(content, partial, "fp16", wanted.folder / file)
            size, sha = partial.stat().st_size, manifest.sha256_of(partial)
            if size > manifest.TOO_LARGE:
                raise OptionError(f"{file} has {size / 1e6:.1f} MB; published files have at most 10 MB")
        entry = manifest.Published(
            file=file,
            sha256=sha,
            bytes=size,
            model=Path(model).stem,
            metrics=f"{wanted.name}.metrics.json",
            card=f"{wanted.name}.md",
            **{key: getattr(wanted, key) for key in ("data", "licence", "attribution", "recipe")},
        )
        write_json(wanted.folder / entry.metrics, figures | {"weights": file, "data": wanted.data})
        limit = read_bins(figures["protocol"].get("bins")).max_dets or LIMIT
        card = Card(wanted.name, vars(entry), figures, dict(network.names), limit)
        write_text(wanted.folder / entry.card, card_text(card))
        manifest.write_manifest(wanted.folder, known | {wanted.name: entry})
    return entry


def _figures(wanted: Publication) -> dict[str, Any]:
    """Check everything in the publication, and return the metrics to publish.

    Raises:
        OptionError: Something in the publication cannot be used.
    """
    if not manifest.NAME.fullmatch(wanted.name):
        raise OptionError(f"name '{wanted.name}': use lower-case letters, digits, '-', '.', as in yolov5-spd-n-hituav")
    if _is_model(wanted.name):
        raise OptionError(f"name '{wanted.name}': this is a model's name; add what it was trained on")
    for key in ("data", "licence", "attribution", "recipe"):
        if not getattr(wanted, key).strip():
            raise OptionError(f"--{key}: it must not be empty")
    if not wanted.folder.is_dir():
        raise OptionError(f"--folder {wanted.folder}: no such folder")
    figures = _metrics(wanted.run)
    if wanted.scored is None:
        return figures
    scored = _metrics(wanted.scored)
    if scored["params"] != figures["params"]:
        raise OptionError(
            f"--scored {wanted.scored}: its network has {scored['params']:,} parameters, but that of {wanted.run} has "
            f"{figures['params']:,}; validate the run's best.pt"
        )
    return scored


def _metrics(run: Path) -> dict[str, Any]:
    """Return the content of the metrics.json of a finished detection run."""
    if not is_finished(run):
        raise OptionError(f"{run}: not a finished run; it has no metrics.json")
    try:
        figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        task, _ = figures["task"], figures["params"]
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{run / 'metrics.json'}: damaged; validate the run again") from error
    if task != "detect":
        raise OptionError(f"{run}: a run for task '{task}'; only detection models are published")
    return figures


def _is_model(name: str) -> bool:
    """Return whether ``--model`` takes a name as that of a model, with or without a size."""
    try:
        return names.parse(name) is not None
    except ModelError:  # the name of a family without a valid size
        return True


def _origin(wanted: Publication, checkpoint: dict[str, Any], weights: Path) -> dict[str, Any]:
    return provenance(checkpoint, weights) | {"data": wanted.data}


def _public(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without those of the machine, and with paths shortened to names."""
    kept = {key: value for key, value in settings.items() if key not in MACHINE}
    paths = [key for key, value in kept.items() if isinstance(value, str) and (os.sep in value or "\\" in value)]
    return kept | {key: Path(kept[key].replace("\\", "/")).name for key in paths}
