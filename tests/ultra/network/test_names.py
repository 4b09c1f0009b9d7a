"""Model names: every promised spelling finds its YAML and scale, from any folder; a wrong one gets its nearest name."""

from __future__ import annotations

import shutil

import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn import tasks

from pixelkeep import assets
from pixelkeep.errors import ModelError
from pixelkeep.ultra.costs import catalogue
from pixelkeep.ultra.network import names

# Backbone and neck of the published networks, without the head.
PUBLISHED = {"n": 2_141_152, "s": 8_542_144, "m": 24_303_072, "l": 52_249_984}


@pytest.mark.parametrize(
    "spelling", ["yolov5-spd-s", "yolov5-spd-s.yaml", "yolov5s-spd", "yolov5s-spd.yaml", "yolov5s-spd.yml"]
)
def test_spellings__mean_the_same_model(spelling):
    """Our spelling and Ultralytics', with and without an ending, name the same family and scale."""
    model = names.parse(spelling)
    assert (model.family, model.scale) == ("yolov5-spd", "s")
    assert str(model) == "yolov5-spd-s"


@pytest.mark.parametrize("spelling", ["yolov5-n", "yolov5n", "yolo26-n", "yolo11n.yaml", "yolov8-p2-n"])
def test_stock__names_are_ultralytics_definitions(spelling):
    """Baselines are Ultralytics' own YAML files, in our spelling as well."""
    model = names.parse(spelling)
    assert model.scale == "n" and "ultralytics" in model.path.parts


def test_plain_ultralytics__builds_by_name_from_any_folder(tmp_path, monkeypatch):
    """``YOLO("yolov5-spd-n.yaml")`` works from a folder whose path has a space and a part like exp5s."""
    folder = tmp_path / "exp5s of mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    model = YOLO("yolov5-spd-n.yaml", verbose=False)
    assert model.task == "detect" and model.model.yaml["scale"] == "n"


@pytest.mark.parametrize("spelling", ["mine5s-spd.yaml", "yolov5s-mine.yaml", "yolov5-mine-s.yaml"])
def test_own_yaml__scale_from_its_name_only(spelling, tmp_path):
    """A user's own YAML takes its scale from its file name; letters in the names of its folders have no effect."""
    folder = tmp_path / "exp5n"
    folder.mkdir()
    target = folder / ("yolov5-mine.yaml" if spelling == "yolov5s-mine.yaml" else spelling)
    shutil.copy(assets.find("models", "yolov5-spd"), target)
    d = tasks.yaml_model_load(folder / spelling)
    assert d["scale"] == ("" if spelling == "mine5s-spd.yaml" else "s")
    assert d["backbone"][0][2] == "Focus"


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("yolov5-spd-q", "no size 'q'; give one of n, s, m, l, x"),
        ("yolov5-spd", "which size. One of yolov5-spd-n"),
        ("yolov5q-spd", "no size 'q'"),
        ("resnet50-spd-cls-n", "comes in one size; write 'resnet50-spd-cls'"),
    ],
)
def test_wrong_size__names_the_sizes(spelling, message):
    """A known family with an unknown or missing size is refused with the sizes that there are."""
    with pytest.raises(ModelError, match=message):
        names.parse(spelling)


@pytest.mark.parametrize("spelling", ["yolo**-n", "yolo*-n", "yolo[-n", "yolo?11-n"])
def test_wildcards__name_no_model(spelling):
    """Characters that a file search would expand have no special meaning, so such names are no models."""
    assert names.parse(spelling) is None


def test_misspelt__nearest_name():
    """An unknown name is not resolved, and the suggestion is the nearest one."""
    assert names.parse("yolov5-spdd-n") is None
    assert names.suggest("yolov5-spdd-n") == "; did you mean 'yolov5-spd-n'?"


@pytest.mark.parametrize("scale", PUBLISHED)
def test_yolov5_spd__published_parameter_counts(scale):
    """Backbone and neck have exactly the parameters of the published networks."""
    with torch.device("meta"):
        layers, _ = tasks.parse_model(names.parse(f"yolov5-spd-{scale}").definition(), 3, False)
    assert sum(p.numel() for p in layers[:-1].parameters()) == PUBLISHED[scale]


def strided_channels(definition) -> list[tuple[int, int]]:
    """Return (in, out) channels of each strided convolution of a stock network."""
    with torch.device("meta"):
        layers, _ = tasks.parse_model(definition, 3, False)
    return [
        (m.conv.in_channels, m.conv.out_channels)
        for m in layers
        if getattr(m, "conv", None) and m.conv.stride == (2, 2)
    ]


@pytest.mark.parametrize("scale", "nsmlx")
def test_variants__parameters_follow_from_the_stock_network(scale):
    """spdconv, slicesamp and lip have stock's parameters, less its strided convolutions, plus the blocks' formulas."""
    count = {
        name: catalogue._count(names.parse(f"{name}-{scale}").definition())[0]
        for name in ("yolov5", "yolov5-spdconv", "yolov5-slicesamp", "yolov5-lip")
    }
    pairs = strided_channels(names.parse(f"yolov5-{scale}").definition())
    assert len(pairs) == 7 and pairs[0][0] == 3
    strided = sum((36 if i == 0 else 9) * a * b + 2 * b for i, (a, b) in enumerate(pairs))  # the stem is 6x6
    spdconv = sum(36 * a * b + 2 * b for a, b in pairs)
    slicesamp = sum(44 * a + 4 * a * b + 2 * b for a, b in pairs)
    assert count["yolov5-spdconv"] == count["yolov5"] - strided + spdconv
    assert count["yolov5-slicesamp"] == count["yolov5"] - strided + slicesamp
    behind_stem = [(a, b, min(128, a // 2)) for a, b in pairs[1:]]  # lip keeps the stem
    convolutions = sum(9 * a * b + 2 * b for a, b, _ in behind_stem)
    lip = sum(2 * a * w + 9 * w**2 + 4 * w + 2 * a + a * b + 2 * b for a, b, w in behind_stem)
    assert count["yolov5-lip"] == count["yolov5"] - convolutions + lip


ON_YOLO = [family for family in assets.names("models") if family.startswith(names.STOCK_FAMILIES)]


@pytest.mark.parametrize("family", [family for family in ON_YOLO if not family.endswith("-sem")])
def test_families__nano_runs_with_the_hosts_strides(family):
    """Each family's nano builds, has strides 8, 16, 32, with -p2 and -cad also 4, and runs on odd feature maps.

    yolov5-fine has stride 4 in place of 32.
    """
    model = YOLO(f"{family}-n.yaml", verbose=False).model
    strides = [4, 8, 16] if "-fine" in family else [4] * family.endswith(("-p2", "-cad")) + [8, 16, 32]
    assert model.stride.tolist() == strides
    with torch.no_grad():
        out = model.train()(torch.zeros(2, 3, 96, 160))
    shapes = [f.shape[-2:] for f in out.get("one2many", out)["feats"]]  # end-to-end heads have two branches
    assert shapes == [(96 // stride, 160 // stride) for stride in strides]


def test_definitions__equal_their_derivation():
    """The files in models/ are what scripts/derive_models.py derives from the installed Ultralytics."""
    import runpy
    from pathlib import Path

    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "derive_models.py"))
    import yaml

    for host, rules in script["FAMILIES"].items():
        stock = yaml.safe_load(names.stock_yaml(host).read_text(encoding="utf-8"))
        for rule in rules:
            text = assets.find("models", script["family"](host, rule)).read_text(encoding="utf-8")
            assert text == script["render"](stock, host, rule), f"{host}-{rule}: run scripts/derive_models.py"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("yolov5-sdp", "yolov5-spd"),
        ("yolo-26", "yolo26"),
        ("yolov5-sdp-s", "yolov5-spd-s"),
        ("resnet50-sdp-cls", "resnet50-spd-cls"),
        ("yolov8-n-seg", "yolov8-seg-n"),
        ("yolov5-n-spd.yaml", "yolov5-spd-n"),
    ],
)
def test_misspelt__family_or_model(name, near):
    """For a name without a size the nearest family is suggested, and for one with a size the nearest model."""
    assert names.suggest(name) == f"; did you mean '{near}'?"


def test_nothing_near__advice():
    """Where no name is near, the given advice follows in place of a suggestion, and never both."""
    assert names.suggest("qqq", "give another") == "; give another"
    assert names.suggest("yolov9-c", "give another") == "; give another"  # yolov9-c is no misspelt yolov8-x
    assert names.suggest("yolov5-sdp", "give another") == "; did you mean 'yolov5-spd'?"


@pytest.mark.parametrize("name", ["yolov8.yaml", "yolov10n.yaml", "yolov9t.yaml"])
def test_stock_file_names__as_without_pixelkeep(name):
    """Ultralytics reads its own file names as it does without this package, also where the size is missing."""
    assert tasks.yaml_model_load(name) == tasks.yaml_model_load.__wrapped__(name)


def test_catalogue__pattern_keeps_the_baselines():
    """A pattern lists the models that it matches, with their host at the same sizes, and nothing else."""
    selected = catalogue.select("yolov5-spd-[ns]")
    assert selected == ["yolov5-n", "yolov5-s", "yolov5-spd-n", "yolov5-spd-s"]
    with pytest.raises(ModelError, match="did you mean 'yolov5-spd'"):
        catalogue.select("yolov5-sdp")
    assert catalogue.select("resnet50-spd-cls") == ["resnet50-cls", "resnet50-spd-cls"]


def test_catalogue__lists_baselines_beside_variants():
    """The list has every family at every size, each host before its variants."""
    listed = catalogue.model_names()
    in_one_size = set(assets.names("models")) - set(ON_YOLO)
    assert len(listed) == len(set(listed)) == 5 * (len(ON_YOLO) + len(names.STOCK_FAMILIES)) + len(in_one_size)
    assert listed.index("yolov5-n") < listed.index("yolov5-spd-n") < listed.index("yolov8-n")
    assert listed.index("yolo26-x") < listed.index("resnet50-cls") < listed.index("resnet50-lip-cls")
    assert in_one_size <= set(listed)
