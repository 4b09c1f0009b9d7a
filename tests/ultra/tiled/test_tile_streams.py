"""Streams side by side in tiles: a lost one costs nothing, and its time is shared among the others."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from pixelkeep.ultra.data.streams import MISSING
from pixelkeep.ultra.tiled.budget import Budget
from pixelkeep.ultra.tiled.images import Tiles
from pixelkeep.ultra.tiled.predictor import TiledPredictor


@pytest.fixture
def predictor(noise_weights, tmp_path) -> TiledPredictor:
    """Return a predictor with a batch of three frames of 8 tiles; it records the tiles given to the network."""
    settings = {"model": str(noise_weights), "mode": "predict", "device": "cpu", "save_dir": str(tmp_path), "conf": 0.1}
    predictor = TiledPredictor(Tiles(size=64, imgsz=64), settings, False)
    predictor.setup_model(None, verbose=False)
    picture = np.random.default_rng(1).integers(0, 255, (96, 192, 3), np.uint8)
    frames = [picture, np.zeros_like(picture), picture]
    predictor.batch = (["a", "b", "c"], frames, [""] * 3)
    look, predictor.seen_tiles = predictor.engine.look, []

    def counted(canvas, windows):
        predictor.seen_tiles += windows.tolist()
        return look(canvas, windows)

    predictor.engine.look = counted
    return predictor


def look(predictor: TiledPredictor, *numbers: int) -> list:
    predictor.dataset = SimpleNamespace(mode="stream", numbers=list(numbers))
    return predictor.postprocess(predictor.inference(None), None, predictor.batch[1])


@pytest.mark.parametrize("rate", [False, True])
def test_missing__is_not_looked_at(rate, predictor):
    """A stream without a frame has no tile processed or counted, and its tiles keep their detections."""
    if rate:
        predictor.budget, predictor.until = Budget(time.monotonic), time.monotonic() + 100
    before = look(predictor, 1, 1, 1)
    seams, tiles, told = predictor.seams, len(predictor.seen_tiles), predictor.turns()
    assert tiles == 24 and min(len(result) for result in (before[0], before[2])) > 0
    after = look(predictor, 2, MISSING, 2)
    assert len(predictor.seen_tiles) == 40 and len(after[1]) == 0 and "turns" not in after[1].notes
    assert [len(result) for result in after[::2]] == [len(result) for result in before[::2]]
    one = [result.notes["seams"]["candidates"] for result in after]
    assert predictor.seams.candidates - seams.candidates == one[0] + one[2] and one[1] == 0
    if rate:
        lost = predictor.turns()[1, "b"]
        assert lost | {"longest_unseen_s": 0} == told[1, "b"] | {"longest_unseen_s": 0}
        assert predictor.turns()[0, "a"]["tiles_looked_at"] == 16


def test_missing__leaves_its_share_to_others(predictor, monkeypatch):
    """The time until the next frame is divided among the streams that have a frame."""
    predictor.budget, predictor.until = Budget(time.monotonic), time.monotonic() + 30_000
    given: list[float] = []
    share = Budget.next

    def noted(self, key, grid, shape, until):
        given.append(until - time.monotonic())
        return share(self, key, grid, shape, until)

    monkeypatch.setattr(Budget, "next", noted)
    look(predictor, 1, MISSING, MISSING)
    look(predictor, 2, MISSING, 1)
    look(predictor, 3, 1, 2)
    assert np.round(np.array(given) / 5_000).tolist() == [6, 3, 6, 2, 3, 6]
