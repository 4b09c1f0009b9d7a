"""``--model``: a name of ours, a model YAML or a checkpoint, checked by building it before anything is written."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import torch
import yaml
from ultralytics.nn import tasks

from pixelkeep.errors import ModelError, PixelkeepError
from pixelkeep.ultra.network import names
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of
from pixelkeep.ultra.weights.formats import format_of

PROBE = 256  # pixels a side, as Ultralytics takes to measure the strides of a network


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
        advice = "'pixelkeep models' lists the names"
        raise ModelError(f"model '{name}' not found{names.suggest(name, advice)}")
    return f"{model}.yaml"


def task_of(model: str | Path) -> str:
    """Return Ultralytics' name of the task that a model is for.

    Args:
        model: As :func:`resolve_model` returns it.
    """
    if isinstance(model, Path) and (model.suffix == ".pt" or format_of(model)):
        return model_of(load(model)).task
    return tasks.guess_model_task(_definition(model))


def _definition(model: str | Path) -> dict:
    """Return what a model is built from."""
    if isinstance(model, Path) and model.suffix == ".pt":
        return _require_rows(model_of(load(model)).yaml, model)
    return _read(model) if isinstance(model, Path) else names.parse(model).definition()


def check_model(model: str | Path, channels: int = 3, task: str = "detect") -> dict:
    """Build and run a model on the meta device, and return its definition.

    Args:
        model: As :func:`resolve_model` returns it.
        channels: Input channels.
        task: What it is to be for, in Ultralytics' name.

    Raises:
        ModelError: It is no model definition, cannot be built, or is for another task.
    """
    definition = _definition(model)
    _require_task(task_of(model), task, model)
    _refuse_downloads(definition, model)
    try:
        network = tasks.BaseModel()
        with torch.device("meta"):
            network.model, network.save = tasks.parse_model(deepcopy(definition), channels, False)
        with torch.no_grad():  # in training mode: decoding needs real anchors; two: one value cannot be normalised
            network.train()(torch.empty(2, channels, PROBE, PROBE, device="meta"))
        yaml.safe_dump(definition)  # as the run folder will hold it
    except PixelkeepError:
        raise
    except Exception as error:  # Ultralytics' parser fails in whatever way a wrong row makes it fail
        shown = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"model '{model}' cannot be built ({shown}); check its rows and scales") from error
    return definition


def _require_task(found: str, task: str, model: str | Path) -> None:
    if found != task:
        what = "detection models" if task == "detect" else f"models for task '{task}'"
        raise ModelError(f"model '{model}' is for task '{found}'; this command works with {what}")


def _read(path: Path) -> dict:
    """Return the mapping in a model YAML, its scale filled in."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"model '{path}': not a YAML file ({str(error).splitlines()[0]})") from error
    _require_rows(content, path)
    definition = tasks.yaml_model_load(path)
    if not definition["scale"]:  # Ultralytics takes the first, and says so when it builds the network
        definition["scale"] = next(iter(definition.get("scales") or ()), "")
    return definition


def _require_rows(content: object, path: Path) -> dict:
    """Return the definition if it has the two lists of rows that make one."""
    rows = isinstance(content, dict) and [content.get(key) for key in ("backbone", "head")]
    if not rows or not all(isinstance(part, list) and all(isinstance(row, list) for row in part) for part in rows):
        raise ModelError(f"model '{path}': not a model definition; it needs 'backbone' and 'head' with lists of rows")
    return content


def _refuse_downloads(definition: dict, model: str | Path) -> None:
    """Refuse a row for which Ultralytics would fetch pretrained weights while it builds the network."""
    for row in definition["backbone"] + definition["head"]:
        if row[2:3] == ["TorchVision"] and not (len(row) > 3 and row[3][2:3] in ([None], ["None"])):
            raise ModelError(
                f"model '{model}': row {row} downloads weights; write None as third argument of TorchVision"
            )
