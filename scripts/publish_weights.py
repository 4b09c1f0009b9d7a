"""Publish the best epoch of a finished run as weights/NAME.safetensors in fp16, with its figures, card and entry.

    python scripts/publish_weights.py runs/train/exp --name yolov5-spd-n-hituav --data HIT-UAV --licence "CC BY 4.0" \\
        --attribution "Suo et al., HIT-UAV, Scientific Data 2023" --recipe "pixelkeep train --config small-objects ..."

The card (weights/NAME.md) says for which classes and sizes the figures are lowest. Read it, and add what pictures show.
If the run's own figures come from the images on which its best epoch was chosen, --scored RUN takes the figures from a
run of `pixelkeep val` of its best.pt on held-out images instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.errors import PixelkeepError  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of detection")
    parser.add_argument("--name", required=True, help="under which it is found")
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--licence", required=True, help="of the data")
    parser.add_argument("--attribution", required=True, help="as the licence of the data asks for it")
    parser.add_argument("--recipe", required=True, help="the command that trains it again")
    parser.add_argument("--scored", type=Path, help="a run of val of its best.pt, whose figures are published instead")
    parser.add_argument("--folder", type=Path, default=ROOT / "weights", help="where the manifest is")
    options = parser.parse_args()
    with session():
        from pixelkeep.ultra.export.publishing import Publication, publish

        try:
            entry = publish(Publication(**vars(options)))
        except PixelkeepError as error:
            print(f"publish_weights: {error}", file=sys.stderr)
            sys.exit(2)
    print(f"{options.folder / entry.file}: {entry.bytes / 1e6:.2f} MB, sha256 {entry.sha256}")
    print(f"{options.folder / entry.card}: the model card, to be read and completed")


if __name__ == "__main__":
    main()
