"""Everything that touches Ultralytics. No other part of the package imports it."""

import os
import sys


def _asked_threads() -> str | None:
    """Return the user's ``OMP_NUM_THREADS``, or None; importing Ultralytics overwrites the variable with 1."""
    asked = os.environ.get("OMP_NUM_THREADS")
    return None if "ultralytics" in sys.modules and asked == "1" else asked


ASKED_THREADS = _asked_threads()
