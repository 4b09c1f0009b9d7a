"""Options of YOLOv5's train.py, val.py and detect.py that are spelt differently here or have no counterpart."""

from __future__ import annotations

_SENT = "nothing is sent anywhere"
_FILE = "an exported file is given as --weights"
_DRAWN = "a box has its colour, and its confidence where that covers nothing"
# By command and option: the spelling used here, which begins with a dash, or the reason why there is none.
INSTEAD: dict[str, dict[str, str]] = {
    "train": {
        "--hyp": "--config FILE (or --set KEY=VALUE)",
        "--cfg": "--model NAME (or FILE.yaml)",
        "--img-size": "--imgsz N",
        "--rect": "--set rect=True",
        "--nosave": "--set save=False",
        "--noval": "--set val=False",
        "--noplots": "--set plots=False",
        "--noautoanchor": "the heads have no anchor boxes to fit",
        "--evolve": "settings are compared with several seeds by 'pixelkeep compare'",
        "--image-weights": "--set cls_pw=0.25 (rare classes weigh more in the loss)",
        "--multi-scale": "--set multi_scale=0.5",
        "--single-cls": "--set single_cls=True",
        "--label-smoothing": "Ultralytics' loss has no such term",
        "--cos-lr": "--set cos_lr=True",
        "--save-period": "--set save_period=N",
        "--sync-bn": "each process normalises its own batch",
        "--quad": "there is no such loader",
        "--entity": _SENT,
        "--upload-dataset": _SENT,
        "--bbox-interval": _SENT,
        "--artifact-alias": _SENT,
        "--bucket": _SENT,
    },
    "val": {
        "--task": "--split NAME (train, val or test)",
        "--img-size": "--imgsz N",
        "--single-cls": "--set single_cls=True",
        "--augment": "--set augment=True",
        "--save-txt": "--set save_txt=True",
        "--save-conf": "--set save_conf=True",
        "--save-hybrid": "labels are never mixed with what was found",
        "--save-json": "predictions.json is always written",
        "--dnn": _FILE,
    },
    "detect": {
        "--nosave": "--no-save",
        "--save-conf": "--save-txt --set save_conf=True",
        "--img-size": "--imgsz N",
        "--agnostic-nms": "--set agnostic_nms=True",
        "--augment": "--set augment=True",
        "--visualize": "--set visualize=True",
        "--line-thickness": "--line-width N",
        "--hide-labels": _DRAWN,
        "--hide-conf": _DRAWN,
        "--update": "the weights of a finished training are stripped already",
        "--data": "the weights know the names of their classes",
        "--dnn": _FILE,
    },
}


def refusal(command: str, option: str) -> str | None:
    """Return the message about an option that a command does not have; None if YOLOv5 does not have it either."""
    instead = INSTEAD.get(command, {}).get(option.replace("_", "-"))
    if instead is None:
        return None
    return f"{option} is {instead} here" if instead.startswith("-") else f"{option} has no counterpart here: {instead}"
