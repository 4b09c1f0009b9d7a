"""``--model``: what can be built and run comes back as a definition, and anything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
import yaml
from ultralytics.nn import tasks

from pixelkeep.cli.main import run
from pixelkeep.errors import ModelError
from pixelkeep.ultra.weights.definitions import check_model, resolve_model

SCALED = f"scales:\n  s: [1, 2, 64]\n  n: [1, 1, 64]\n{hostile.ROWS}"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Write good data and weights into the current folder."""
    hostile.write_workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(text, name="mine.yaml"):
    Path(name).write_text(text)
    return check_model(resolve_model(name))


def test_checkpoint__gives_its_definition():
    """The definition inside a checkpoint is built like that of a YAML."""
    rows = yaml.safe_load(hostile.ROWS)
    definition = check_model(resolve_model("good.pt"))
    assert (definition["backbone"], definition["head"]) == (rows["backbone"], rows["head"])


def test_checkpoint__definition_that_cannot_be_built(workplace):
    """A checkpoint that can predict may hold a definition that cannot be trained, which is refused."""
    path = hostile.save(workplace / "odd.pt", hostile.altered(lambda m: m.yaml.update(backbone=[[-1, 1, "Gone", [8]]])))
    with pytest.raises(ModelError, match="unknown block 'Gone'"):
        check_model(path)


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", None])
def test_torchvision__downloads_nothing(weights):
    """A row of TorchVision's networks is accepted only without pretrained weights."""
    row = f"[-1, 1, TorchVision, [512, resnet18, {weights or 'null'}, True, 2]]"
    text = hostile.ROWS.replace("[-1, 1, Conv, [8, 3, 2]]", row)
    if weights is None:
        assert checked(text)["backbone"][0][2] == "TorchVision"
    else:
        with pytest.raises(ModelError, match="downloads weights; write None"):
            checked(text)


def test_sizes_that_do_not_fit__refused():
    """Rows whose feature maps do not fit together are refused, found by running the network once."""
    joined = hostile.ROWS.replace("[[2], 1, Detect", "[[0, 2], 1, Concat, [1]]\n  - [[3], 1, Detect")
    with pytest.raises(ModelError, match=r"cannot be built .*Sizes of tensors must match"):
        checked(joined)


def test_scale__first_where_none_is_named():
    """A definition without a letter in its name gets the first of its scales, as Ultralytics builds it."""
    assert checked(SCALED)["scale"] == "s"
    assert checked(SCALED, "mine-n.yaml")["scale"] == "n"


def test_scale__said_once(monkeypatch):
    """A command says only once that the first scale was taken, however often it reads the definition."""
    said = []
    monkeypatch.setattr(tasks.LOGGER, "warning", said.append)
    Path("mine.yaml").write_text(SCALED)
    with pytest.raises(SystemExit) as end:
        run(hostile.MODEL["train --model"].format(file="mine.yaml").split())
    assert end.value.code == 0
    assert len([line for line in said if "no model scale passed" in line]) == 1
