"""Detection in images, videos and streams: annotated copies, label files, crops and COCO results."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ultralytics.engine.results import Results
from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, SourceError, choices, nearest
from pixelkeep.ultra import runs
from pixelkeep.ultra.checkpoints import check_weights, load
from pixelkeep.ultra.console import Bar
from pixelkeep.ultra.predictor import Predictor
from pixelkeep.ultra.settings import for_ultralytics
from pixelkeep.ultra.sources import is_live, resolve_sources


@dataclass
class Summary:
    """What was found.

    Attributes:
        folder: The run folder with the annotated copies.
        weights: The weights that were used.
        images: How many images and frames were looked at.
        detections: How many objects were found, by class.
        unreadable: Files that were left out because they cannot be read.
        speed_ms: Milliseconds an image for preprocess, inference and postprocess.
    """

    folder: Path
    weights: Path
    images: int = 0
    detections: Counter = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    speed_ms: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict:
        shown = {**asdict(self), "folder": str(self.folder), "weights": str(self.weights)}
        return {"schema": 1, "task": "detect", **shown, "detections": dict(self.detections.most_common())}


def detect(
    settings: dict, *, sources: list[str], classes: str | None, save_json: bool, save_video: bool | None
) -> Summary:
    """Detect in sources.

    Args:
        settings: As :func:`pixelkeep.ultra.settings.merge` gives them, with ``weights``.
        sources: See :func:`pixelkeep.ultra.sources.resolve_sources`.
        classes: Keep only these: names or numbers, separated by commas.
        save_json: Write predictions.json in COCO results form.
        save_video: Write annotated videos; None for files yes and webcams and streams no.

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
    model = checkpoint.get("ema") or checkpoint["model"]
    if getattr(model, "task", "detect") != "detect":
        raise OptionError(f"weights '{weights}' are for task '{model.task}'; this command runs detection models")
    if classes is not None:
        settings["classes"] = _class_numbers(classes, model.names)
    settings.setdefault("imgsz", checkpoint.get("train_args", {}).get("imgsz", 640))
    project, name, exist_ok = (settings.pop(key, None) for key in ("project", "name", "exist_ok"))
    folder = runs.new_run(project, name, kind="detect", exist_ok=bool(exist_ok))
    settings.update(model=str(weights), mode="predict", save_dir=str(folder))
    files = source if isinstance(source, list) else []
    if save_video is None:
        save_video = bool(files) or not is_live(source)
    predictor = Predictor(for_ultralytics(settings), save_video=save_video)
    listed = folder / "sources.txt"
    if files:  # Ultralytics takes images alone as a list, but images and videos from a list file
        runs.write_text(listed, "".join(f"{file}\n" for file in files))
    try:
        return _run(predictor, str(listed) if files else source, files, Summary(folder, weights), save_json)
    finally:
        listed.unlink(missing_ok=True)
        with suppress(OSError):
            for unused in (folder, folder.parent):
                unused.rmdir()  # only if nothing has been written


def _run(predictor: Predictor, source: str, files: list[str], summary: Summary, save_json: bool) -> Summary:
    """Detect in ``source``; ``files`` are the pictures and videos that it stands for, where that is known."""
    records: list[dict] = []
    frames: Counter = Counter()
    bar = Bar(desc="detecting", unit="img", disable=predictor.args.verbose)
    try:
        for result in predictor(source, stream=True):
            summary.images += 1
            bar.update()
            frames[result.path] += 1
            summary.detections.update(result.names[int(c)] for c in result.boxes.cls)
            if save_json:
                number = frames[result.path] * predictor.args.vid_stride
                records += _records(result, summary.images, number if predictor.dataset.mode != "image" else None)
        summary.unreadable = [file for file in files if file not in frames]
    except KeyboardInterrupt:
        LOGGER.info("Interrupted: keeping what has been found")
    except (ConnectionError, FileNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"source '{source}' cannot be opened ({reason}); is it there and connected?") from error
    bar.close()
    if summary.unreadable and not summary.images:
        raise SourceError(f"source '{summary.unreadable[0]}' cannot be read as a picture or video; it may be damaged")
    if save_json:
        runs.write_json(summary.folder / "predictions.json", records)
    summary.speed_ms = {key: round(value, 3) for key, value in (predictor.speed or {}).items()}
    return summary


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
