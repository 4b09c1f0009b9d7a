"""Contrasts as they are written down: read, checked, and those of the project sensible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pixelkeep import assets
from pixelkeep.errors import OptionError
from pixelkeep.experiments.contrasts import best_family, read_contrast, read_contrasts
from pixelkeep.experiments.entrants import Entrant
from pixelkeep.ultra.running.settings import load_recipe, merge
from pixelkeep.ultra.weights.definitions import resolve_model

FOLDER = assets.folder("configs") / "contrasts"
FORMS = {"full": {"split": "val", "seeds": 3, "imgsz": 640}, "early": {"split": "dev", "seeds": 2, "epochs": 1}}
PLAIN = {
    "question": "Which?",
    "data": "demo",
    "dev": {"group": r"(\d)", "share": 0.7, "seed": 0},
    "group": r"\d",
    "baseline": "a",
    "arms": {"a": "yolov5-n", "b": {"model": "yolov5-n", "nwd": 0.5}},
    "forms": FORMS,
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "1-x.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (PLAIN | changes).items() if value is not None}))
    return path


def test_read__what_is_written(tmp_path):
    """Arms, forms and the cut come out as they stand."""
    contrast = read_contrast(written(tmp_path, match="gflops"))
    assert contrast.arms == (Entrant("a", "yolov5-n"), Entrant("b", "yolov5-n", {"nwd": 0.5}))
    assert (contrast.name, contrast.match, contrast.dev.share) == ("1-x", "gflops", 0.7)
    early = contrast.form("early")
    assert (early.split, early.seeds, early.settings) == ("dev", 2, {"epochs": 1})
    assert early.notice == "early training, no verdict" and contrast.form("full").notice is None
    with pytest.raises(OptionError, match="no form 'late'; it has early, full"):
        contrast.form("late")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"group": None}, "it lacks group"),
        ({"basline": "a"}, "unknown key 'basline'; did you mean 'baseline'"),
        ({"baseline": "c"}, "baseline 'c'"),
        ({"arms": {"a": "yolov5-n"}}, "baseline 'a'"),
        ({"arms": {"a": "best-n", "b": "yolov5-n"}}, "best_of belong together"),
        ({"best_of": ["0-y"]}, "best_of belong together"),
        ({"dev": {"groups": "x"}}, "groups"),
        ({"forms": {"full": {"split": "test", "seeds": 3}}}, "split 'test' is one of dev, val"),
        ({"forms": {"full": {"split": "val", "seeds": 0}}}, "1 or more"),
        ({"forms": {"late": {"split": "val", "seeds": 2}}}, "form 'late'"),
        ({"arms": {"a": "yolov5-n", "b": {"nwd": 0.5}}}, "model"),
        ({"arms": ["yolov5-n"]}, "1-x.yaml"),
    ],
)
def test_read__what_is_odd_is_refused(tmp_path, changes, told):
    """What is missing, unknown or contradictory is named with the file."""
    with pytest.raises(OptionError) as error:
        read_contrast(written(tmp_path, **changes))
    assert told in str(error.value) and "1-x.yaml" in str(error.value)


def test_read__by_name_and_in_order(tmp_path):
    """Contrasts come in the order of their names; an unknown one has its nearest named."""
    with pytest.raises(OptionError, match="no contrasts there"):
        read_contrasts(tmp_path)
    for name in ("2-b", "1-a", "3-c"):
        written(tmp_path).rename(tmp_path / f"{name}.yaml")
    assert [contrast.name for contrast in read_contrasts(tmp_path)] == ["1-a", "2-b", "3-c"]
    assert [contrast.name for contrast in read_contrasts(tmp_path, ["3-c", "1-a"])] == ["1-a", "3-c"]
    with pytest.raises(OptionError, match="did you mean '2-b'"):
        read_contrasts(tmp_path, ["2-bb"])


def test_best__takes_the_family(tmp_path):
    """``best`` in a model's name becomes the family; at the front alone, and the scale stays."""
    arms = {"a": "best-n", "b": "best-p2-s", "c": "yolov5-n"}
    contrast = read_contrast(written(tmp_path, arms=arms, best_of=["0-y"]))
    models = [arm.model for arm in contrast.entrants("yolov5-spd")]
    assert models == ["yolov5-spd-n", "yolov5-spd-p2-s", "yolov5-n"]


def test_best__is_the_highest_mean_on_dev():
    """Of the plain models; an arm at equal cost cannot be the best one, nor one whose figure is undefined."""
    means = [{"yolov5-n": 0.3, "yolov5-n w0.31": 0.5}, {"yolov5-slicesamp-n": 0.35, "yolov5-lip-n": None}]
    documents = [
        {"arms": [{"name": name, "figures": {"AP_S": {"mean": mean}}} for name, mean in each.items()]} for each in means
    ]
    models = {name: name for name in ("yolov5-n", "yolov5-slicesamp-n", "yolov5-lip-n")}
    assert best_family(documents, models) == "yolov5-slicesamp"
    with pytest.raises(OptionError, match="no best one"):
        best_family(documents, {"yolov5-lip-n": "yolov5-lip-n"})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_project__every_contrast_can_be_run(path):
    """Every model is there, every setting is known, and full is judged on val, or on dev where it is for choices."""
    contrast = read_contrast(path)
    names = {other.stem for other in FOLDER.glob("*.yaml")}
    assert set(contrast.best_of) <= names and all(name < contrast.name for name in contrast.best_of)
    assert contrast.form("early").split == "dev" and contrast.form("full").split in ("val", "dev")
    families = ["yolov5", "yolov5-spd", "yolov5-slicesamp", "yolov5-spdconv"] if contrast.best_of else [None]
    for family in families:
        for model in {arm.model for arm in contrast.entrants(family)}:
            resolve_model(model)
    for form in contrast.forms.values():
        shared = merge(form.settings | {"model": "yolov5-n"}, command="train")
        for arm in contrast.arms:
            assert arm.checked(shared) == arm.settings
    assert re.compile(contrast.group).groups and re.compile(contrast.dev.group).groups


def test_project__the_recipe_is_the_sum_of_its_parts():
    """The arm of the whole recipe has what configs/small-objects.yaml has, and every part has an arm by itself."""
    recipe = load_recipe("small-objects")
    for name in ("3-recipe", "4-small"):
        arms = {arm.name: arm for arm in read_contrast(FOLDER / f"{name}.yaml").arms}
        whole = {key: value for key, value in recipe.items() if key not in ("model", "shrunk")}
        assert arms["recipe"].settings == whole and "-p2-" in arms["recipe"].model
        assert {*recipe, "p2"} - {"model"} <= set(arms)
        for key in set(recipe) - {"model"}:
            assert set(arms[key].settings) == {key}
