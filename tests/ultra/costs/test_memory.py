"""The predicted memory of a training step: compared with real steps, and what it must grow with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixelkeep.ultra.costs.memory import Probe, Tally
from pixelkeep.ultra.weights.definitions import check_model, resolve_model

CLASSES = 4  # as in measured_step.py
WITHIN = 0.2


def probe(name: str) -> Probe:
    return Probe(check_model(resolve_model(name)), 3, CLASSES)


def measure(name: str, batch: int, size: int, objects: int) -> int:
    script = Path(__file__).with_name("measured_step.py")
    command = [sys.executable, str(script), name, *map(str, (batch, size, objects))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


SLOW = [("yolov5-n", 4, 160, 8), ("yolov5-n", 2, 320, 200), ("yolov5-spd-n", 4, 320, 8), ("yolov5-s", 2, 320, 8)]
CASES = [("yolov5-spd-n", 4, 160, 8), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset here")
@pytest.mark.parametrize(("name", "batch", "size", "objects"), CASES)
def test_training_memory__is_what_a_step_takes(name, batch, size, objects):
    """The prediction is within 20 % of the growth of a process that builds the model and trains two steps."""
    predicted = probe(name).training_memory(batch, (size, size), objects).total
    assert predicted == pytest.approx(measure(name, batch, size, objects), rel=WITHIN)


def test_training_memory__follows_batch_and_area():
    """Activations grow with batch and area, weights with neither, and a part of a cell counts as a whole one."""
    one = probe("yolov5-n")
    small, doubled, large = (
        one.training_memory(batch, (side, side), 8) for batch, side in ((2, 128), (4, 128), (2, 256))
    )
    assert doubled.activations == pytest.approx(2 * small.activations, rel=0.01)
    assert large.activations == pytest.approx(4 * small.activations, rel=0.05)
    assert small.weights == doubled.weights == large.weights
    assert large.loss == pytest.approx(4 * small.loss, rel=0.01)
    assert one.training_memory(2, (100, 128), 8) == small


def test_training_memory__grows_with_objects():
    """The memory that assigns objects to anchors grows with the objects of the fullest image."""
    one = probe("yolov5-n")
    assert one.training_memory(2, (128, 128), 400).loss > 2 * one.training_memory(2, (128, 128), 40).loss


def test_training_memory__of_an_end_to_end_head():
    """The loss of a head with two branches is counted as well."""
    assert probe("yolo26-n").training_memory(2, (128, 128), 8).loss > 0


@pytest.mark.parametrize(("name", "strides"), [("yolov5-spd-n", (8, 16, 32)), ("yolov8-p2-n", (4, 8, 16, 32))])
def test_strides__of_a_head(name, strides):
    """Strides are those of the head's levels, the finest first."""
    assert probe(name).strides() == strides


def test_tally__counts_what_is_alive():
    """A tensor counts once and only while it lives, and its views do not count again."""
    with Tally() as tally:
        first = torch.zeros(100)
        view = first[10:].view(9, 10)
        second = first + 1
        assert tally.live == 800 and len(view) == 9
        del second
        assert tally.live == 400
        third = first * 2
    assert (tally.peak, len(third)) == (800, 100)
