"""``--model``: a name of ours, a model YAML or a checkpoint, checked by building it before anything is written."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import torch
import yaml
from ultralytics.nn import tasks

from pixelkeep.errors import ModelError, PixelkeepError
from pixelkeep.ultra import names
from pixelkeep.ultra.checkpoints import check_weights, load


def resolve_model(name: str) -> str | Path:
    """Return what Ultralytics is to build: a name of ours, a YAML file or a checkpoint.

    Raises:
        PixelkeepError: There is no such model, or the file cannot be used.
    """
    path = Path(os.path.expanduser(name))
    if path.suffix == ".pt":
        return check_weights(path)
    if len(path.name) < 256 and path.is_file():
        return path.resolve()
    model = names.parse(path.name) if path.name == name else None
    if model is None:
        raise ModelError(f"model '{name}' not found{names.suggest(name)}; 'pixelkeep models' lists the names")
    return f"{model}.yaml"


def check_model(model: str | Path, channels: int = 3) -> dict:
    """Build a model on the meta device and return its definition.

    Args:
        model: As :func:`resolve_model` returns it.
        channels: Input channels.

    Raises:
        ModelError: It is no model definition, cannot be built, or does not detect boxes.
    """
    if isinstance(model, Path) and model.suffix == ".pt":
        checkpoint = load(model)
        network = checkpoint.get("ema") or checkpoint["model"]
        _require_detection(network.task, model)
        return network.yaml
    definition = _read(model) if isinstance(model, Path) else names.parse(model).definition()
    try:
        with torch.device("meta"):
            tasks.parse_model(deepcopy(definition), channels, False)
        _require_detection(tasks.guess_model_task(definition), model)
    except PixelkeepError:
        raise
    except Exception as error:  # Ultralytics' parser fails in whatever way a wrong row makes it fail
        shown = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"model '{model}' cannot be built ({shown}); check its rows and scales") from error
    return definition


def _require_detection(task: str, model: str | Path) -> None:
    if task != "detect":
        raise ModelError(f"model '{model}' is for task '{task}'; these commands work with detection models")


def _read(path: Path) -> dict:
    """Return the mapping in a model YAML, its scale filled in."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"model '{path}': not a YAML file ({str(error).splitlines()[0]})") from error
    rows = isinstance(content, dict) and [content.get(key) for key in ("backbone", "head")]
    if not rows or not all(isinstance(part, list) and all(isinstance(row, list) for row in part) for part in rows):
        raise ModelError(f"model '{path}': not a model definition; it needs 'backbone' and 'head' with lists of rows")
    return tasks.yaml_model_load(path)
