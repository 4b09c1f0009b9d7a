"""The recipe for small objects, all of its parts at once, learns what it is known to: one training, on the CPU."""

from __future__ import annotations

from pathlib import Path

import yaml

from pixelkeep.ultra.commands import training
from pixelkeep.ultra.running.settings import merge

ROOT = Path(__file__).resolve().parent.parent
SMALL = "demo-small-objects"


def recipe(name: str) -> dict:
    return yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_smoke__has_every_part_of_the_recipe():
    """Of configs/small-objects.yaml all but the model, which is a cheaper one with a level of stride 4 as well."""
    parts = {key: value for key, value in recipe("small-objects").items() if key != "model"}
    assert parts.items() <= recipe(SMALL).items()
    assert "-p2-" in recipe("small-objects")["model"] and "-p2-" in recipe(SMALL)["model"]


def test_smoke__reaches_its_figure(tmp_path):
    """Far from it on either side something is wrong: a loss that does not learn, or a figure of something else."""
    result, _ = training.train(merge({"project": str(tmp_path)}, command="train", recipe=SMALL))
    least, most = recipe(SMALL)["expected"]["AP_S"]
    assert least <= result.AP_S <= most
