"""Measure identity switches and IDF1 of trackers on generated videos of small objects, preset against stock.

    pip install -e '.[dev]'
    python scripts/measure_tracking.py --seeds 100-104

Every tracker gets the same boxes from a synthetic detector and returns them unchanged, so that only the identities
differ. TrackEval (https://github.com/kovalp/TrackEval; MIT) compares them with the ground truth at an IoU of 0.5.
Differences are paired by video; their mean is given with a 95% interval of Student's t over the videos.
"""

from __future__ import annotations

import argparse
import io
import time
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from pixelkeep.ultra.running import environment

environment.prepare()

from pixelkeep.datasets.demo.moving import PERFECT, Detector, Motion, Moving  # noqa: E402
from pixelkeep.ultra.tracking.config import load_tracker  # noqa: E402
from pixelkeep.ultra.tracking.tracker import Tracker  # noqa: E402

BASE = Motion()
SCENES = {
    "noisy": (BASE, Detector()),
    "crowded": (replace(BASE, objects=350), Detector()),
    "perfect": (BASE, PERFECT),
}
PLAIN = "small-objects, boxes as they are"
STILL = "small-objects, no camera motion"
VARIANTS = {PLAIN: {"buffer": 0.0, "least_side": 0.0}, STILL: {"gmc_method": "none"}}
STOCK = ("botsort", "bytetrack")
FIGURES = ("IDF1", "IDSW", "MOTA")


def similarities(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the IoU of n true and m found boxes, (n, m)."""
    a, b = truth[:, None, :4], found[None, :, :4]
    both = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    area = [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
    return both / (area[0] + area[1] - both)


def numbered(identities: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """Return the identities of each frame renumbered from 0 without gaps, and the number of identities."""
    known = np.unique(np.concatenate(identities))
    return [np.searchsorted(known, some) for some in identities], len(known)


def evaluate(truth: list[np.ndarray], found: list[np.ndarray]) -> dict[str, float]:
    """Return TrackEval's IDF1, IDSW and MOTA.

    Args:
        truth: True boxes and identities of each frame, (n, 5): xyxy in pixels and identity.
        found: Boxes and identities that a tracker returns, in the same form.
    """
    from trackeval.metrics import CLEAR, Identity

    true_ids, true_count = numbered([rows[:, 4].astype(int) for rows in truth])
    found_ids, found_count = numbered([rows[:, 4].astype(int) for rows in found])
    data = {
        "num_timesteps": len(truth),
        "num_gt_ids": true_count,
        "num_tracker_ids": found_count,
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": true_ids,
        "tracker_ids": found_ids,
        "similarity_scores": [similarities(a, b) for a, b in zip(truth, found, strict=True)],
    }
    with redirect_stdout(io.StringIO()):
        clear, identity = CLEAR().eval_sequence(data), Identity().eval_sequence(data)
    return {"IDF1": float(identity["IDF1"]), "IDSW": float(clear["IDSW"]), "MOTA": float(clear["MOTA"])}


def follow(name: str, video: Moving, images: list[np.ndarray], detector: Detector) -> dict[str, float]:
    """Return the figures of a tracker on a video with its frames ``images``, and its processor time in seconds."""
    config = load_tracker(name.partition(",")[0])
    vars(config).update(VARIANTS.get(name, {}))
    tracker, found, began = Tracker(config), [], time.process_time()
    for boxes, image in zip(video.detections(detector), images, strict=True):
        identities, rows = tracker.update(boxes, image)
        found.append(np.column_stack([boxes[rows, :4], identities]))
    seconds = time.process_time() - began
    return {**evaluate(video.truth, found), "seconds": seconds}


def difference(values: np.ndarray) -> str:
    """Return the mean of paired differences and its 95% interval as text."""
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
    return f"{values.mean():+.3f} [{values.mean() - reach:+.3f}, {values.mean() + reach:+.3f}]"


def cost(seeds: range) -> None:
    """Print the ratio of the preset's processor time with camera motion to that without, measured in turns."""
    motion, detector = SCENES["noisy"]
    ratios = []
    for seed in seeds:
        video = Moving(motion, seed)
        images = list(video.images())
        with_it, without = (follow(name, video, images, detector)["seconds"] for name in ("small-objects", STILL))
        ratios.append(with_it / without)
    print(f"CPU time with camera motion by without: {np.median(ratios):.2f} (median of {len(ratios)} videos)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trackers", nargs="+", default=["small-objects", *VARIANTS, *STOCK])
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--seeds", default="100-104", help="first-last; the preset was chosen on 0-2")
    parser.add_argument("--cost", action="store_true", help="measure what the camera's motion costs, and nothing else")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split("-"))
    if arguments.cost:
        return cost(range(first, last + 1))
    columns = (*FIGURES, "IDF1 of the first minus its", "IDSW of the first minus its")
    print(f"| scene | tracker | {' | '.join(columns)} |\n| --- | --- |{' ---: |' * len(columns)}")
    for scene in arguments.scenes:
        motion, detector = SCENES[scene]
        rows: dict[str, list] = {name: [] for name in arguments.trackers}
        for seed in range(first, last + 1):
            video = Moving(motion, seed)
            images = list(video.images())
            for name in arguments.trackers:
                row = follow(name, video, images, detector)
                rows[name].append([row[figure] for figure in FIGURES])
        figures = {name: np.array(values) for name, values in rows.items()}
        ours = figures[arguments.trackers[0]]
        for name, values in figures.items():
            cells = [f"{mean:.1f}" if i == 1 else f"{mean:.3f}" for i, mean in enumerate(values.mean(axis=0))]
            gains = [difference(ours[:, i] - values[:, i]) if values is not ours else "" for i in (0, 1)]
            print(f"| {scene} | {name} | {' | '.join(cells)} | {gains[0]} | {gains[1]} |", flush=True)


if __name__ == "__main__":
    main()
