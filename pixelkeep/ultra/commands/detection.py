"""Detection in images, videos and streams: annotated copies, label files, crops and COCO results."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from inspect import signature
from math import isfinite
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.ultra.commands import resuming, tasks
from pixelkeep.ultra.commands.journal import NAME
from pixelkeep.ultra.commands.looking import SUMMARY, Wanted, look
from pixelkeep.ultra.commands.summary import OBJECTS, Summary
from pixelkeep.ultra.data.sources import download, images_in, is_file_address, is_live, resolve_sources
from pixelkeep.ultra.network.choosing import STATIC, check_choice
from pixelkeep.ultra.predictors.base import RunPredictor
from pixelkeep.ultra.predictors.boxes import Predictor
from pixelkeep.ultra.predictors.labels import ClassPredictor, MaskPredictor
from pixelkeep.ultra.predictors.oriented import OrientedPredictor
from pixelkeep.ultra.predictors.regions import layers_shown
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import check_task, for_ultralytics
from pixelkeep.ultra.tiled.images import Request, Tiles
from pixelkeep.ultra.tiled.maps import MapFiles
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tracking import frames as tracking
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.weights.confidence import stored_in
from pixelkeep.ultra.weights.exported import Exported
from pixelkeep.ultra.weights.fitting import refuse, refuse_options
from pixelkeep.writing import PARTIAL

WHOLE = Request()  # images as a whole
PREDICTORS = {"detect": Predictor, "obb": OrientedPredictor, "classify": ClassPredictor, "semantic": MaskPredictor}


def detect(
    settings: dict,
    *,
    sources: list[str],
    classes: str | None,
    save_json: bool,
    save_video: bool | None,
    save_csv: bool = False,
    save_masks: bool = False,
    auto_conf: bool = False,
    tiling: Request = WHOLE,
    track: str | None = None,
    fps: float | None = None,
    fold: str = STATIC,
    save_geojson: bool = False,
    raster_crs: bool = False,
    show_regions: bool = False,
    folder: Path | None = None,
) -> Summary:
    """Detect in sources.

    Args:
        settings: As :func:`pixelkeep.ultra.running.settings.merge` gives them, with ``weights``.
        sources: See :func:`pixelkeep.ultra.data.sources.resolve_sources`.
        classes: Keep only these: names or numbers, separated by commas.
        save_json: Write predictions.json in COCO results form.
        save_video: Write annotated videos; None for files yes and webcams and streams no.
        save_csv: Write predictions.csv, one line a detection.
        save_masks: Write what semantic segmentation says of each pixel, as PNG.
        auto_conf: Take each class's lowest confidence from the weights.
        tiling: The tiles that images are cut into; none by default.
        track: The tracker that gives what is found in videos identities, a name or file; None for none.
        fps: Frames of a video or stream that are got through a second; None for as fast as it goes.
        fold: What is folded of a network in PyTorch; see :mod:`pixelkeep.ultra.network.choosing`.
        save_geojson: Write what is found in georeferenced images in map coordinates.
        raster_crs: Of them, those of each image's own reference system.
        show_regions: Draw dark what the network's masks leave out.
        folder: Of the run that is gone on with, everything else being as it was; None for a new run.

    Raises:
        PixelkeepError: Anything in the settings that cannot be used; nothing has been written then.
    """
    asked = dict(locals())  # all of it, for going on
    settings = dict(settings)
    tiling.check()
    check_choice(fold)
    _check_map(save_geojson, raster_crs, tiling)
    if save_video and not settings.get("save", True):
        raise OptionError("--save-video needs annotated copies: leave out --no-save")
    source = resolve_sources(sources, again=folder is not None)
    _check_rate(fps, source)
    tracker = tracking.check(track, source) if track else None
    weights = _weights(settings)
    checkpoint = load(weights)
    model = model_of(checkpoint)
    task = tasks.of_model(weights, oriented=True)
    _check_task(task, tiling, {"classes": classes, "save-csv": save_csv, "conf auto": auto_conf, "track": track})
    check_task(settings, "detect", _rules(task))
    _check_masks(save_masks, task)
    if classes is not None:
        settings["classes"] = _class_numbers(classes, model.names)
    _check_regions(show_regions, model, weights, tiling, settings)
    _fit_export(model, settings, weights, tiling, fold)
    tiles = tiling.resolve(checkpoint, settings)
    settings.setdefault("imgsz", tiles.imgsz if tiles else trained_size(checkpoint))
    least = _stored_confidences(checkpoint, weights, settings) if auto_conf else None
    settings.setdefault("rect", not isinstance(settings["imgsz"], list))  # no more padding than the stride asks for
    place = [settings.pop(key, None) for key in ("project", "name", "exist_ok")]
    resumed, folder = folder, folder or runs.new_run(*place[:2], kind="detect", exist_ok=bool(place[2]))
    settings.update(model=str(weights), mode="predict", save_dir=str(folder))
    if save_video is None:
        save_video = isinstance(source, list) or not is_live(source)
    try:
        with runs.storage(folder):
            runs.clear(folder, () if resumed else ("predictions.json", "predictions.csv", NAME, SUMMARY, runs.ASKED))
            predictor = _predictor(model, task, tiles, settings, save_video, least)
            predictor.maps = MapFiles(folder, raster_crs) if save_geojson else None
            predictor.folding = fold
            predictor.rate = fps
            predictor.show_regions = show_regions
            asked = resuming.kept(asked, source, weights)
            if isinstance(source, str) and is_file_address(source):
                source = [download(source, folder / PARTIAL)]
            lowest = least or [settings.get("conf") or 0.0] * len(model.names)
            tracks = tracking.follow(predictor, tracker, lowest, folder) if tracker else None
            shown = dict(zip(model.names.values(), least, strict=True)) if least else settings.get("conf")
            shown = shown or predictor.args.conf
            summary = Summary(folder, weights, task.name, confidence=shown, tile=tiles and tiles.protocol(), fps=fps)
            with tracks or nullcontext():
                done = resuming.what_is_done(folder, save_video and settings.get("save", True))
                resuming.go_on(predictor, done, tracks, folder)
                return look(predictor, source, summary, Wanted(save_json, save_csv, save_masks), asked, done, tracks)
    finally:
        with suppress(OSError):
            for unused in (folder, folder.parent):
                unused.rmdir()  # only if nothing has been written


def resume(
    run: str | None, flags: dict[str, Any], options: dict[str, Any], *, requested: bool, assignments: list[str] | None
) -> Summary:
    """Go on with a run that was interrupted: what is finished is not repeated.

    Args:
        run: A run folder; None for the newest unfinished run.
        flags: Settings given on the command line; see :data:`pixelkeep.ultra.commands.resuming.CHANGEABLE`.
        options: What else :func:`detect` takes.
        requested: Whether --resume was given.
        assignments: What was given as --set.

    Raises:
        PixelkeepError: There is no such run, or something is given that would make it another one.
    """
    defaults = {name: parameter.default for name, parameter in signature(detect).parameters.items()}
    given = [name for name, value in options.items() if value and value != defaults[name]]
    folder, asked = resuming.asked_before(run, flags, [*given, *(assignments or [])], requested=requested)
    LOGGER.info(f"Resuming {folder}")
    return detect(**asked, folder=folder)


def _weights(settings: dict) -> Path:
    """Take the weights out of the settings; those that were trained last where none are given."""
    given = settings.pop("weights", None)
    weights = check_weights(given or runs.newest_weights(), exported=True)
    if not given:
        LOGGER.info(f"no weights given: using {weights}, trained last")
    return weights


def _predictor(
    model: Any, task: tasks.Task, tiles: Tiles | None, settings: dict, save_video: bool, least: list[float] | None
) -> RunPredictor:
    """Return what looks at pictures for a task, in tiles or whole; ``least`` is the lowest confidence of each class."""
    channels, stretch = model.yaml.get("channels", 3), model.yaml.get("stretch")
    given = (for_ultralytics(settings), save_video, channels, stretch, *([least] if least else []))
    return TiledPredictor(tiles, *given) if tiles else PREDICTORS[task.name](*given)


def _fit_export(model: Any, settings: dict, weights: Path, tiling: Request, fold: str) -> None:
    """Give an exported file the settings that it was made for; nothing where it is none."""
    if isinstance(model, Exported):
        if fold != STATIC:
            raise OptionError(f"--fold {fold}: '{weights}' is folded as it was exported; export it with --fold")
        model.fit(settings, weights, tiled=tiling != WHOLE)


def _check_masks(save_masks: bool, task: tasks.Task) -> None:
    """Refuse masks of pixels where none are made."""
    if save_masks and task is not tasks.SEMANTIC:
        raise OptionError(
            f"--save-masks has no effect in detect for task '{task.name}'; it is for semantic segmentation"
        )


def _check_task(task: tasks.Task, tiling: Request, options: dict) -> None:
    """Refuse what is for objects alone where the weights are for another task."""
    if task is tasks.ORIENTED:
        refuse("detect", task.name, {name: options[name] for name in ("conf auto", "track")})
    elif task is not tasks.DETECT:
        refuse_options("detect", task.name, (tiling, WHOLE))
        refuse("detect", task.name, options)


def _check_regions(asked: bool, model: Any, weights: Path, tiling: Request, settings: dict) -> None:
    """Refuse --show-regions where it has no effect."""
    if not asked:
        return
    if tiling != WHOLE:
        raise OptionError("--show-regions has no effect with --tile: each tile has regions of its own")
    if not settings.get("save", True) and not settings.get("show"):
        raise OptionError("--show-regions needs annotated copies: leave out --no-save")
    layers_shown(model, weights)


def _rules(task: tasks.Task) -> str:
    """Return the task whose settings one takes."""
    return tasks.DETECT.name if task in OBJECTS else task.name


def _check_map(save_geojson: bool, raster_crs: bool, tiling: Request) -> None:
    """Refuse map coordinates where there are none."""
    if raster_crs and not save_geojson:
        raise OptionError("--raster-crs has no effect without --save-geojson; give both")
    if save_geojson and tiling == WHOLE:
        raise OptionError("--save-geojson needs --tile 640, or --tile auto: georeferenced images are read in tiles")


def _check_rate(fps: float | None, source: str | list[str]) -> None:
    """Refuse a rate that is none, or where nothing moves."""
    if fps is None:
        return
    if not (fps > 0 and isfinite(fps)):
        raise OptionError(f"--fps {fps:g}: give a number of frames a second above 0, such as 10")
    for file in images_in(source):
        raise OptionError(f"--fps has no effect on images ({Path(file).name}); give videos, a webcam or a stream")


def _stored_confidences(checkpoint: dict, weights: Path, settings: dict) -> list[float]:
    """Return the confidences that the weights hold, one a class, and say where they do not quite belong."""
    if settings.get("conf") is not None:
        raise OptionError(f"--conf auto and conf={settings['conf']} exclude each other; leave one out")
    stored = stored_in(checkpoint, weights, len(model_of(checkpoint).names))
    if stored.imgsz != settings["imgsz"]:
        LOGGER.warning(f"The confidences were chosen at imgsz {stored.imgsz}, and this is {settings['imgsz']}.")
    return stored.confidence


def _class_numbers(classes: str, names: dict[int, str]) -> list[int]:
    """Turn ``"car,2"`` into class numbers."""
    by_name = {name.casefold(): index for index, name in names.items()}
    numbers = []
    for item in (part.strip() for part in classes.split(",")):
        number = int(item) if item.isdigit() else by_name.get(item.casefold())
        if number is None or number not in names:
            hint = nearest(item, names.values())
            raise OptionError(f"--classes {item}: no such class{hint} (classes: {choices(names.values(), 20)})")
        numbers.append(number)
    return numbers
