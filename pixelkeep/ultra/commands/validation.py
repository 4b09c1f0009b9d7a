"""Validation of a weights file: the result, metrics.json and predictions.json."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from pixelkeep.datasets.definitions.forms import VOC
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError
from pixelkeep.evaluation import Breakdown, Result, Scoring, judge_for, sha256
from pixelkeep.evaluation.bins import read_bins
from pixelkeep.evaluation.label_result import LabelResult
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.commands.analysis import FILES, Analysis, keep
from pixelkeep.ultra.commands.describing import describe, precision_of
from pixelkeep.ultra.commands.label_validation import validate_labels
from pixelkeep.ultra.data.resolving import list_problems, read_split, resolve_data, told, write_resolved
from pixelkeep.ultra.data.truth import relative
from pixelkeep.ultra.network.folding import is_folded
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import for_ultralytics
from pixelkeep.ultra.tiled.images import Request
from pixelkeep.ultra.tiled.validator import TiledValidator
from pixelkeep.ultra.validators.boxes import Validator
from pixelkeep.ultra.weights.backends import careful
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, trained_size
from pixelkeep.ultra.weights.exported import Exported
from pixelkeep.ultra.weights.fitting import check_classes, refuse_options, trained_on

JUDGE = Scoring(evaluator=judge_for("iou"))
WHOLE = Request()  # images as a whole


def validate(
    settings: dict,
    *,
    folder: Path | None = None,
    scoring: Scoring = JUDGE,
    analysis: Analysis | None = None,
    tiling: Request = WHOLE,
) -> tuple[Result | LabelResult, Path]:
    """Validate weights on a split of a dataset.

    Args:
        settings: Settings as :func:`pixelkeep.ultra.running.settings.merge` returns them, with ``weights`` and
            ``data``.
        folder: The run folder of a training, whose weights get the operating point's confidences; a new one in
            ``runs/val`` by default.
        scoring: How detections are scored; by pycocotools by default. Data in VOC form always gets VOC's metrics too.
        analysis: Further analyses, which also receive their results; by default the operating point of the best F1.
        tiling: Tiles that images are cut into; none by default.

    Returns:
        The result, and the run folder with metrics.json and predictions.json.

    Raises:
        PixelkeepError: Something in the settings cannot be used; nothing has been written in that case.
    """
    settings, analysis = dict(settings), analysis or Analysis()
    tiling.check()
    analysis.check(settings)
    weights = check_weights(settings.pop("weights", None) or runs.newest_weights(), exported=True)
    task = tasks.of_model(weights)
    if task is not tasks.DETECT:
        refuse_options("val", task.name, (scoring, JUDGE), (analysis, Analysis()), (tiling, WHOLE))
        return validate_labels(task, settings | {"weights": weights}, folder)
    place = settings.pop("path", None)
    if place is not None and not settings.get("data"):
        raise OptionError(f"path: '{place}' is a dataset's folder, but no dataset is named; give --data as well")
    spec = resolve_data(settings.get("data") or trained_on(weights), place)
    scoring = replace(scoring, voc=scoring.voc or spec.form == VOC)
    settings.setdefault("split", "val")
    spec.sources(settings["split"])
    checkpoint = load(weights)
    check_classes(checkpoint, spec, weights, settings.get("single_cls", False))
    if isinstance(model_of(checkpoint), Exported):
        if analysis.store:
            raise OptionError(f"--store-conf: '{weights}' is an export; use it on the checkpoint, and export again")
        model_of(checkpoint).fit(settings, weights, tiled=tiling != WHOLE)
    tiles = tiling.resolve(checkpoint, settings)
    settings.setdefault("imgsz", tiles.imgsz if tiles else trained_size(checkpoint))
    keeps = analysis.store or folder is not None
    project, name, exist_ok = (settings.pop(key, None) for key in ("project", "name", "exist_ok"))
    if folder is None:  # a training has already reported what is wrong with the data
        split = (
            told(load_split, spec, settings["split"])
            if tiles
            else read_split(spec, settings["split"], settings["imgsz"])
        )
        reports = [split.problems]
        if scoring.by is not None:
            Breakdown(scoring.by).split(relative(record.path, spec.root) for record in split.records)
        folder = runs.new_run(project, name, kind="val", exist_ok=bool(exist_ok))
    else:
        split, reports = load_split(spec, settings["split"]) if tiles else None, []
    settings.update(model=str(weights), data=str(write_resolved(spec)), save_dir=str(folder), mode="val")
    with runs.storage(folder):
        runs.clear(folder, ("metrics.json", "predictions.json", "seams.json", *FILES))
        list_problems(folder, reports)
        limit = settings.get("max_det") or scoring.max_dets
        arguments = for_ultralytics(settings)
        if tiles:
            validator = TiledValidator(tiles, arguments, spec, split, limit)
        else:
            validator = Validator(args=arguments, save_dir=folder, limit=limit)
        with careful():
            validator()
        result = _describe(validator.judge(scoring), validator, checkpoint, weights, spec)
        found, args = validator.detections(), validator.args
        bins = read_bins(scoring.bins).ranges
        common = dict(max_dets=args.max_det, floor=args.conf, bins=bins)
        drawn = dict(matrix=args.plots, curves=bool(tiles and args.plots))  # else the validator drew them
        point = analysis.run(folder, spec, validator.truth, found, **common, **drawn)
        result.operating_point = point.to_dict()
        if tiles:
            result.protocol.tile = tiles.protocol()
            runs.write_json(folder / "seams.json", validator.seams.report())
        names, sha = model_of(checkpoint).names, result.gt_sha256
        kept = keeps and keep(weights, point, classes=len(names), imgsz=args.imgsz, split=args.split, sha=sha)
        runs.write_json(folder / "predictions.json", found.records())
        runs.write_json(folder / "metrics.json", result.to_dict())
    if analysis.store and not kept:
        raise OptionError(f"--store-conf: no confidence serves {point.objective}, so {weights} stays as it is")
    return result, folder


def _describe(result: Result, validator: Validator, checkpoint: dict, weights: Path, spec: DatasetSpec) -> Result:
    """Complete the evaluator's metrics to the full schema of metrics.json."""
    args = validator.args
    result.gt_sha256 = sha256(validator.truth)
    exported = describe(result, validator, checkpoint, weights, spec)
    facts = Namespace(
        imgsz=args.imgsz,
        conf=args.conf,
        nms_iou=args.iou,
        precision=precision_of(args, exported),
        folded=exported.folded if exported else is_folded(model_of(checkpoint)),
        format=exported.format if exported else "pytorch",
        device=str(validator.device),
        seed=checkpoint.get("train_args", {}).get("seed"),
    )
    for key, value in vars(facts).items():
        setattr(result.protocol, key, value)
    return result
