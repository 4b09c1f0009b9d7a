"""Show how exact a conversion and its folding are, on your own weights and images.

Converts a checkpoint and prints the largest differences of boxes (pixels) and scores from the source, over all boxes
before NMS: in double precision, in single precision, and in single precision after folding, as val and detect run it.
"source fused" is the change from fusing the source's own BatchNorms, which is rounding alone. "spread" is the standard
deviation of the source's outputs, since any two networks agree where nothing varies.

    python scripts/check_conversion.py weights.pt --images FOLDER --to yolov5-spdconv-n yolov5-spd-n
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from copy import deepcopy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.report.tables import text_table  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", required=True, help="file, folder or glob; the first 16 are taken")
    parser.add_argument("--to", nargs="+", required=True, help="models to convert to")
    parser.add_argument("--imgsz", type=int, default=320)
    options = parser.parse_args()
    rows = []
    with session(), tempfile.TemporaryDirectory() as folder:
        import torch

        from pixelkeep.ultra.conversion.fit import read_images
        from pixelkeep.ultra.conversion.models import convert_model
        from pixelkeep.ultra.weights.checkpoints import load, model_of

        def output(model, x):
            model.model[-1].end2end = False  # the output holds all boxes, not just the best
            with torch.inference_mode():
                return model.eval()(x)[0]

        source = deepcopy(model_of(load(options.weights))).float()
        images = read_images(options.images, options.imgsz, source.yaml.get("channels", 3), most=16)
        single, double = output(source, images), output(deepcopy(source).double(), images.double())
        for name in options.to:
            path = Path(folder) / "converted.pt"
            convert_model(options.weights, name, path)
            model = deepcopy(model_of(load(path))).float()
            found = [
                (output(deepcopy(model).double(), images.double()) - double).abs(),
                (output(model, images) - single).abs(),
                (output(model.fuse(verbose=False), images) - single).abs(),
                (output(deepcopy(source).fuse(verbose=False), images) - single).abs(),
            ]
            for what, part in (("boxes", slice(0, 4)), ("scores", slice(4, None))):
                shown = [f"{float(f[:, part].max()):.1e}" for f in found]
                rows.append([name, what, *shown, f"{float(double[:, part].std()):.3g}"])
        top = float(double[:, 4:].max())
    print(text_table(["target", "", "fp64", "fp32", "folded", "source fused", "spread"], rows, left=2))
    print(f"\n{len(images)} images of {images.shape[-1]} pixels; highest score {top:.2f}")


if __name__ == "__main__":
    main()
