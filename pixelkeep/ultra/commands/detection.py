"""Detection in images, videos and streams: annotated copies, label files, crops and COCO results."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.ultra.commands import resuming
from pixelkeep.ultra.commands.asked import OF_THE_PLACE, Asked
from pixelkeep.ultra.commands.journal import NAME
from pixelkeep.ultra.commands.looking import look
from pixelkeep.ultra.commands.plan import Plan, prepare
from pixelkeep.ultra.commands.results import FILE
from pixelkeep.ultra.commands.summary import OBJECTS, Summary
from pixelkeep.ultra.data.shrinking import ShrinkWarning
from pixelkeep.ultra.data.sources import download, is_file_address
from pixelkeep.ultra.predictors.base import RunPredictor
from pixelkeep.ultra.predictors.boxes import Predictor
from pixelkeep.ultra.predictors.labels import ClassPredictor, MaskPredictor
from pixelkeep.ultra.predictors.oriented import OrientedPredictor
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import for_ultralytics
from pixelkeep.ultra.tiled.maps import MapFiles
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tracking import frames as tracking
from pixelkeep.writing import PARTIAL

PREDICTORS = {"detect": Predictor, "obb": OrientedPredictor, "classify": ClassPredictor, "semantic": MaskPredictor}


def detect(settings: dict[str, Any], asked: Asked, *, folder: Path | None = None) -> Summary:
    """Detect in images, videos or streams, and return a summary of the run.

    Args:
        settings: Settings as :func:`pixelkeep.ultra.running.settings.merge` returns them, with ``weights``.
        asked: Everything else that was requested.
        folder: Folder of a run to resume, whose settings and request are given unchanged; None for a new run.

    Raises:
        PixelkeepError: Something in the settings cannot be used; nothing has been written in that case.
    """
    resumed = folder is not None
    plan = prepare(settings, asked, again=resumed)
    project, name, exist_ok = (plan.settings.pop(key, None) for key in OF_THE_PLACE)
    folder = folder or runs.new_run(project, name, kind="detect", exist_ok=bool(exist_ok))
    try:
        with runs.storage(folder):
            runs.clear(folder, () if resumed else ("predictions.json", "predictions.csv", NAME, FILE, runs.ASKED))
            return _run(plan, asked, asked.kept(settings, plan.source, plan.weights, plan.tiles), folder)
    finally:
        with suppress(OSError):
            for unused in (folder, folder.parent):
                unused.rmdir()  # succeeds only if nothing has been written


def resume(
    run: str | None, flags: dict[str, Any], asked: Asked, *, requested: bool, assignments: list[str] | None
) -> Summary:
    """Resume an interrupted run without repeating what is finished.

    Args:
        run: A run folder; None for the newest unfinished run.
        flags: Settings given on the command line, of which only those in
            :data:`pixelkeep.ultra.commands.resuming.CHANGEABLE` may be set.
        asked: What else was given on the command line, which must be nothing.
        requested: Whether --resume was given.
        assignments: Values of --set, which must be none.

    Raises:
        PixelkeepError: There is no such run, or an option is given that would make it a different run.
    """
    others = [*asked.given(), *(f"--set {each}" for each in assignments or [])]
    folder, settings, before = resuming.asked_before(run, flags, others, requested=requested)
    LOGGER.info(f"Resuming {folder}")
    return detect(settings, before, folder=folder)


def _run(plan: Plan, asked: Asked, kept: dict[str, Any], folder: Path) -> Summary:
    """Run a planned detection, and write its results into a folder."""
    source = plan.source
    predictor = _predictor(plan, asked, folder)
    if isinstance(source, str) and is_file_address(source):
        source = [download(source, folder / PARTIAL)]
    tracks = tracking.follow(predictor, plan.tracker, _lowest(plan), folder) if plan.tracker else None
    tile = plan.tiles and plan.tiles.protocol()
    shown = _shown(plan) or predictor.args.conf
    summary = Summary(folder, plan.weights, plan.task.name, confidence=shown, tile=tile, fps=asked.fps)
    with tracks or nullcontext():
        done = resuming.what_is_done(folder, plan.saves_video and plan.settings.get("save", True))
        resuming.go_on(predictor, done, tracks, folder)
        return look(predictor, source, summary, asked, kept, done, tracks)


def _predictor(plan: Plan, asked: Asked, folder: Path) -> RunPredictor:
    """Return the predictor for the plan, which processes images in tiles or whole."""
    settings = for_ultralytics(plan.settings | {"model": str(plan.weights), "mode": "predict", "save_dir": str(folder)})
    channels, stretch = plan.model.yaml.get("channels", 3), plan.model.yaml.get("stretch")
    given = (settings, plan.saves_video, channels, stretch, *([plan.least] if plan.least else []))
    predictor = TiledPredictor(plan.tiles, *given) if plan.tiles else PREDICTORS[plan.task.name](*given)
    predictor.maps = MapFiles(folder, asked.raster_crs) if asked.save_geojson else None
    predictor.folding = asked.fold
    predictor.rate = asked.fps
    predictor.show_regions = asked.show_regions
    if plan.task in OBJECTS and not plan.tiles:
        predictor.add_callback("on_predict_batch_start", ShrinkWarning())
    return predictor


def _lowest(plan: Plan) -> list[float]:
    """Return the lowest confidence of each class."""
    return plan.least or [plan.settings.get("conf") or 0.0] * len(plan.model.names)


def _shown(plan: Plan) -> dict[str, float] | float | None:
    """Return the lowest confidence, by class name if classes have their own; None if none is given."""
    if plan.least:
        return dict(zip(plan.model.names.values(), plan.least, strict=True))
    return plan.settings.get("conf")
