"""Fixtures: two contrasts, the second built on the best family of the first, with stubs for training and validation."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from pretending import FIRST, SECOND, Pretender

from pixelkeep.datasets.demo import write_demo
from pixelkeep.experiments import campaign, cells, evidence


@pytest.fixture(scope="session")
def contrast_data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 30, "val": 12, "test": 2})


@pytest.fixture
def pretended(monkeypatch) -> Pretender:
    stub = Pretender()
    monkeypatch.setattr(cells.training, "train", stub.train)
    monkeypatch.setattr(evidence, "validate", stub.validate)

    def process(words: list[str], *_: object, **__: object) -> None:
        names = words[1 : next(place for place, word in enumerate(words) if word.startswith("--"))]
        campaign.work(Namespace(**{**vars(stub.options), "only": names}))

    monkeypatch.setattr(campaign, "side_by_side", process)
    return stub


@pytest.fixture
def options(contrast_data, tmp_path, monkeypatch, pretended) -> Namespace:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contrasts").mkdir()
    for name, contrast in (("1-a", FIRST), ("2-b", SECOND)):
        (tmp_path / "contrasts" / f"{name}.yaml").write_text(yaml.safe_dump(contrast | {"data": str(contrast_data)}))
    given = {"only": [], "form": "full", "minutes": None, "jobs": 1, "seeds": None, "path": None, "device": "cpu"}
    given |= {"project": tmp_path / "made", "out": tmp_path / "out", "weights": False, "again": False, "job": None}
    pretended.options = Namespace(**given, contrasts=tmp_path / "contrasts")
    return pretended.options
