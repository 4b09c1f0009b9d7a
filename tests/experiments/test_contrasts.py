"""Definitions of contrasts: they are read and checked, and those of the project can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pixelkeep import assets
from pixelkeep.errors import OptionError
from pixelkeep.experiments.contrasts import Contrast, best_family, read_contrast, read_contrasts
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
    """Arms, forms and the dev split are read as they are written."""
    forms = FORMS | {"full": FORMS["full"] | {"match": ["gflops", "latency"]}}
    contrast = read_contrast(written(tmp_path, forms=forms))
    assert contrast.arms == (Entrant("a", "yolov5-n"), Entrant("b", "yolov5-n", {"nwd": 0.5}))
    assert (contrast.name, contrast.form("full").match, contrast.dev.share) == ("1-x", ("gflops", "latency"), 0.7)
    early = contrast.form("early")
    assert (early.split, early.seeds, early.settings, early.match) == ("dev", 2, {"epochs": 1}, ())
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
        ({"best_of": ["0-y"]}, "best_of: ['0-y']; give a list of contrasts that come before 1-x (none)"),
        ({"best_of": "0-y"}, "best_of: 0-y; give a list"),
        ({"best_of": [{"0": "y"}]}, "best_of: "),
        ({"dev": {"groups": "x"}}, "dev: it lacks group"),
        ({"dev": {"group": "x", "shares": 1}}, "dev: unknown key 'shares'; did you mean 'share'?"),
        ({"dev": {"group": "x", "share": "x"}}, "dev: share 'x'; give a number between 0 and 1"),
        ({"dev": {"group": "x", "share": 1.0}}, "dev: share '1.0'"),
        ({"dev": {"group": "x", "seed": "0"}}, "dev: seed '0'"),
        ({"dev": {"group": "("}}, "dev: group: '(' is not a regular expression"),
        ({"dev": "x"}, "dev: 'x'; give a mapping"),
        ({"group": "["}, "group: '[' is not a regular expression"),
        ({"group": 5}, "group: '5' is not text"),
        ({"question": ["Which?"]}, "question: '['Which?']' is not text"),
        ({"forms": {"full": {"split": "test", "seeds": 3}}}, "split 'test' must be one of dev, val"),
        ({"forms": {"full": {"seeds": 3}}}, "form full: split 'None' must be one of dev, val"),
        ({"forms": {"full": {"split": ["val"], "seeds": 3}}}, "form full: split '['val']'"),
        ({"forms": {"full": {"split": "val", "seeds": 0}}}, "1 or more"),
        ({"forms": {"full": {"split": "val", "seeds": True}}}, "seeds (True) 1 or more"),
        ({"forms": {"full": "val"}}, "form full: 'val'"),
        ({"forms": {"full": FORMS["full"] | {"match": "time"}}}, "match: 'time'; give one of gflops, latency"),
        ({"forms": {"full": FORMS["full"] | {"match": ["gflops", "gflops"]}}}, "match: "),
        ({"forms": {"full": FORMS["full"] | {"match": [["gflops"]]}}}, "match: "),
        ({"forms": {"late": {"split": "val", "seeds": 2}}}, "form 'late'"),
        ({"arms": {"a": "yolov5-n", "b": {"nwd": 0.5}}}, "arm b: its model is 'None'"),
        ({"arms": {"a": "yolov5-n", "b": {"model": 5}}}, "arm b: its model is '5'"),
        ({"arms": {"a": 5, "b": "yolov5-n"}}, "arm a: its model is '5'"),
        ({"arms": {1: None, 2: None}, "baseline": 1}, "arm 1: its model is 'None'"),
        ({"arms": ["yolov5-n"]}, "arms: '['yolov5-n']'"),
    ],
)
def test_read__what_is_odd_is_refused(tmp_path, changes, told):
    """What is missing, unknown or contradictory is refused in one line that names the file."""
    with pytest.raises(OptionError) as error:
        read_contrast(written(tmp_path, **changes))
    assert told in str(error.value) and "1-x.yaml" in str(error.value) and "\n" not in str(error.value)


def test_read__names_that_are_numbers(tmp_path):
    """Arm names that YAML reads as numbers become text."""
    contrast = read_contrast(written(tmp_path, arms={1: "yolov5-n", 2: "yolov5-spd-n"}, baseline=1))
    assert contrast.baseline == "1" and [arm.name for arm in contrast.arms] == ["1", "2"]


def test_read__by_name_and_in_order(tmp_path):
    """Contrasts come in the order of their names, and for an unknown one the nearest name is suggested."""
    with pytest.raises(OptionError, match="no contrasts there"):
        read_contrasts(tmp_path)
    for name in ("2-b", "1-a", "3-c"):
        written(tmp_path).rename(tmp_path / f"{name}.yaml")
    assert [contrast.name for contrast in read_contrasts(tmp_path)] == ["1-a", "2-b", "3-c"]
    assert [contrast.name for contrast in read_contrasts(tmp_path, ["3-c", "1-a"])] == ["1-a", "3-c"]
    with pytest.raises(OptionError, match="did you mean '2-b'"):
        read_contrasts(tmp_path, ["2-bb"])


def with_best(folder: Path, arms: dict) -> Contrast:
    written(folder).rename(folder / "0-y.yaml")
    return read_contrast(written(folder, arms=arms, best_of=["0-y"]))


def test_best__takes_the_family(tmp_path):
    """``best`` at the front of a model's name, and only there, is replaced by the family; the scale stays."""
    contrast = with_best(tmp_path, {"a": "best-n", "b": "best-p2-s", "c": "yolov5-n"})
    arms, left_out = contrast.entrants("yolov5-spd")
    assert [arm.model for arm in arms] == ["yolov5-spd-n", "yolov5-spd-p2-s", "yolov5-n"] and not left_out


def test_best__an_arm_without_a_model_is_left_out(tmp_path):
    """An arm for which yolov5-keep has no form, P2, is left out by name; the baseline and another arm must remain."""
    contrast = with_best(tmp_path, {"a": "best-n", "b": "best-p2-n", "c": "yolov5-n"})
    arms, left_out = contrast.entrants("yolov5-keep")
    assert [arm.name for arm in arms] == ["a", "c"] and left_out == {"b": "there is no yolov5-keep-p2-n"}
    for odd in ({"a": "best-p2-n", "b": "best-n", "c": "yolov5-n"}, {"a": "yolov5-n", "b": "best-p2-n"}):
        contrast = with_best(tmp_path, odd)
        with pytest.raises(OptionError, match="nothing is left to compare with yolov5-keep as the best"):
            contrast.entrants("yolov5-keep")


def test_best__a_name_that_is_wrong_is_no_form_that_lacks(tmp_path):
    """A wrong model name in the file stays, to be refused later; only forms that the best family lacks are left out."""
    arms, left_out = with_best(tmp_path, {"a": "best-n", "b": "yolov5-spf-n"}).entrants("yolov5-keep")
    assert [arm.model for arm in arms] == ["yolov5-keep-n", "yolov5-spf-n"] and not left_out


def test_best__is_the_highest_mean_on_dev():
    """The best family has the highest mean on dev among the models whose figure is defined."""
    means = {"yolov5-n": 0.3, "yolov5-fine-strided-n": 0.35, "yolov5-lip-n": None}
    assert best_family(means) == "yolov5-fine-strided"
    with pytest.raises(OptionError, match="no best one"):
        best_family({"yolov5-lip-n": None})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_project__every_contrast_can_be_run(path):
    """Models and settings of a contrast exist; its full form is judged on val, or on dev where it is for choices."""
    contrast = read_contrast(path)
    names = {other.stem for other in FOLDER.glob("*.yaml")}
    assert set(contrast.best_of) <= names and all(name < contrast.name for name in contrast.best_of)
    assert contrast.form("early").split == "dev" and contrast.form("full").split in ("val", "dev")
    assert contrast.form("full").settings["imgsz"] == [512, 640] and "latency" not in contrast.form("early").match
    before = [read_contrast(FOLDER / f"{name}.yaml") for name in contrast.best_of]
    candidates = [arm.model for other in before for arm in other.arms if not arm.settings]
    for family in {model.rpartition("-")[0] for model in candidates} or {None}:
        arms, left_out = contrast.entrants(family)
        assert {arm.model for arm in arms} == {str(resolve_model(arm.model)).removesuffix(".yaml") for arm in arms}
        assert set(left_out) <= {"recipe-p2"}
    for form in contrast.forms.values():
        shared = merge(form.settings | {"model": "yolov5-n"}, command="train")
        for arm in contrast.arms:
            assert arm.checked(shared) == arm.settings
    assert re.compile(contrast.group).groups and re.compile(contrast.dev.group).groups


def test_project__the_recipe_is_the_sum_of_its_parts():
    """The whole recipe's arm has the settings of configs/small-objects.yaml, and each part that can act has an arm."""
    recipe = load_recipe("small-objects")
    whole = {key: value for key, value in recipe.items() if key not in ("model", "shrunk")}
    for name in ("3-recipe", "4-small", "8-whole"):
        arms = {arm.name: arm for arm in read_contrast(FOLDER / f"{name}.yaml").arms}
        assert arms["recipe"].settings == whole
    for name in ("3-recipe", "4-small"):
        arms = {arm.name: arm for arm in read_contrast(FOLDER / f"{name}.yaml").arms}
        parts = {*recipe, "p2"} - {"model", "zoom"}  # zoom has no arm: the images are no larger than the input
        assert "-p2-" in arms["recipe"].model and set(arms) == parts | {"plain", "recipe"}
        for key in parts - {"p2"}:
            assert set(arms[key].settings) == {key}
