"""Proves that evaluation loads neither torch nor Ultralytics, and pycocotools only as the reference."""

import subprocess
import sys

import pixelkeep.evaluation

SCRIPT = """
import sys
from pixelkeep.evaluation import GroundTruthBuilder, evaluate
builder = GroundTruthBuilder(["ant"])
builder.add_image("a.jpg", 9, 9, [[0, 0, 4, 4]], [0])
assert evaluate(builder.build(), []).AP == 0.0
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "ultralytics", "pycocotools"}))
evaluate(builder.build(), [], evaluator="pycocotools")
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "ultralytics", "pycocotools"}))
"""


def test_fresh_process__loads_no_framework():
    """Importing and running the evaluator loads none of the three; the reference evaluator loads pycocotools alone."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['pycocotools']"]


def test_public_names__are_sorted_and_there():
    """Every name in ``__all__`` exists, and they are in the linter's order, constants first."""
    names = pixelkeep.evaluation.__all__
    assert all(hasattr(pixelkeep.evaluation, name) for name in names)
    assert sorted(names, key=lambda name: (not name.isupper(), name.islower(), name)) == names
