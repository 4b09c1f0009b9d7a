"""What the commands show: only lines that say something, and colours on a terminal only."""

from __future__ import annotations

import contextlib
import logging

import pytest
from screens import Screen
from ultralytics.utils import LOGGER

from pixelkeep.ultra.running import console

BLUE = "\x1b[34m\x1b[1mtrain: \x1b[0m"


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def screen(request, monkeypatch):
    """A standard output, and Ultralytics' logger writing to it without any filter."""
    stream = Screen(request.param)
    monkeypatch.setattr(LOGGER, "filters", [])
    monkeypatch.setattr(LOGGER, "handlers", [logging.StreamHandler(stream)])
    return stream


def test_colours__on_a_terminal_only(screen):
    """Messages and bars keep their colours on a terminal and lose them in a file, however the text is set."""
    with contextlib.redirect_stdout(screen):
        console.plain()
        LOGGER.info(f"{BLUE}100%% of %s", "data")
        LOGGER.warning("no colour here: 100%")
        bar = console.Bar(desc=f"{BLUE}reading", total=2)
        bar.desc = f"{BLUE}read"
        bar.update(2)
        bar.close()
    text = screen.getvalue()
    assert "no colour here: 100%" in text and "train: read" in text.replace(BLUE, "train: ")
    assert ("\x1b" in text) == screen.terminal


def test_quiet__noise_is_left_out_of_what_stays(screen):
    """Of a message of several lines those go that say nothing; warnings always stay."""
    console.quiet()
    LOGGER.info("Using 8 train images\nUsing 0 dataloader workers\nLogging results to \x1b[1mruns\x1b[0m\nStarting")
    LOGGER.info("Using 0 dataloader workers\n")
    LOGGER.warning("Speed: a warning that begins like noise")
    assert screen.getvalue() == "Using 8 train images\nStarting\nSpeed: a warning that begins like noise\n"
