"""Proves that the blocks are registered whenever and however Ultralytics is imported, and that it happens once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHECK = """
from ultralytics.engine import model
from ultralytics.nn import tasks
depth = lambda f: 1 + depth(f.__wrapped__) if hasattr(f, "__wrapped__") else 0
print(depth(tasks.parse_model), depth(tasks.BaseModel.fuse), model.yaml_model_load is tasks.yaml_model_load,
      any("pixelkeep" in type(finder).__module__ for finder in sys.meta_path))
"""
ORDERS = {
    "before Ultralytics": "import pixelkeep",
    "after Ultralytics": "import ultralytics.nn.tasks, pixelkeep",
    "twice": "import pixelkeep; pixelkeep.hook.install(); import ultralytics.nn.tasks; pixelkeep.hook.install()",
    "blocks only": "import pixelkeep.blocks",
    "after an interrupted import": """
import pixelkeep
import ultralytics.utils
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "ultralytics.nn.autobackend":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
try:
    import ultralytics.nn.tasks
except KeyboardInterrupt:
    assert "ultralytics.nn.tasks" not in sys.modules
""",
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_import__registers_once(order, tmp_path):
    """In any order, even after an interrupted import, functions are wrapped once and no finder is left behind."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", "import sys\n" + order + CHECK]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1 1 True False\n", done.stderr[-2000:]


def test_extend__also_what_another_package_has_wrapped(tmp_path):
    """Our parser is put in where another package wrapped it first, and is not put in again where another wraps ours."""
    code = """
import functools, ultralytics.nn.tasks as tasks
def wrap(f):
    return functools.wraps(f)(lambda *a, **k: f(*a, **k))
tasks.parse_model = wrap(tasks.parse_model)
import pixelkeep
ours = tasks.parse_model
tasks.parse_model = wrap(ours)
pixelkeep.hook.install()
d = {"nc": 1, "backbone": [[-1, 1, "SPDConv", [8]]], "head": []}
print(type(tasks.parse_model(d, 3, False)[0][0]).__name__, tasks.parse_model.__wrapped__ is ours)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "SPDConv True\n", done.stderr[-2000:]
