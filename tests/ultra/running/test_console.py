"""What the commands print: only informative lines, and colours only on a terminal."""

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
    """A stream in place of standard output, to which Ultralytics' logger writes without any filter."""
    stream = Screen(request.param)
    monkeypatch.setattr(LOGGER, "filters", [])
    monkeypatch.setattr(LOGGER, "handlers", [logging.StreamHandler(stream)])
    return stream


def test_colours__on_a_terminal_only(screen):
    """Messages and bars keep their colours on a terminal and lose them in a file, whichever way their text is set."""
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
    """Uninformative lines are removed from a message of several lines; warnings always stay."""
    console.quiet()
    LOGGER.info("Using 8 train images\nUsing 0 dataloader workers\nLogging results to \x1b[1mruns\x1b[0m\nStarting")
    LOGGER.info("Using 0 dataloader workers\n")
    LOGGER.warning("Speed: a warning that begins like noise")
    assert screen.getvalue() == "Using 8 train images\nStarting\nSpeed: a warning that begins like noise\n"
    LOGGER.info("\n1 epochs completed in 0.001 hours.")  # our trainer reports this in a fitting unit
    assert screen.getvalue().endswith("like noise\n")


def epoch(name: str, *losses: float) -> str:
    """Return the line that Ultralytics' trainer writes for an epoch: epoch, memory, losses, instances, size."""
    return ("%11s" * 2 + "%11.4g" * (2 + len(losses))) % (name, "1.23G", *losses, 17, 640)


def described(screen, *losses: float) -> str:
    """Return the last line that the progress bar writes for an epoch of 500 batches."""
    with contextlib.redirect_stdout(screen):
        bar = console.Bar(total=500)
        bar.start_t -= 100
        bar.set_description(epoch("100/300", *losses))
        bar.update(500)
        bar.close()
    return screen.getvalue().replace("\r\x1b[K", "\n").strip().splitlines()[-1]


def test_epoch__losses_are_named_within_80_columns(screen, monkeypatch):
    """Each loss is shown after its own name, whatever the head calls it; for another trainer each is called "loss"."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(console.Bar, "losses", ())
    assert described(screen, 3.2041, 0.0512).startswith("epoch 100/300 loss 3.20 loss 0.051: 100%")
    console.name_losses(["box_loss", "cls_loss", "dfl_loss"])
    line = described(screen, 3.2041, 12.345, 0.0512)
    assert line.startswith("epoch 100/300 box 3.20 cls 12.35 dfl 0.051: 100%") and line.rstrip().endswith("1:40")
    assert len(line) <= 80
    console.name_losses(["loss"])
    assert described(screen, 0.5).startswith("epoch 100/300 loss 0.500: 100%")
