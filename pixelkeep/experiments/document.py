"""Builds the document of a comparison: figures, differences with intervals and verdicts, cost and latency of all arms.

``--json`` prints this document and ``comparison.json`` holds it; the texts and pages of the report are made from it
alone.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import PurePosixPath

from ultralytics.utils import LOGGER

from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation.comparison import Comparison, compare_arms
from pixelkeep.experiments.arms import PROTOCOL, Arms, Run, of_same_trainings
from pixelkeep.experiments.equal import Equal, Several
from pixelkeep.ultra.costs.latency import measure_latency
from pixelkeep.ultra.running.console import progress_bar
from pixelkeep.ultra.tiled.images import Tiles, tiles_of_image

SCHEMA = 2
FIGURES = ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR_S")
JUDGED = ("AP", "AP_S")  # figures with intervals and verdicts


def describe(
    arms: Arms,
    baseline: str,
    truth: dict,
    group: str | None,
    groups: dict | None,
    shared: dict,
    device: str | None,
    equal: Equal | Several | None = None,
    across: Sequence[str] = (),
) -> dict:
    """Compare arms that were scored alike, and return the document.

    Args:
        arms: The finished runs of each arm.
        baseline: Name of the arm that the others are compared with.
        truth: Ground truth of all runs, in COCO form.
        group: Regular expression that ``groups`` were found by.
        groups: By image id, the name of the group that the image is resampled with; None to resample each image by
            itself.
        shared: Settings that all arms have in common, to be reported.
        device: Device that latency is measured on; None chooses as for training.
        equal: The arms that are the baseline at equal cost.
        across: Protocol fields in which the arms differ.
    """
    first = next(iter(arms.values()))[0].result
    protocol = first.protocol
    rivals = _rivals(equal, baseline, arms)
    idle = set(equal.arms if equal else ()) - {rival for several in rivals.values() for rival in several}
    with progress_bar("resampling images", unit="part") as progress:
        comparison = compare_arms(
            truth,
            {name: [run.predictions for run in members] for name, members in arms.items() if name not in idle},
            baseline,
            rivals=rivals,
            paired=[name for name in arms if name != baseline and of_same_trainings(arms[name], arms[baseline])],
            metrics=JUDGED,
            groups=groups,
            max_dets=protocol.max_dets,
            bins=protocol.bins,
            match=protocol.match or "iou",
            progress=progress,
        )
    differing = {*across, *(["imgsz"] if "tile" in across else [])}
    latency, measured = _latencies(arms, baseline, device, across)
    return {
        "schema": SCHEMA,
        "baseline": baseline,
        "data": first.data,
        "split": first.split,
        "images": first.images,
        "groups": comparison.groups if group else None,
        "group": group,
        "counts": first.counts,
        "gt_sha256": first.gt_sha256,
        "protocol": {key: None if key in differing else getattr(protocol, key) for key in PROTOCOL},
        "across": list(across),
        "settings": shared,
        "arms": [
            _arm(name, members, latency.get(name)) | _work(members, truth, across) for name, members in arms.items()
        ],
        "differences": comparison.to_dict()["differences"],
        "equal": equal.to_dict() if equal else None,
        "equal_cost": [_noted(joint, equal) for joint in comparison.to_dict()["joints"]],
        "statistics": _statistics(comparison),
        "latency": measured,
    }


def _rivals(equal: Equal | Several | None, baseline: str, arms: Arms) -> dict[str, list[str]]:
    """Return by variant the rivals that it is jointly compared with, if runs of it and of all rivals are there."""
    every = equal.rivals(baseline) if equal else {}
    return {name: several for name, several in every.items() if {name, *several} <= set(arms)}


def _noted(joint: dict, equal: Equal | Several) -> dict:
    """Add to a verdict at equal cost a note on rivals whose cost is not within the tolerance."""
    off = equal.off(joint["arm"])
    told = f"as near to equal cost as could be found: {' and '.join(off)}" if off else None
    return joint | {"note": "; ".join(filter(None, (joint["note"], told))) or None}


def _statistics(comparison: Comparison) -> dict:
    return {"level": comparison.level, "resamples": comparison.resamples, "seed": comparison.seed}


def _arm(name: str, members: list[Run], latency: dict | None) -> dict:
    result = members[0].result
    return {
        "name": name,
        "model": members[0].model,
        "imgsz": result.protocol.imgsz,
        "tile": result.protocol.tile,
        "precision": result.protocol.precision,
        "format": result.protocol.format or "pytorch",
        "seeds": [run.seed for run in members],
        "runs": [str(run.folder) for run in members],
        "figures": {key: _spread([getattr(run.result, key) for run in members]) for key in FIGURES},
        "params": result.params,
        "gflops": result.gflops,
        "active_fraction": result.active_fraction,
        "latency": latency,
    }


def _work(members: list[Run], truth: dict, across: Sequence[str]) -> dict:
    """Return tiles and GFLOPs of an image for a tiled arm, if arms differ in tiling; else an empty dictionary."""
    result = members[0].result
    tile = result.protocol.tile
    if "tile" not in across or not tile or result.gflops is None:
        return {}
    count = tiles_of_image([(image["height"], image["width"]) for image in truth["images"]], Tiles(**tile))
    return {"gflops": result.gflops * count, "tiles": count}


def _spread(values: list[float | None]) -> dict:
    """Return mean and sample standard deviation over seeds; None if undefined."""
    if any(value is None for value in values):
        return {"mean": None, "spread": None, "values": values}
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "spread": spread, "values": values}


def _latencies(
    arms: Arms, baseline: str, device: str | None, across: Sequence[str]
) -> tuple[dict[str, dict], dict | None]:
    """Measure the latency of all arms in turns, and return it by arm with facts about the measurement.

    Arms without a checkpoint and exported files are left out; nothing is measured if the baseline is left out. Nothing
    is measured either if arms differ in tiling, as the time for one tile says nothing about the time for an image.
    """
    if "tile" in across:
        return {}, None
    LOGGER.info("measuring latency, all models in turns")
    networks = {}
    for name, members in arms.items():
        there = [run.checkpoint for run in members if run.checkpoint.is_file()]
        if members[0].result.protocol.format not in (None, "pytorch"):
            LOGGER.warning(
                f"the latency of {name} is not measured: it is an exported file; its metrics.json has speed_ms"
            )
        elif there:
            networks[name] = (there[0], members[0].result.protocol.imgsz)
        else:
            LOGGER.warning(f"the latency of {name} is not measured: {members[0].checkpoint} is not there")
    if baseline not in networks:
        return {}, None
    measured, facts = measure_latency(networks, baseline, device)
    return {name: entry.to_dict() for name, entry in measured.items()}, facts


def group_images(truth: dict, pattern: str) -> dict[int, str]:
    """Return by image id what the pattern matches in the file name, or the text of its first group if it has one.

    A pattern with a slash is searched for in the path, others in the name without its folders.

    Raises:
        OptionError: The pattern is not a regular expression.
        DataError: The pattern does not match an image's name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise OptionError(f"--group {pattern}: not a regular expression ({error})") from error
    groups = {}
    for image in truth["images"]:
        file = image["file_name"]
        match = expression.search(file if "/" in pattern else PurePosixPath(file).name)
        if match is None or match[min(1, expression.groups)] is None:
            raise DataError(f"{file}: --group {pattern} does not match its name; every image needs a group")
        groups[image["id"]] = match[min(1, expression.groups)]
    return groups
