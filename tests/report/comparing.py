"""Made-up comparison documents in the form that ``pixelkeep compare --json`` prints."""

from __future__ import annotations

import statistics

FIGURES = ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR_S")


def arm(name: str, *values: float | None, seeds: int = 3, cost: float = 1.0) -> dict:
    """Return an arm with a mean for each of the six figures, around which its seeds lie 0.01 apart."""
    steps = [0.01 * (seed - (seeds - 1) / 2) for seed in range(seeds)]
    figures = {}
    for key, value in zip(FIGURES, values, strict=True):
        each = [None if value is None else value + step for step in steps]
        spread = None if value is None or seeds < 2 else statistics.stdev(each)
        figures[key] = {"mean": value, "spread": spread, "values": each}
    latency = {"ms": 20 * cost, "low": 19 * cost, "high": 22.5 * cost}
    latency |= {"ratio": cost, "ratio_low": 0.95 * cost, "ratio_high": 1.05 * cost}
    return {
        "name": name,
        "model": name,
        "imgsz": 640,
        "seeds": list(range(seeds)),
        "runs": [f"/runs/{name}/seed{seed}" for seed in range(seeds)],
        "figures": figures,
        "params": int(2_500_000 * cost),
        "gflops": 7.1 * cost,
        "latency": latency,
    }


def difference(name: str, metric: str, value: float | None, verdict: str | None, **others: object) -> dict:
    """Return a difference with an interval of 0.02 to each side."""
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    entry = {"arm": name, "baseline": "yolov5-n", "metric": metric, "value": value, "low": low, "high": high}
    entry |= {"p": 0.01, "p_holm": 0.02, "verdict": verdict, "note": None, "seeds": [3, 3], "objects": 127}
    return entry | {"objects_needed": None} | others


def document(**others: object) -> dict:
    """Return a comparison of four models, one of them with the longest name, on data without large objects."""
    made = {
        "name": "exp",
        "schema": 1,
        "baseline": "yolov5-n",
        "data": "/data/drone.yaml",
        "split": "val",
        "images": 120,
        "groups": None,
        "group": None,
        "counts": {"S": 812, "M": 301, "L": 0},
        "gt_sha256": "a" * 64,
        "protocol": {"imgsz": 640, "conf": 0.001, "nms_iou": 0.7, "max_dets": 300, "area": "box"},
        "settings": {"epochs": 100, "batch": 16},
        "arms": [
            arm("yolov5-n", 0.312, 0.541, 0.201, 0.402, None, 0.321),
            arm("yolov5-spd-n", 0.341, 0.581, 0.243, 0.411, None, 0.372, cost=1.62),
            arm("yolov5-slicesamp-up-n", 0.318, 0.549, 0.208, 0.405, None, 0.33, cost=1.21),
            arm("yolov5-spd-s", 0.391, 0.63, 0.292, 0.462, None, 0.41, seeds=2, cost=4.7),
        ],
        "differences": [
            difference("yolov5-spd-n", "AP", 0.029, "better"),
            difference("yolov5-spd-n", "AP_S", 0.042, "better"),
            difference("yolov5-slicesamp-up-n", "AP", 0.006, "not distinguishable"),
            difference("yolov5-slicesamp-up-n", "AP_S", 0.007, None, note="too few objects: 30 leave it uncertain"),
            difference("yolov5-spd-s", "AP", 0.079, "better"),
            difference("yolov5-spd-s", "AP_S", 0.091, "better"),
        ],
        "statistics": {"level": 0.95, "resamples": 1000, "seed": 0},
        "latency": {"device": "a CPU", "threads": 2, "torch": "2.15.0", "rounds": 50},
        "equal": None,
        "equal_cost": [],
        "failed": [{"arm": "yolov5-spd-s", "seed": 2, "reason": "OutOfMemoryError: CUDA out of memory"}],
    }
    return made | others


def at_equal_cost(variant: str = "yolov5-spd-n", verdict: str | None = "better", **others: object) -> dict:
    """Return a document's entries on a model of 1.62 times the cost and its rivals: a wider baseline, larger images."""
    names = ["yolov5-n", "yolov5-n w0.3203", "yolov5-n 1280x1248"]
    values = {"AP": (0.029, 0.011, 0.012), "AP_S": (0.042, 0.021, 0.032)}
    joints = []
    for metric, several in values.items():
        differences = [
            difference(variant, metric, v, None) | {"baseline": n} for n, v in zip(names, several, strict=True)
        ]
        shown = {key: differences[1][key] for key in ("arm", "metric", "value", "low", "high")}
        shown |= {"stronger": names[1], "verdict": verdict, "note": None, "differences": differences}
        joints.append(shown | others)
    made = {
        names[1]: {"width": 0.3203, "channels": {}, "ratio": 0.998},
        names[2]: {"imgsz": [1280, 1248], "ratio": 1.09},
    }
    entry = {"baseline": "yolov5-n", "times": 1.62, "device": None, "arms": made}
    equal = {"by": "gflops", "tolerance": 0.03, "device": None, "variants": {variant: entry}}
    arms = document()["arms"] + [arm(name, *[0.3] * 6, cost=1.6) for name in names[1:]]
    arms[-1]["imgsz"] = [1280, 1248]
    return {"equal": equal, "equal_cost": joints, "arms": arms}
