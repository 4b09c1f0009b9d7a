"""Detection in images, videos and streams: annotated copies, label files, crops and COCO results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ultralytics.engine.results import Results
from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, SourceError, choices, nearest
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.data.sources import download, is_file_address, is_live, resolve_sources
from pixelkeep.ultra.predictors.base import RunPredictor
from pixelkeep.ultra.predictors.boxes import Predictor
from pixelkeep.ultra.predictors.detection_csv import to_csv
from pixelkeep.ultra.predictors.labels import ClassPredictor, MaskPredictor
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.console import Bar
from pixelkeep.ultra.running.settings import check_task, for_ultralytics
from pixelkeep.ultra.tiled.images import Request
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tracking import frames as tracking
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.weights.confidence import stored_in
from pixelkeep.ultra.weights.exported import Exported
from pixelkeep.ultra.weights.fitting import refuse, refuse_options
from pixelkeep.writing import PARTIAL, write_text

NO_FRAME = "no picture or frame can be read from it"
WHOLE = Request()  # images as a whole
PREDICTORS = {"detect": Predictor, "classify": ClassPredictor, "semantic": MaskPredictor}
COUNTED = {"detect": "detections", "classify": "images_by_class", "semantic": "pixels"}  # names of the counts


@dataclass
class Summary:
    """What was found.

    Attributes:
        folder: The run folder with the annotated copies.
        weights: The weights that were used.
        task: What they are for, in Ultralytics' name.
        images: How many images and frames were looked at.
        detections: By class, how many objects were found; of classification images, of segmentation pixels.
        unreadable: For each file that was left out the reason why it cannot be read.
        speed_ms: Milliseconds an image for preprocess, inference and postprocess.
        confidence: Lowest confidence of what was kept, or that of each class.
        tile: How images were cut into tiles; None if they were not.
        seams: What became of the boxes of tiles; see :meth:`pixelkeep.tiling.Seams.report`.
        track: Which tracker, and what it did; see :meth:`pixelkeep.ultra.tracking.frames.Tracking.report`.
    """

    folder: Path
    weights: Path
    task: str = "detect"
    images: int = 0
    detections: Counter = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    speed_ms: dict[str, float] = field(default_factory=dict)
    confidence: float | dict[str, float] = 0.25
    tile: dict | None = None
    seams: dict | None = None
    track: dict | None = None

    def to_dict(self) -> dict:
        shown = {**asdict(self), "folder": str(self.folder), "weights": str(self.weights)}
        del shown["detections"]  # a Counter does not survive being copied there
        counts = dict(self.detections.most_common())
        if self.task != "detect":
            shown = {key: value for key, value in shown.items() if key not in ("confidence", "tile", "seams", "track")}
        return {"schema": 1, "task": self.task, **shown, COUNTED[self.task]: counts}


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

    Raises:
        PixelkeepError: Anything in the settings that cannot be used; nothing has been written then.
    """
    settings = dict(settings)
    tiling.check()
    if save_video and not settings.get("save", True):
        raise OptionError("--save-video needs annotated copies: leave out --no-save")
    source = resolve_sources(sources)
    tracker = tracking.check(track, source) if track else None
    given = settings.pop("weights", None)
    weights = check_weights(given or runs.newest_weights(), exported=True)
    if not given:
        LOGGER.info(f"no weights given: using {weights}, trained last")
    checkpoint = load(weights)
    model = model_of(checkpoint)
    task = tasks.of_model(weights)
    if task is not tasks.DETECT:
        refuse_options("detect", task.name, (tiling, WHOLE))
        refuse("detect", task.name, {"classes": classes, "save-csv": save_csv, "conf auto": auto_conf, "track": track})
    check_task(settings, "detect", task.name)
    if save_masks and task is not tasks.SEMANTIC:
        raise OptionError(
            f"--save-masks has no effect in detect for task '{task.name}'; it is for semantic segmentation"
        )
    if classes is not None:
        settings["classes"] = _class_numbers(classes, model.names)
    if isinstance(model, Exported):
        model.fit(settings, weights, tiled=tiling != WHOLE)
    tiles = tiling.resolve(checkpoint, settings)
    settings.setdefault("imgsz", tiles.imgsz if tiles else trained_size(checkpoint))
    least = _stored_confidences(checkpoint, weights, settings) if auto_conf else None
    settings.setdefault("rect", not isinstance(settings["imgsz"], list))  # no more padding than the stride asks for
    project, name, exist_ok = (settings.pop(key, None) for key in ("project", "name", "exist_ok"))
    folder = runs.new_run(project, name, kind="detect", exist_ok=bool(exist_ok))
    settings.update(model=str(weights), mode="predict", save_dir=str(folder))
    if save_video is None:
        save_video = isinstance(source, list) or not is_live(source)
    try:
        with runs.storage(folder):
            runs.clear(folder, ("predictions.json", "predictions.csv"))
            channels, stretch = model.yaml.get("channels", 3), model.yaml.get("stretch")
            given = (for_ultralytics(settings), save_video, channels, stretch, *([least] if least else []))
            predictor = TiledPredictor(tiles, *given) if tiles else PREDICTORS[task.name](*given)
            if isinstance(source, str) and is_file_address(source):
                source = [download(source, folder / PARTIAL)]
            lowest = least or [settings.get("conf") or 0.0] * len(model.names)
            tracks = tracking.follow(predictor, tracker, lowest, folder) if tracker else None
            shown = dict(zip(model.names.values(), least, strict=True)) if least else None
            shown = shown or settings.get("conf") or predictor.args.conf
            summary = Summary(folder, weights, task.name, confidence=shown, tile=tiles and tiles.protocol())
            with tracks or nullcontext():
                return _run(predictor, source, summary, save_json, save_csv, save_masks, tracks)
    finally:
        with suppress(OSError):
            for unused in (folder, folder.parent):
                unused.rmdir()  # only if nothing has been written


def _run(
    predictor: RunPredictor,
    source: str | list[str],
    summary: Summary,
    save_json: bool,
    save_csv: bool,
    save_masks: bool = False,
    tracks: tracking.Tracking | None = None,
) -> Summary:
    """Detect in ``source``."""
    files = source if isinstance(source, list) else []
    if files:  # Ultralytics takes images alone as a list, but images and videos from a list file
        source = str(summary.folder / PARTIAL / "sources.txt")
        write_text(Path(source), "".join(f"{file}\n" for file in files))
    records: list[dict] = []
    frames: Counter = Counter()
    try:
        with predictor.reading(), closing(_shown(predictor, source)) as results:
            for result in results:
                summary.images += 1
                frames[result.path] += 1
                summary.detections.update(result.found())
                moving = predictor.dataset.mode != "image"
                number = frames[result.path] * predictor.args.vid_stride if moving else None
                if save_json or save_csv:
                    records += _records(result, summary.images, number)
                if save_masks:
                    stem = Path(result.path).stem + (f"_{number}" if moving else "")
                    result.save_mask(summary.folder / "masks" / f"{stem}.png")
        missing = (file for file in files if file not in frames)
        summary.unreadable = {file: predictor.unreadable.get(file, NO_FRAME) for file in missing}
    except KeyboardInterrupt:
        LOGGER.info("Interrupted: keeping what has been found")
    except (ConnectionError, FileNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"source '{source}' cannot be opened ({reason}); is it there and connected?") from error
    predictor.finish_videos()
    if summary.unreadable and not summary.images:
        file, reason = next(iter(summary.unreadable.items()))
        raise SourceError(f"source '{file}': {reason}; it may be damaged")
    _write(summary.folder, records, save_json, save_csv, tracks is not None)
    if isinstance(predictor, TiledPredictor):
        summary.seams = predictor.seams.report()
    summary.track = tracks and tracks.report()
    summary.speed_ms = {key: round(value, 3) for key, value in (predictor.speed or {}).items()}
    return summary


def _write(folder: Path, records: list[dict], save_json: bool, save_csv: bool, tracked: bool) -> None:
    """Write what was found in the forms that are asked for."""
    if save_json:
        runs.write_json(folder / "predictions.json", records)
    if save_csv:
        write_text(folder / "predictions.csv", to_csv(records, tracked))


def _shown(predictor: RunPredictor, source: str | list[str]) -> Generator:
    """Detect in ``source`` with a progress bar, which appears with the first result."""
    bar = None
    without = predictor.args.verbose or isinstance(predictor, TiledPredictor)  # which has a bar of its own
    with closing(predictor(source, stream=True)) as results:
        try:
            for result in results:
                bar = bar or Bar(desc="detecting", unit="img", disable=without)
                bar.update()
                yield result
        finally:
            if bar is not None:
                bar.close()


def _records(result: Results, image_id: int, frame: int | None) -> list[dict]:
    """Return what was found in one image, in COCO results form where that is objects."""
    where = {"image_id": image_id, "file_name": Path(result.path).name, **({"frame": frame} if frame else {})}
    return [{**where, **row} for row in result.records()]


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
