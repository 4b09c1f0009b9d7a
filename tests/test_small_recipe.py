"""The recipe for small objects with all of its parts reaches its expected AP_S in one training on the CPU."""

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
    """The demo recipe has all settings of small-objects.yaml but the model, a cheaper one that also has stride 4."""
    parts = {key: value for key, value in recipe("small-objects").items() if key != "model"}
    assert parts.items() <= recipe(SMALL).items()
    assert "-p2-" in recipe("small-objects")["model"] and "-p2-" in recipe(SMALL)["model"]


def test_smoke__reaches_its_figure(tmp_path):
    """AP_S lies in the expected range; outside it a loss does not learn, or something else is being measured."""
    result, _ = training.train(merge({"project": str(tmp_path)}, command="train", recipe=SMALL))
    least, most = recipe(SMALL)["expected"]["AP_S"]
    assert least <= result.AP_S <= most
