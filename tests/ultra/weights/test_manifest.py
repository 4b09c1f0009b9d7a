"""Published weights: found by name, compared with the manifest before they are read, and made from a run."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import hostile
import pytest
import torch
import yaml

from pixelkeep import TiledDetector, assets
from pixelkeep.cli.main import run
from pixelkeep.errors import OptionError, WeightsError
from pixelkeep.ultra.export import parity
from pixelkeep.ultra.export.publishing import Publication, publish
from pixelkeep.ultra.weights import checkpoints, manifest
from pixelkeep.ultra.weights.checkpoints import check_weights, forget, load, model_of
from pixelkeep.ultra.weights.confidence import Stored, store
from pixelkeep.ultra.weights.definitions import check_model, resolve_model

ROOT = Path(__file__).resolve().parents[3]
NAME = "tiny-net"
ROW = {"gt": 4, "AP": 0.25, "AP50": 0.5}
FIGURES = {
    "schema": 1,
    "task": "detect",
    "model": "rows",
    "weights": "/home/somebody/runs/train/exp/weights/best.pt",
    "data": "/home/somebody/data/mine.yaml",
    "split": "val",
    "images": 2,
    "protocol": {"evaluator": "pycocotools", "imgsz": 64, "max_dets": 300},
    **{"AP": 0.5, "AP50": 0.75, "AP75": None, "AP_S": 0.125, "AP_M": None, "AP_L": None, "AR_S": 0.25},
    "bins": [
        {"name": "tiny", "low": 8, "high": 16, **ROW},
        {"name": "large", "low": 96, "high": None, **ROW, "AP": None},
    ],
    "per_class": {"car": {**ROW, "gt": 40}, "person": {**ROW, "AP": 0.125}},
    "params": 58954,
    "gflops": 0.9,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return a folder of published weights that takes the place of the package's own."""
    folder = tmp_path / "published"
    folder.mkdir()
    stock = assets.folder
    monkeypatch.setattr(assets, "folder", lambda kind: folder if kind == "weights" else stock(kind))
    monkeypatch.chdir(tmp_path)
    forget()
    return folder


@pytest.fixture
def wanted(tmp_path, folder):
    """Return the publication of a finished run."""
    (tmp_path / "run" / "weights").mkdir(parents=True)
    settings = {"imgsz": 64, "epochs": 2, "data": "/home/somebody/data/mine.yaml", "project": "/home/somebody/runs"}
    hostile.save(
        tmp_path / "run" / "weights" / "best.pt", hostile.checkpoint(train_args=settings, git={"root": "/home/me"})
    )
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(FIGURES))
    texts = {
        "data": "Mine",
        "licence": "CC BY 4.0",
        "attribution": "Somebody, 2026",
        "recipe": "pixelkeep train --config x",
    }
    return Publication(run=tmp_path / "run", name=NAME, folder=folder, **texts)


@pytest.fixture
def published(wanted):
    """Publish the run, and return its entry in the manifest."""
    return publish(wanted)


def test_publish__four_files_that_agree(wanted, published, folder):
    """Weights, figures, card and manifest entry name each other, and the tensors are the run's in fp16."""
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.yaml",
        f"{NAME}.md",
        f"{NAME}.metrics.json",
        f"{NAME}.safetensors",
    ]
    entry = yaml.safe_load((folder / "manifest.yaml").read_text())["weights"][NAME]
    assert entry["bytes"] == (folder / entry["file"]).stat().st_size and entry["model"] == "rows"
    assert entry["sha256"] == manifest.sha256_of(folder / entry["file"])
    there, here = (
        model_of(load(path)).state_dict() for path in (folder / entry["file"], wanted.run / "weights/best.pt")
    )
    assert all(torch.equal(there[name], here[name]) for name in here)
    figures = json.loads((folder / entry["metrics"]).read_text())
    assert figures["AP_S"] == 0.125 and (figures["weights"], figures["data"]) == (entry["file"], "Mine")
    card = (folder / entry["card"]).read_text()
    assert entry["sha256"] in card and "Mine (CC BY 4.0). Somebody, 2026" in card
    assert "| 0.500 | 0.750 | n/a | 0.125 |" in card
    assert card.index("| person | 0.125 | 4 (few) |") < card.index("| car | 0.250 | 40 |")
    assert "tiny, 8 to 16" in card and "large" not in card


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ({}, "--imgsz 64"),
        ({"imgsz": [512, 640], "bins": "aitod", "max_dets": 1500, "conf": 0.001}, "--imgsz 512 640 --bins aitod"),
        ({"bins": "aitod", "max_dets": 300}, "--imgsz 64 --bins aitod --max-det 300"),
        ({"bins": None, "max_dets": 1500, "nms_iou": 0.6}, "--imgsz 64 --iou 0.6 --max-det 1500"),
    ],
)
def test_publish__the_card_names_the_command_of_its_figures(wanted, folder, protocol, options):
    """The card's command has each option in which the run differs from val's defaults, and no more."""
    changed = FIGURES | {"protocol": FIGURES["protocol"] | protocol}
    (wanted.run / "metrics.json").write_text(json.dumps(changed))
    publish(wanted)
    assert f"\n    pixelkeep val --weights {NAME} --data DATA {options}\n" in (folder / f"{NAME}.md").read_text()


def test_publish__figures_of_held_out_images(wanted, folder, tmp_path):
    """Figures of a separate validation are published in place of the run's; one of another network is refused."""
    held_out = tmp_path / "val"
    held_out.mkdir()
    (held_out / "metrics.json").write_text(json.dumps(FIGURES | {"AP": 0.375, "split": "test"}))
    publish(replace(wanted, scored=held_out))
    figures = json.loads((folder / f"{NAME}.metrics.json").read_text())
    assert (figures["AP"], figures["split"]) == (0.375, "test") and "Split test" in (folder / f"{NAME}.md").read_text()
    (held_out / "metrics.json").write_text(json.dumps(FIGURES | {"params": 7}))
    with pytest.raises(OptionError, match=r"--scored .*its network has 7 parameters, but .* has 58,954"):
        publish(replace(wanted, scored=held_out))


def test_publish__nothing_of_the_machine(published, folder):
    """None of the files holds a path of the machine that trained."""
    for path in folder.iterdir():
        assert b"somebody" not in path.read_bytes() and b"/home" not in path.read_bytes(), path
    assert load(folder / published.file)["train_args"] == {"imgsz": 64, "epochs": 2, "data": "mine.yaml"}


def test_publish__model_by_its_own_file(wanted, folder):
    """A network trained from a user's YAML is called by that file's name, and its folder is kept nowhere."""
    content = hostile.checkpoint(train_args={"imgsz": 64})
    content["model"].yaml["yaml_file"] = "/home/somebody/nets/mine-n.yaml"
    hostile.save(wanted.run / "weights" / "best.pt", content)
    assert publish(wanted).model == "mine-n"
    assert all(b"somebody" not in path.read_bytes() for path in folder.iterdir())
    assert model_of(load(folder / f"{NAME}.safetensors")).yaml["yaml_file"] == "mine-n.yaml"


def test_export__published_weights_go_elsewhere(published, folder, tmp_path, monkeypatch):
    """Exports of published weights go to the current folder, and the package's own folder stays as it is."""
    monkeypatch.setattr(parity, "SECONDS", 0.0)
    before = sorted(folder.iterdir())
    for form in ("pt", "torchscript"):
        with pytest.raises(SystemExit) as end:
            run(f"export --weights {NAME} --format {form}".split())
        assert end.value.code == 0 and (tmp_path / f"{NAME}.{form}").is_file()
    assert sorted(folder.iterdir()) == before


def test_publish__a_second_one_beside(wanted, published, folder):
    """Another publication leaves the first one alone, and one of the same name replaces it."""
    publish(replace(wanted, name="other-net"))
    publish(replace(wanted, recipe="pixelkeep train --config y"))
    known = manifest.read_manifest(folder)
    assert list(known) == ["other-net", NAME] and known[NAME].recipe.endswith("y")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Tiny Net"}, "use lower-case letters, digits"),
        ({"name": "../net"}, "use lower-case letters, digits"),
        ({"name": "yolov5-spd-n"}, "this is a model's name; add what it was trained on"),
        ({"name": "yolov5-spd"}, "this is a model's name"),
        ({"attribution": " "}, "--attribution: it must not be empty"),
        ({"run": Path("nowhere")}, "not a finished run"),
        ({"folder": Path("nowhere")}, "no such folder"),
    ],
)
def test_publish__refused(wanted, folder, change, told):
    """What cannot be published is refused, and the folder stays as it is."""
    with pytest.raises(OptionError, match=told):
        publish(replace(wanted, **change))
    assert not list(folder.iterdir())


def test_publish__too_large(wanted, folder, monkeypatch):
    """A file above 10 MB is refused, and nothing of it is left behind."""
    monkeypatch.setattr(manifest, "TOO_LARGE", 1000)
    with pytest.raises(OptionError, match="published files have at most 10 MB"):
        publish(wanted)
    assert not list(folder.iterdir())


def test_name__wherever_weights_are_taken(published, folder, monkeypatch):
    """A published name stands for its file in every command, and as a model."""
    path = (folder / published.file).resolve()
    assert check_weights(NAME) == path and resolve_model(NAME) == path
    assert check_model(path)["nc"] == 2
    assert TiledDetector(NAME, tile=64).names == {0: "car", 1: "person"}
    hostile.write_workplace(Path())
    with pytest.raises(SystemExit) as end:
        run(f"detect --imgsz 64 --source images/val --weights {NAME}".split())
    assert end.value.code == 0


def test_file_of_that_name__comes_first(published, tmp_path):
    """A user's own file or folder is never taken for a published name."""
    (tmp_path / NAME / "weights").mkdir(parents=True)
    with pytest.raises(WeightsError, match=f"weights '{NAME}': a folder; give a .pt file"):
        check_weights(NAME)
    (tmp_path / NAME / "weights" / "best.pt").touch()  # a run folder, whose best.pt is suggested
    with pytest.raises(WeightsError, match=f"'{NAME}': a folder; did you mean '.*{NAME}/weights/best.pt'"):
        check_weights(NAME)


ALTERED = {
    "a byte": (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "its SHA-256 is"),
    "cut": (lambda c: c[:-1], "bytes, but the published file has"),
    "longer": (lambda c: c + b"x", "bytes, but the published file has"),
    "no checkpoint": (lambda c: bytes(len(c)), "its SHA-256 is"),
}


@pytest.mark.parametrize("how", ALTERED)
@pytest.mark.parametrize("given", ["name", "path"])
def test_altered__refused_before_it_is_read(published, folder, monkeypatch, how, given):
    """A published file with other bytes is refused by name and by path before any parser reads it."""
    change, told = ALTERED[how]
    path = folder / published.file
    path.write_bytes(change(path.read_bytes()))
    monkeypatch.setattr(checkpoints, "_read", lambda path: pytest.fail("read"))
    with pytest.raises(WeightsError, match=told) as error:
        check_weights(NAME if given == "name" else path)
    assert "restore the file, or reinstall pixelkeep" in str(error.value) and "\n" not in str(error.value)


def test_another_good_file__refused(published, folder):
    """Another good checkpoint under a published file's name is refused."""
    checkpoints.save(hostile.checkpoint(), folder / published.file)
    with pytest.raises(WeightsError, match=r"SHA-256|bytes"):
        check_weights(NAME)


def test_copy_elsewhere__is_the_users_own(published, folder, tmp_path):
    """A copy elsewhere may be changed, since the manifest is only about its own folder."""
    shutil.copyfile(folder / published.file, tmp_path / "mine.safetensors")
    stored = Stored(objective="f1", confidence=[0.5, 0.5], imgsz=64, split="val", gt_sha256="0")
    store(tmp_path / "mine.safetensors", stored)
    with pytest.raises(WeightsError, match="are published, and stay as they are"):
        store(folder / published.file, stored)
    assert check_weights(NAME)


def test_missing_file__said(published, folder):
    """A published file that is missing is reported as an incomplete installation."""
    (folder / published.file).unlink()
    with pytest.raises(WeightsError, match="is missing; reinstall pixelkeep"):
        check_weights(NAME)


def test_unknown_name__what_there_is(published, folder):
    """For an unknown name the message gives the nearest, or all published ones, or says that there are none."""
    for name, told in (
        ("tiny-nets", f"weights 'tiny-nets' not found; did you mean '{NAME}'? The published ones are {NAME}"),
        ("yolov5-spd-n", f"the published ones are {NAME}: give a .pt file"),
        ("Visdrone_2.5", f"the published ones are {NAME}: give a .pt file"),
        (f"{NAME}.pt", f"not found; did you mean '{NAME}'?"),
        ("gone/best.pt", "not found; give a .pt file such as runs/train/exp/weights/best.pt, or a .safetensors file"),
    ):
        with pytest.raises(WeightsError) as error:
            check_weights(name)
        assert told in str(error.value)
    (folder / "manifest.yaml").unlink()
    with pytest.raises(WeightsError, match="none is published yet: give a"):
        check_weights("yolov5-spd-n")


@pytest.mark.parametrize("given", ["name", "path"])
def test_linked_file__compared_too(published, folder, tmp_path, given):
    """Installers may put links into the folder, to files without an ending: the files they lead to are compared."""
    path = folder / published.file
    stored = tmp_path / "blob"
    path.rename(stored)
    path.symlink_to(stored)
    asked = NAME if given == "name" else path
    assert check_weights(asked) == path and model_of(load(path)).names == {0: "car", 1: "person"}
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="its SHA-256 is"):
        check_weights(asked)


def test_link_into_the_folder__compared_too(published, folder, tmp_path):
    """A link elsewhere to a published file is compared as that file, under whatever name."""
    (tmp_path / "mine.safetensors").symlink_to(folder / published.file)
    assert check_weights("mine.safetensors")
    (folder / published.file).write_bytes(b"x")
    with pytest.raises(WeightsError, match="but the published file has"):
        check_weights("mine.safetensors")


def test_no_folder__own_weights_all_the_same(wanted, tmp_path, monkeypatch):
    """Without the folder weights are still taken by path, and for a name the message says what is missing."""
    monkeypatch.setattr(assets, "folder", lambda kind: (_ for _ in ()).throw(FileNotFoundError("reinstall pixelkeep")))
    assert check_weights(tmp_path / "run" / "weights" / "best.pt")
    with pytest.raises(WeightsError, match="reinstall pixelkeep"):
        check_weights(NAME)


REST = "sha256: x, model: m, data: d, licence: l, attribution: a, recipe: r, metrics: m, card: c"
DAMAGED = {
    "no YAML": "weights: [",
    "a list": "- a",
    "tags": "schema: 1\nweights: !!python/object/apply:os.mkdir [canary]",
    "another schema": "schema: 2\nweights: {}",
    "an entry without sha256": "schema: 1\nweights: {a: {file: a.pt}}",
    "a path in a subfolder": f"schema: 1\nweights: {{a: {{file: b/a.pt, bytes: 1, {REST}}}}}",
    "an exported file": f"schema: 1\nweights: {{a: {{file: a.onnx, bytes: 1, {REST}}}}}",
    "an absolute path": f"schema: 1\nweights: {{a: {{file: /a.pt, bytes: 1, {REST}}}}}",
    "a path": f"schema: 1\nweights: {{a: {{file: ../a.pt, bytes: 1, {REST}}}}}",
    "bytes as text": f"schema: 1\nweights: {{a: {{file: a.pt, bytes: '1', {REST}}}}}",
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_manifest__one_line(folder, tmp_path, how):
    """A manifest that cannot be read is refused in one line, and nothing in it is executed."""
    (folder / "manifest.yaml").write_text(DAMAGED[how])
    with pytest.raises(WeightsError, match="the manifest of published weights, is damaged") as error:
        check_weights("a")
    assert "\n" not in str(error.value) and not (tmp_path / "canary").exists()


def test_own_manifest__is_true(monkeypatch):
    """Every file this repository publishes is there, matches its entry, and has at most 10 MB, figures and a card."""
    monkeypatch.undo()
    for entry in manifest.read_manifest(ROOT / "weights").values():
        path = ROOT / "weights" / entry.file
        assert (path.stat().st_size, manifest.sha256_of(path)) == (entry.bytes, entry.sha256)
        assert entry.bytes <= manifest.TOO_LARGE
        assert (ROOT / "weights" / entry.metrics).is_file() and (ROOT / "weights" / entry.card).is_file()


def test_script__takes_a_run(wanted, folder, monkeypatch, capsys):
    """The script publishes a finished run, and refuses anything else in one line."""
    keys = ("data", "licence", "attribution", "recipe", "name", "folder")
    script, given = ROOT / "scripts" / "publish_weights.py", [f"--{key}={getattr(wanted, key)}" for key in keys]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [str(script), str(wanted.run), *given])
    runpy.run_path(str(script), run_name="__main__")
    assert f"{NAME}.safetensors" in capsys.readouterr().out and list(manifest.read_manifest(folder)) == [NAME]
    monkeypatch.setattr(sys, "argv", [str(script), "nowhere", *given])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("publish_weights: nowhere: not a finished run")
