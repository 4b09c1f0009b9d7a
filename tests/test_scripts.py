"""Scripts and benchmarks can be imported: they are run by hand, so no other test would notice a broken import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMPORT_ALL = """
import importlib, sys
sys.path[:0] = sys.argv[1:2]
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


@pytest.mark.parametrize("folder", ["scripts", "benchmarks"])
def test_imports__are_there(folder):
    """Every file can be imported with its folder on the path."""
    names = sorted(path.stem for path in (ROOT / folder).glob("*.py"))
    assert len(names) > 5
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(ROOT / folder), *names], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
