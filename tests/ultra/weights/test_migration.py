"""Portable checkpoints of older versions: renamed blocks, changed arguments and renamed tensors are migrated."""

from __future__ import annotations

import json
from copy import deepcopy

import hostile
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import nn
from ultralytics.nn import tasks

import pixelkeep
from pixelkeep.errors import OptionError, WeightsError
from pixelkeep.ultra.network.registry import REGISTRY
from pixelkeep.ultra.weights import description, migration
from pixelkeep.ultra.weights.checkpoints import forget, load, save
from pixelkeep.ultra.weights.integrity import Unusable
from pixelkeep.ultra.weights.migration import STEPS, Step, migrate


class Older(nn.Module):
    """The former block: a kernel size, and a convolution called conv; conv_more shows that whole names are matched."""

    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.conv_more = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x):
        """Apply both convolutions."""
        return self.conv_more(self.conv(x))


class Newer(nn.Module):
    """Today's block: a radius, and the convolution is called main.convolution."""

    def __init__(self, in_channels, out_channels, radius):
        super().__init__()
        self.main = nn.Module()
        self.main.convolution = nn.Conv2d(in_channels, out_channels, 2 * radius + 1, padding=radius)
        self.conv_more = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x):
        """Apply both convolutions."""
        return self.conv_more(self.main.convolution(x))


RENAMED = Step(
    name="Older",
    version=0,
    renamed="Newer",
    arguments=lambda args: [args[0], args[1] // 2],
    tensors=(("conv", "main.convolution"),),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Set the table of steps, and restore the registry after each test."""
    before = dict(REGISTRY)
    monkeypatch.setattr(migration, "STEPS", (RENAMED,))
    yield
    REGISTRY.clear()
    REGISTRY.update(before)
    forget()


def written(folder, repeats=1, version=0):
    """Write a file with the former block, remove this block from the registry, and return the network."""
    pixelkeep.register(Older, version=version)
    rows = yaml.safe_load(hostile.ROWS.replace("[-1, 1, SPDConv, [8]]", f"[-1, {repeats}, Older, [8, 3]]"))
    torch.manual_seed(0)
    model = tasks.DetectionModel({**rows, "depth_multiple": 1.0}, nc=2, verbose=False).eval()
    model.names, model.task = {0: "car", 1: "person"}, "detect"
    save({"model": model, "train_args": {}}, folder / "old.safetensors")
    del REGISTRY["Older"]
    forget()
    return model


@pytest.mark.parametrize("repeats", [1, 3])
def test_renamed_block__computes_the_same(tmp_path, repeats):
    """A block of version 0, alone or repeated, loads as its successor of version 1, with the same outputs."""
    model = written(tmp_path, repeats)
    pixelkeep.register(Newer)
    found = load(tmp_path / "old.safetensors")["model"]
    assert sum(isinstance(part, Newer) for part in found.modules()) == repeats
    assert found.yaml["backbone"][1][2:] == ["Newer", [8, 1]]
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(image)[0], deepcopy(found)(image)[0])


def test_written_again__is_of_today(tmp_path):
    """A migrated file that is written again holds today's version of the block."""
    written(tmp_path)
    pixelkeep.register(Newer)
    save(load(tmp_path / "old.safetensors"), tmp_path / "new.safetensors")
    said = json.loads(metadata_of(tmp_path / "new.safetensors")["blocks"])
    assert said == {"Newer": 1}


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_two_steps__one_after_the_other():
    """Steps lead from any version to today's, each starting from the names that the one before left."""
    steps = (RENAMED, Step(name="Newer", version=1, tensors=(("main", "body"), ("conv_more", "more"))))
    names = ["model.0.conv.weight", "model.1.conv.weight", "model.1.2.conv.bias", "model.1.conv_more.weight", "odd"]
    definition = {"backbone": [[-1, 1, "Conv", [8]], [-1, 3, "Older", [8, 5]]], "head": []}
    pixelkeep.register(Newer, version=2)
    before = deepcopy(definition)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration, "STEPS", steps)
        found, renamed = migrate(definition, {"Older": 0}, names)
        current, kept = migrate({**definition, "backbone": [[-1, 1, "Newer", [8, 2]]]}, {"Newer": 2}, names[:1])
    assert definition == before, "what was given has been changed"
    assert found["backbone"] == [[-1, 1, "Conv", [8]], [-1, 3, "Newer", [8, 2]]]
    expected = ["model.1.body.convolution.weight", "model.1.2.body.convolution.bias", "model.1.more.weight", "odd"]
    assert list(renamed.values()) == ["model.0.conv.weight", *expected]
    assert current["backbone"] == [[-1, 1, "Newer", [8, 2]]] and kept == {names[0]: names[0]}


def test_head_rows__counted_on():
    """Rows of the head are numbered on from the end of the backbone."""
    pixelkeep.register(Newer)
    definition = {"backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Older", [8, 3]]]}
    names = ["model.0.conv.weight", "model.1.conv.weight", "model.11.conv.weight"]
    _, renamed = migrate(definition, {"Older": 0}, names)
    assert list(renamed.values()) == [names[0], "model.1.main.convolution.weight", names[2]]


@pytest.mark.parametrize(
    ("version", "here", "told"),
    [
        (7, 1, "it holds version 7 of block 'Newer', but this pixelkeep has 1; update it"),
        (0, 1, "it holds version 0 of block 'Newer', which cannot be migrated to version 1"),
        (1, None, "it holds block 'Newer', which is unknown here"),
    ],
)
def test_versions_without_a_way__refused(version, here, told):
    """A newer block, one too old, and one that nobody registered are each refused in one line."""
    if here is not None:
        pixelkeep.register(Newer, version=here)
    with pytest.raises(Unusable) as error:
        migrate({"backbone": [[-1, 1, "Newer", [8, 1]]], "head": []}, {"Newer": version}, [])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_newer_format__refused(tmp_path, monkeypatch):
    """The refusal of a file from a later pixelkeep asks for an update, and does not call the file damaged."""
    monkeypatch.setattr(description, "VERSION", 2)
    save(hostile.checkpoint(), tmp_path / "new.safetensors")
    monkeypatch.setattr(description, "VERSION", 1)
    forget()
    with pytest.raises(WeightsError, match="of format 2, but this pixelkeep knows 1; update it"):
        load(tmp_path / "new.safetensors")


def test_table__leads_to_what_is_registered():
    """Each step of the real table starts at a version once published, and ends at a block that is registered."""
    for step in STEPS:
        migrate({"backbone": [[-1, 1, step.name, [8]]], "head": []}, {step.name: step.version}, [])
    assert all(spec.version >= 1 for spec in REGISTRY.values())


@pytest.mark.parametrize("version", [-1, 1.0, "1", True])
def test_register__versions_are_whole_numbers(version):
    """A version that is not a whole number from 0 is refused."""
    with pytest.raises(OptionError, match="give a whole number, 0 or more"):
        pixelkeep.register(Newer, version=version)
