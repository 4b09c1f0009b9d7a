"""Detection in images, videos and streams: annotated copies, label files, crops and COCO results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ultralytics.engine.results import Results
from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, SourceError, choices, nearest
from pixelkeep.ultra import runs
from pixelkeep.ultra.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.confidence import stored_in
from pixelkeep.ultra.console import Bar
from pixelkeep.ultra.predictor import Predictor
from pixelkeep.ultra.settings import for_ultralytics
from pixelkeep.ultra.sources import download, is_file_address, is_live, resolve_sources
from pixelkeep.writing import PARTIAL, write_text

NO_FRAME = "no picture or frame can be read from it"


@dataclass
class Summary:
    """What was found.

    Attributes:
        folder: The run folder with the annotated copies.
        weights: The weights that were used.
        images: How many images and frames were looked at.
        detections: How many objects were found, by class.
        unreadable: For each file that was left out the reason why it cannot be read.
        speed_ms: Milliseconds an image for preprocess, inference and postprocess.
        confidence: Lowest confidence of what was kept, or that of each class.
    """

    folder: Path
    weights: Path
    images: int = 0
    detections: Counter = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    speed_ms: dict[str, float] = field(default_factory=dict)
    confidence: float | dict[str, float] = 0.25

    def to_dict(self) -> dict:
        shown = {**asdict(self), "folder": str(self.folder), "weights": str(self.weights)}
        return {"schema": 1, "task": "detect", **shown, "detections": dict(self.detections.most_common())}


def detect(
    settings: dict,
    *,
    sources: list[str],
    classes: str | None,
    save_json: bool,
    save_video: bool | None,
    auto_conf: bool = False,
) -> Summary:
    """Detect in sources.

    Args:
        settings: As :func:`pixelkeep.ultra.settings.merge` gives them, with ``weights``.
        sources: See :func:`pixelkeep.ultra.sources.resolve_sources`.
        classes: Keep only these: names or numbers, separated by commas.
        save_json: Write predictions.json in COCO results form.
        save_video: Write annotated videos; None for files yes and webcams and streams no.
        auto_conf: Take each class's lowest confidence from the weights.

    Raises:
        PixelkeepError: Anything in the settings that cannot be used; nothing has been written then.
    """
    settings = dict(settings)
    if save_video and not settings.get("save", True):
        raise OptionError("--save-video needs annotated copies: leave out --no-save")
    source = resolve_sources(sources)
    given = settings.pop("weights", None)
    weights = check_weights(given or runs.newest_weights())
    if not given:
        LOGGER.info(f"no weights given: using {weights}, trained last")
    checkpoint = load(weights)
    model = model_of(checkpoint)
    if getattr(model, "task", "detect") != "detect":
        raise OptionError(f"weights '{weights}' are for task '{model.task}'; this command runs detection models")
    if classes is not None:
        settings["classes"] = _class_numbers(classes, model.names)
    settings.setdefault("imgsz", trained_size(checkpoint))
    least = _stored_confidences(checkpoint, weights, settings) if auto_conf else None
    settings.setdefault("rect", not isinstance(settings["imgsz"], list))  # no more padding than the stride asks for
    project, name, exist_ok = (settings.pop(key, None) for key in ("project", "name", "exist_ok"))
    folder = runs.new_run(project, name, kind="detect", exist_ok=bool(exist_ok))
    settings.update(model=str(weights), mode="predict", save_dir=str(folder))
    if save_video is None:
        save_video = isinstance(source, list) or not is_live(source)
    try:
        with runs.storage(folder):
            runs.clear(folder, ("predictions.json",))
            channels, stretch = model.yaml.get("channels", 3), model.yaml.get("stretch")
            predictor = Predictor(for_ultralytics(settings), save_video, channels, stretch, least)
            if isinstance(source, str) and is_file_address(source):
                source = [download(source, folder / PARTIAL)]
            shown = dict(zip(model.names.values(), least, strict=True)) if least else predictor.args.conf
            return _run(predictor, source, Summary(folder, weights, confidence=shown), save_json)
    finally:
        with suppress(OSError):
            for unused in (folder, folder.parent):
                unused.rmdir()  # only if nothing has been written


def _run(predictor: Predictor, source: str | list[str], summary: Summary, save_json: bool) -> Summary:
    """Detect in ``source``."""
    files = source if isinstance(source, list) else []
    if files:  # Ultralytics takes images alone as a list, but images and videos from a list file
        source = str(summary.folder / PARTIAL / "sources.txt")
        write_text(Path(source), "".join(f"{file}\n" for file in files))
    records: list[dict] = []
    frames: Counter = Counter()
    try:
        with predictor.reading(), closing(_shown(predictor(source, stream=True), predictor.args.verbose)) as results:
            for result in results:
                summary.images += 1
                frames[result.path] += 1
                summary.detections.update(result.names[int(c)] for c in result.boxes.cls)
                if save_json:
                    number = frames[result.path] * predictor.args.vid_stride
                    records += _records(result, summary.images, number if predictor.dataset.mode != "image" else None)
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
    if save_json:
        runs.write_json(summary.folder / "predictions.json", records)
    summary.speed_ms = {key: round(value, 3) for key, value in (predictor.speed or {}).items()}
    return summary


def _shown(results: Generator, verbose: bool) -> Generator:
    """Pass results on with a progress bar, which appears with the first of them."""
    bar = None
    with closing(results):
        try:
            for result in results:
                bar = bar or Bar(desc="detecting", unit="img", disable=verbose)
                bar.update()
                yield result
        finally:
            if bar is not None:
                bar.close()


def _records(result: Results, image_id: int, frame: int | None) -> list[dict]:
    """Return one image's detections in COCO results form, with the names that its ids stand for."""
    rows = zip(result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), strict=True)
    where = {"image_id": image_id, "file_name": Path(result.path).name, **({"frame": frame} if frame else {})}
    return [
        {
            **where,
            "category_id": int(cls) + 1,
            "category": result.names[int(cls)],
            "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(conf, 6),
        }
        for (x1, y1, x2, y2), conf, cls in rows
    ]


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
