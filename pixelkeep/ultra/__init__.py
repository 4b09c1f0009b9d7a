"""Everything that touches Ultralytics. No other part of the package imports it."""

import os
import sys


def _asked_threads() -> str | None:
    """Return the number of threads that the user asks for; Ultralytics writes 1 into its place when it is imported."""
    asked = os.environ.get("OMP_NUM_THREADS")
    return None if "ultralytics" in sys.modules and asked == "1" else asked


ASKED_THREADS = _asked_threads()
