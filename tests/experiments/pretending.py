"""Contrasts with a stub for training, which writes what a training would and finds a set share of the objects."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import yaml

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError
from pixelkeep.evaluation import evaluate, sha256
from pixelkeep.experiments import campaign
from pixelkeep.ultra.data.truth import build_truth

FORMS = {
    "full": {"split": "val", "seeds": 2, "imgsz": 64, "epochs": 2, "batch": 4},
    "early": {"split": "dev", "seeds": 2, "imgsz": 64, "epochs": 1, "batch": 4},
}
FIRST = {
    "question": "Does it find more?",
    "data": None,
    "dev": {"group": r"(\d)\.\w+$", "share": 0.6, "seed": 0},
    "group": r"(\d+)\.\w+$",
    "baseline": "yolov5-n",
    "arms": {"yolov5-n": "yolov5-n", "yolov5-spd-n": "yolov5-spd-n"},
    "forms": FORMS,
}
SECOND = FIRST | {
    "best_of": ["1-a"],
    "baseline": "plain",
    "arms": {"plain": "best-n", "nwd": {"model": "best-n", "nwd": 0.5}},
}
FOUND = {"yolov5-n": 0.4, "yolov5-spd-n": 0.9, "nwd": 0.9, "plain": 0.9}  # the share of the objects that each arm finds


class Pretender:
    """Stub for training and validation: writes what they would, for an arm that finds its share of the objects."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.scored: list[str] = []
        self.folders: list[str] = []
        self.fails: set[str] = set()

    def train(self, settings: dict) -> None:
        folder = Path(settings["project"], settings["name"])
        key = f"{folder.parent.name} {folder.name}"
        self.trained.append(key)
        self.folders.append(folder.parent.parent.name)
        if key in self.fails:
            raise OptionError(f"{key} cannot be")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        (folder / "results.csv").write_text("epoch,time\n1,10.2\n2,20.4\n")
        (folder / "environment.json").write_text(json.dumps({"python": "3", "command": [str(folder)]}))
        self._write(folder, settings, "val", folder.parent.name)

    def validate(self, settings: dict) -> None:
        folder = Path(settings["project"], settings["name"])
        self.scored.append(f"{folder.parent.parent.name} {folder.parent.name}")
        seed = int(folder.parent.name.removeprefix("seed"))
        self._write(folder, settings | {"seed": seed}, settings["split"], folder.parent.parent.name)

    def _write(self, folder: Path, settings: dict, split: str, arm: str) -> None:
        spec = load_spec(Path(settings["data"]))
        truth, _ = build_truth(load_split(spec, split).records, spec)
        drawn = np.random.default_rng(settings["seed"])
        found = [
            {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(drawn.random())}
            for a in truth["annotations"]
            if not a.get("iscrowd") and drawn.random() < FOUND[arm]
        ]
        result = evaluate(truth, found)
        result.model, result.data, result.split, result.gt_sha256 = arm, settings["data"], split, sha256(truth)
        result.weights = str((folder.parent if split == "test" else folder) / "weights" / "best.pt")
        result.protocol.seed, result.protocol.imgsz = settings["seed"], 64
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(result.to_json())
        (folder / "predictions.json").write_text(json.dumps(found))


def run(options: Namespace) -> str:
    return campaign.run(options, Path("evidence.py"))
