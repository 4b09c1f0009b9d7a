"""A signal that arrives after two OpenVINO networks were freed in the order in which they were made."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import contextlib, os, signal, sys
import numpy, openvino
from openvino import opset13
from pixelkeep.ultra.running.signal_stack import signal_stack, signal_stack_kept

def compiled():
    entry = opset13.parameter([1, 3, 8, 8], numpy.float32)
    core = openvino.Core()
    return core, core.compile_model(openvino.Model([opset13.relu(entry)], [entry]), "CPU")

before = signal_stack()
with signal_stack_kept():
    first = compiled()
with signal_stack_kept():
    second = compiled()
del first
del second
after = signal_stack()
assert (before.sp, before.flags, before.size) == (after.sp, after.flags, after.size)
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="alternate signal stacks as Linux has them")
@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]], ids=["none before", "one of faulthandler's"])
def test_signals__heard_after_networks_are_freed(options):
    """The signal stack is the same as before, and a handler runs; OpenVINO by itself leaves a freed stack behind."""
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, *options, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
