"""Run the contrasts of configs/contrasts/ in order, as far as the given time allows, and record what they say.

    python scripts/evidence.py --path FOLDER --form early --minutes 60 --out docs/results
    python scripts/evidence.py --path FOLDER --form full --minutes 25 --jobs 6 --out docs/results

Stop it whenever you like, or let it stop by itself: the same command continues where it stopped, on another machine too
if --project was copied there. ``early`` is early training on small images, without verdicts; ``full`` is what the
contrasts were written for, and is meant for a GPU. Trainings choose their best epoch on dev, which is cut out of train.

Val is scored once per contrast, and docs/results/ledger.json records when. Before that, dev says how many seeds are
needed: if more seeds would bring its intervals to one point, val stays closed until --seeds gives a number, which may
be the number already trained. A training that fails twice is named, and the rest is judged without it.

``--out`` receives the results that are kept, all of them small files; `scripts/results.py` writes docs/results.md from
them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session, show  # noqa: E402
from pixelkeep.errors import PixelkeepError  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="CONTRAST", help="some of the contrasts; all by default")
    parser.add_argument("--form", choices=("early", "full"), help="full where there is a GPU, else early")
    parser.add_argument("--minutes", type=float, help="how long; to the end by default")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--seeds", type=int, help="trainings of each arm, in place of the form's number")
    parser.add_argument("--path", help="folder of the data, in place of its YAML's own")
    parser.add_argument("--device", help="cpu, or a GPU's number; by default whatever is available")
    parser.add_argument("--project", type=Path, default=Path("runs/evidence"), help="folder of all that is made")
    parser.add_argument("--out", type=Path, help="folder for what is worth keeping, such as docs/results")
    parser.add_argument("--weights", action="store_true", help="put the best seed's weights into --out as well")
    parser.add_argument("--again", action="store_true", help="score val although the ledger says it has been")
    parser.add_argument(
        "--contrasts", type=Path, default=ROOT / "configs" / "contrasts", help="folder of the contrasts"
    )
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)  # number of a process that this script starts
    return parser.parse_args()


def main() -> int:
    options = arguments()
    try:
        with session():
            from pixelkeep.experiments import campaign

            if options.job is not None:
                campaign.work(options)
                return 0
            text = campaign.run(options, Path(__file__).resolve())
    except PixelkeepError as error:
        print(f"evidence: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evidence: interrupted; the same command goes on", file=sys.stderr)
        return 130
    show(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
