"""Tracker settings: stock values for what a file leaves out, and one line for a file that cannot be used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pixelkeep.errors import OptionError
from pixelkeep.ultra.tracking import config as tracker_config
from pixelkeep.ultra.tracking.config import load_tracker
from pixelkeep.ultra.tracking.tracker import Tracker

pytest.importorskip("lap")


def refused(text: str, tmp_path, match: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(OptionError, match=match):
        load_tracker(str(file))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("tracker_type: bytrack", "did you mean 'bytetrack'"),
        ("buffer: 1", "tracker_type None"),
        ("tracker_type: bytetrack\nbufer: 1", "bufer: no such key; did you mean 'buffer'"),
        ("tracker_type: bytetrack\ngmc_method: none", "gmc_method: no such key"),
        ("tracker_type: bytetrack\ntrack_buffer: -3", "at least 0, such as 30; not -3"),
        ("tracker_type: bytetrack\ntrack_buffer: long", "give a number"),
        ("tracker_type: bytetrack\nfuse_score: 1", "give a bool such as True"),
        ("tracker_type: botsort\nwith_reid: true", "with_reid needs model: FILE"),
        ("- a", "not the settings of a tracker"),
        ("a: [", "not a YAML file"),
    ],
)
def test_file__refused(text, match, tmp_path):
    refused(text, tmp_path, match)


def test_file__what_it_leaves_out_is_stock(tmp_path):
    """A one-line file gives Ultralytics' tracker unchanged, and an unknown GMC method is reported in one line."""
    file = tmp_path / "mine.yaml"
    file.write_text("tracker_type: botsort\n")
    stock = {**vars(load_tracker("botsort")), "name": "mine"}
    assert vars(load_tracker(str(file))) == stock and stock["buffer"] == 0
    with pytest.raises(OptionError, match="tracker mine: Unknown GMC method: wind"):
        Tracker(SimpleNamespace(**{**stock, "gmc_method": "wind"}))


def test_lap__missing_is_one_line(monkeypatch):
    """If lap is missing, one line names it and how to install it; nothing is installed."""
    monkeypatch.setattr(tracker_config.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"--track needs the package 'lap': pip install 'pixelkeep\[track\]'"):
        load_tracker("bytetrack")
