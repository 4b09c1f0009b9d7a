"""Checks of a detection, so that whatever must be refused is refused before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.evaluation.operating import Objective, trusted
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.commands.asked import WHOLE, Asked
from pixelkeep.ultra.commands.summary import OBJECTS
from pixelkeep.ultra.data.sources import images_in, is_live, resolve_sources
from pixelkeep.ultra.network.choosing import STATIC, check_choice
from pixelkeep.ultra.predictors.regions import layers_shown
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import check_task
from pixelkeep.ultra.tiled.images import Tiles
from pixelkeep.ultra.tracking import frames as tracking
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.weights.confidence import stored_in
from pixelkeep.ultra.weights.exported import Exported
from pixelkeep.ultra.weights.fitting import refuse, refuse_options


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A detection in which everything has been checked.

    Attributes:
        settings: Ultralytics' settings, with the size of the network's input.
        source: Files, or a live source.
        weights: Path of the weights file.
        model: The network in the weights.
        task: Task of the network.
        tiles: Tiles that images are cut into; None for whole images.
        tracker: Tracker that gives objects identities; None for no tracking.
        least: Lowest confidence of each class, from the weights; None if these are not to be used.
        saves_video: Whether annotated videos are written.
    """

    settings: dict[str, Any]
    source: str | list[str]
    weights: Path
    model: Any
    task: tasks.Task
    tiles: Tiles | None
    tracker: Any
    least: list[float] | None
    saves_video: bool


def prepare(settings: dict[str, Any], asked: Asked, *, again: bool) -> Plan:
    """Check what is requested of detect, and return the completed plan.

    Args:
        settings: Settings as :func:`pixelkeep.ultra.running.settings.merge` returns them, with ``weights``.
        asked: Everything else that was requested.
        again: Whether an earlier run is resumed.

    Raises:
        PixelkeepError: Something that was requested cannot be used.
    """
    settings = dict(settings)
    _check_alone(asked, settings)
    source = resolve_sources(asked.sources, again=again)
    _check_rate(asked.fps, source)
    tracker = tracking.check(asked.track, source) if asked.track else None
    weights = _weights(settings)
    checkpoint = load(weights)
    model = model_of(checkpoint)
    task = tasks.of_model(weights, oriented=True)
    _check_task(task, asked)
    check_task(settings, "detect", tasks.DETECT.name if task in OBJECTS else task.name)
    if asked.classes is not None:
        settings["classes"] = _class_numbers(asked.classes, model.names)
    if asked.show_regions:
        layers_shown(model, weights)
    _fit_export(model, settings, weights, asked)
    tiles = asked.tiling.resolve(checkpoint, settings)
    settings.setdefault("imgsz", tiles.imgsz if tiles else trained_size(checkpoint))
    settings.setdefault("rect", not isinstance(settings["imgsz"], list))  # no more padding than the stride requires
    return Plan(
        settings=settings,
        source=source,
        weights=weights,
        model=model,
        task=task,
        tiles=tiles,
        tracker=tracker,
        least=_stored_confidences(checkpoint, weights, settings) if asked.auto_conf else None,
        saves_video=_saves_video(asked, source),
    )


def _saves_video(asked: Asked, source: str | list[str]) -> bool:
    """Return whether annotated videos are written: as requested, else for all but live sources."""
    return asked.save_video if asked.save_video is not None else isinstance(source, list) or not is_live(source)


def _check_alone(asked: Asked, settings: dict) -> None:
    """Refuse options that exclude or require each other, whatever the weights and the source are."""
    asked.tiling.check()
    check_choice(asked.fold)
    copies = settings.get("save", True)
    if asked.raster_crs and not asked.save_geojson:
        raise OptionError("--raster-crs has no effect without --save-geojson; give both")
    if asked.save_geojson and asked.tiling == WHOLE:
        raise OptionError("--save-geojson needs --tile 640, or --tile auto: georeferenced images are read in tiles")
    if asked.save_video and not copies:
        raise OptionError("--save-video needs annotated copies: leave out --no-save")
    if asked.show_regions and asked.tiling != WHOLE:
        raise OptionError("--show-regions has no effect with --tile: each tile has regions of its own")
    if asked.show_regions and not copies and not settings.get("show"):
        raise OptionError("--show-regions needs annotated copies: leave out --no-save")


def _weights(settings: dict) -> Path:
    """Remove the weights from the settings, and return their path; without any, use those that were trained last."""
    given = settings.pop("weights", None)
    weights = check_weights(given or runs.newest_weights(), exported=True)
    if not given:
        LOGGER.info(f"no weights given: using {weights}, trained last")
    return weights


def _check_task(task: tasks.Task, asked: Asked) -> None:
    """Refuse options for objects only, or for pixels only, if the weights are for another task."""
    options = {"classes": asked.classes, "save-csv": asked.save_csv, "conf auto": asked.auto_conf, "track": asked.track}
    if task is tasks.ORIENTED:
        refuse("detect", task.name, {name: options[name] for name in ("conf auto", "track")})
    elif task is not tasks.DETECT:
        refuse_options("detect", task.name, (asked.tiling, WHOLE))
        refuse("detect", task.name, options)
    if asked.save_masks and task is not tasks.SEMANTIC:
        raise OptionError(
            f"--save-masks has no effect in detect for task '{task.name}'; it is for semantic segmentation"
        )


def _fit_export(model: Any, settings: dict, weights: Path, asked: Asked) -> None:
    """Complete the settings with those that an exported file was made for; do nothing for a checkpoint."""
    if isinstance(model, Exported):
        if asked.fold != STATIC:
            raise OptionError(
                f"--fold {asked.fold}: the folding of '{weights}' was fixed at export; export again with --fold"
            )
        model.fit(settings, weights, tiled=asked.tiling != WHOLE)


def _check_rate(fps: float | None, source: str | list[str]) -> None:
    """Refuse a frame rate that is no positive number, or that is given for images."""
    if fps is None:
        return
    if not (fps > 0 and isfinite(fps)):
        raise OptionError(f"--fps {fps:g}: give a number of frames a second above 0, such as 10")
    for file in images_in(source):
        raise OptionError(f"--fps has no effect on images ({Path(file).name}); give videos, a webcam or a stream")


def _stored_confidences(checkpoint: dict, weights: Path, settings: dict) -> list[float]:
    """Return the confidences stored in the weights, one per class, and log where they do not quite apply."""
    if settings.get("conf") is not None:
        raise OptionError(f"--conf auto and conf={settings['conf']} exclude each other; leave one out")
    stored = stored_in(checkpoint, weights, len(model_of(checkpoint).names))
    if stored.imgsz != settings["imgsz"]:
        LOGGER.warning(f"The confidences were chosen at imgsz {stored.imgsz}, but this run uses {settings['imgsz']}.")
    if stored.objective != Objective().aim:
        return stored.confidence
    confidences = trusted(stored.confidence)
    for name, own, used in zip(model_of(checkpoint).names.values(), stored.confidence, confidences, strict=True):
        if own != used:
            LOGGER.info(
                f"{name}: hardly any were found in validation, so confidence {used:.3f} is used, not its own {own:.3f}"
            )
    return confidences


def _class_numbers(classes: str, names: dict[int, str]) -> list[int]:
    """Return the class numbers of a text such as ``"car,2"``."""
    by_name = {name.casefold(): index for index, name in names.items()}
    numbers = []
    for item in (part.strip() for part in classes.split(",")):
        number = int(item) if item.isdigit() else by_name.get(item.casefold())
        if number is None or number not in names:
            hint = nearest(item, names.values())
            raise OptionError(f"--classes {item}: no such class{hint} (classes: {choices(names.values(), 20)})")
        numbers.append(number)
    return numbers
