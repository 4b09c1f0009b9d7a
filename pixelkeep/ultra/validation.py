"""Validation of a weights file: the table, metrics.json and predictions.json."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.datasets.forms import VOC
from pixelkeep.datasets.spec import DatasetSpec
from pixelkeep.errors import OptionError, choices
from pixelkeep.evaluation import Breakdown, Result, Scoring, judge_for, sha256
from pixelkeep.evaluation.bins import read_bins
from pixelkeep.ultra import runs
from pixelkeep.ultra.analysis import FILES, Analysis, keep
from pixelkeep.ultra.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.data import list_problems, read_split, resolve_data, write_resolved
from pixelkeep.ultra.measure import count_gflops, count_parameters
from pixelkeep.ultra.settings import for_ultralytics
from pixelkeep.ultra.truth import relative
from pixelkeep.ultra.validator import Validator

JUDGE = Scoring(evaluator=judge_for("iou"))


def validate(
    settings: dict, *, folder: Path | None = None, scoring: Scoring = JUDGE, analysis: Analysis | None = None
) -> tuple[Result, Path]:
    """Validate weights on a split of a dataset.

    Args:
        settings: As :func:`pixelkeep.ultra.settings.merge` gives them, with ``weights`` and ``data``.
        folder: The run folder of a training, whose weights get the operating point's confidences; a new one in
            ``runs/val`` by default.
        scoring: How the detections are scored; by pycocotools by default. VOC's figures come with VOC's data anyway.
        analysis: What is asked besides; the operating point of the best F1 by default. It takes what is found.

    Returns:
        The result, and the run folder with metrics.json and predictions.json.

    Raises:
        PixelkeepError: Anything in the settings that cannot be used; nothing has been written then.
    """
    settings, analysis = dict(settings), analysis or Analysis()
    analysis.check(settings)
    weights = check_weights(settings.pop("weights", None) or runs.newest_weights())
    place = settings.pop("path", None)
    if place is not None and not settings.get("data"):
        raise OptionError(f"path: '{place}' is the folder of a dataset, and none is named; give --data as well")
    spec = resolve_data(settings.get("data") or _trained_on(weights), place)
    scoring = replace(scoring, voc=scoring.voc or spec.form == VOC)
    settings.setdefault("split", "val")
    spec.sources(settings["split"])
    checkpoint = load(weights)
    check_classes(checkpoint, spec, weights, settings.get("single_cls", False))
    settings.setdefault("imgsz", trained_size(checkpoint))
    keeps = analysis.store or folder is not None
    project, name, exist_ok = (settings.pop(key, None) for key in ("project", "name", "exist_ok"))
    if folder is None:  # else training has said already what is wrong with the data
        split = read_split(spec, settings["split"], settings["imgsz"])
        reports = [split.problems]
        if scoring.by is not None:
            Breakdown(scoring.by).split(relative(record.path, spec.root) for record in split.records)
        folder = runs.new_run(project, name, kind="val", exist_ok=bool(exist_ok))
    else:
        reports = []
    settings.update(model=str(weights), data=str(write_resolved(spec)), save_dir=str(folder), mode="val")
    with runs.storage(folder):
        runs.clear(folder, ("metrics.json", "predictions.json", *FILES))
        list_problems(folder, reports)
        limit = settings.get("max_det") or scoring.max_dets
        validator = Validator(args=for_ultralytics(settings), save_dir=folder, limit=limit)
        validator()
        result = _describe(validator.judge(scoring), validator, checkpoint, weights, spec)
        found, args = validator.detections(), validator.args
        bins = read_bins(scoring.bins).ranges
        point = analysis.run(folder, spec, validator.truth, found, max_dets=args.max_det, floor=args.conf, bins=bins)
        result.operating_point = point.to_dict()
        names, sha = model_of(checkpoint).names, result.gt_sha256
        kept = keeps and keep(weights, point, classes=len(names), imgsz=args.imgsz, split=args.split, sha=sha)
        runs.write_json(folder / "predictions.json", found.records())
        runs.write_json(folder / "metrics.json", result.to_dict())
    if analysis.store and not kept:
        raise OptionError(f"--store-conf: no confidence serves {point.objective}, so {weights} stays as it is")
    return result, folder


def _trained_on(weights: Path) -> str | None:
    """Return the data that weights were trained on, where it still is there."""
    data = load(weights).get("train_args", {}).get("data")
    if isinstance(data, str) and Path(data).is_file():
        LOGGER.info(f"no data given: validating on {data}, which {weights.name} was trained on")
        return data
    return None


def check_classes(checkpoint: dict, spec: DatasetSpec, weights: Path, single_cls: bool) -> None:
    """Refuse weights for another task, other channels or other classes than the data's.

    Raises:
        OptionError: They do not fit.
    """
    model = model_of(checkpoint)
    task = getattr(model, "task", "detect")
    if task != "detect":
        raise OptionError(f"weights '{weights}' are for task '{task}'; this command validates detection models")
    channels = model.yaml.get("channels", 3)
    if channels != spec.channels:
        raise OptionError(
            f"weights '{weights}' take images of {channels} channels, but {spec.file} declares {spec.channels}; "
            "set 'channels:' there, or use weights trained on such data"
        )
    known, given = list(model.names.values()), list(spec.names.values())
    if single_cls or known == given:
        return
    if len(known) != len(given) or sorted(known) == sorted(given):
        raise OptionError(
            f"weights '{weights}' know {len(known)} classes ({choices(known, 5)}), but {spec.file} has {len(given)} "
            f"({choices(given, 5)}), and their order counts; give the data they were trained on"
        )
    LOGGER.warning(f"Class names differ: the weights call them {choices(known, 5)}, the data {choices(given, 5)}.")


def _describe(result: Result, validator: Validator, checkpoint: dict, weights: Path, spec: DatasetSpec) -> Result:
    """Complete the judge's figures to the full schema."""
    args = validator.args
    model = model_of(checkpoint)
    train_args = checkpoint.get("train_args", {})
    half = getattr(args, "quantize", None) == 16 or getattr(args, "half", False)
    result.model = Path(str(train_args.get("model") or weights)).stem
    result.weights, result.data, result.split = str(weights), str(spec.file), args.split
    result.gt_sha256 = sha256(validator.truth)
    channels = model.yaml.get("channels", 3)
    result.params, result.gflops = count_parameters(model), round(count_gflops(model, args.imgsz, channels), 3)
    result.speed_ms = {k: round(validator.speed[k], 3) for k in ("preprocess", "inference", "postprocess")}
    facts = Namespace(
        imgsz=args.imgsz,
        conf=args.conf,
        nms_iou=args.iou,
        precision="fp16" if half else "fp32",
        folded=False,
        device=str(validator.device),
        seed=train_args.get("seed"),
    )
    for key, value in vars(facts).items():
        setattr(result.protocol, key, value)
    return result
