"""Draw two finished runs side by side on the images where they differ most, for better and for worse.

    python scripts/gallery.py RUN_OF_BASELINE RUN_OF_BEST --output docs/images/gallery

Runs are given as run folders of ``pixelkeep train`` or ``val``, such as those that ``scripts/evidence.py`` writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session, show  # noqa: E402
from pixelkeep.errors import PixelkeepError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", type=Path, help="run folder")
    parser.add_argument("other", type=Path, help="run folder of what is compared with it")
    parser.add_argument("--output", type=Path, default=Path("runs/gallery"), help="folder of the pictures")
    parser.add_argument("--each", type=int, default=6, help="images of either kind, at most")
    parser.add_argument("--data", help="the dataset, if it has moved")
    parser.add_argument("--small", action="store_true", help="look only at objects under 32x32 pixels")
    parser.add_argument("--own-size", action="store_true", help="draw images no larger than they are")
    options = parser.parse_args()
    try:
        with session():
            from pixelkeep.experiments.gallery import gallery

            chosen = {"each": options.each, "data": options.data, "small": options.small}
            chosen["enlarge"] = not options.own_size
            files = gallery(options.baseline.resolve(), options.other.resolve(), options.output, **chosen)
    except PixelkeepError as error:
        print(f"gallery: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    show("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
