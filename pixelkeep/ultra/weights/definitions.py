"""``--model``: a model name, a model YAML or a checkpoint, checked by building it before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from ultralytics.nn import tasks

from pixelkeep.errors import ModelError
from pixelkeep.ultra.network import names
from pixelkeep.ultra.weights.building import check_definition, require_rows
from pixelkeep.ultra.weights.checkpoints import check_weights, is_checkpoint, load, model_of
from pixelkeep.ultra.weights.formats import format_of
from pixelkeep.ultra.weights.manifest import published


def resolve_model(name: str) -> str | Path:
    """Return the model that Ultralytics is to build: a model name with ``.yaml``, a YAML file or a checkpoint.

    Raises:
        PixelkeepError: There is no such model, or the file cannot be used.
    """
    path = Path(os.path.expanduser(name))
    if is_checkpoint(path):
        return check_weights(path)
    if len(path.name) < 256 and path.exists() and format_of(path):
        raise ModelError(f"model '{name}': an export, which cannot be trained; give the checkpoint it was made from")
    if len(path.name) < 256 and path.is_file():
        return path.resolve()
    model = names.parse(path.name) if path.name == name else None
    if model is None and published(name):
        return check_weights(name)
    if model is None:
        advice = "'pixelkeep models' lists the names"
        raise ModelError(f"model '{name}' not found{names.suggest(name, advice)}")
    return f"{model}.yaml"


def task_of(model: str | Path) -> str:
    """Return Ultralytics' name of the task that a model is for.

    Args:
        model: The model, as :func:`resolve_model` returns it.
    """
    if isinstance(model, Path) and (is_checkpoint(model) or format_of(model)):
        return model_of(load(model)).task
    return tasks.guess_model_task(_definition(model))


def _definition(model: str | Path) -> dict:
    """Return the definition that a model is built from."""
    if isinstance(model, Path) and is_checkpoint(model):
        return model_of(load(model)).yaml
    return _read(model) if isinstance(model, Path) else names.parse(model).definition()


def check_model(model: str | Path, channels: int = 3, task: str = "detect") -> dict:
    """Build and run a model on the meta device, and return its definition.

    Args:
        model: The model, as :func:`resolve_model` returns it.
        channels: Number of input channels.
        task: Ultralytics' name of the task that the model must be for.

    Raises:
        ModelError: The content is not a model definition, cannot be built, or is for another task.
    """
    definition = _definition(model)
    check_definition(definition, model, channels, task)
    return definition


def _read(path: Path) -> dict:
    """Return the definition in a model YAML, with its scale filled in."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"model '{path}': not a YAML file ({str(error).splitlines()[0]})") from error
    require_rows(content, path)
    definition = tasks.yaml_model_load(path)
    if not definition["scale"]:  # Ultralytics takes the first scale too, and reports it when it builds the network
        definition["scale"] = next(iter(definition.get("scales") or ()), "")
    return definition
