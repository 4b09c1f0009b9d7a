"""Count what a ResNet-18 trunk costs with dense, content-adaptive and selective stages, at measured active fractions.

    python scripts/count_selective.py [--switches] [--images FOLDER] [--size HEIGHT WIDTH]

The trunk is that of a segmentation network with strides 8 and 16. Its last two stages keep stride 8 everywhere (dense),
nowhere (strided), in regions that are computed at both resolutions (content-adaptive), or at cells that are computed
beside a strided stage (selective). Masks are edges of real pictures. Their threshold is the one at which the wanted
share of 16x16 pixel cells is active, on average over the pictures; with a halo they grow by one cell. Multiply-adds are
counted while the pictures run through the networks. The selective stage's other two means change none: the teacher
exists in training only, and fusion adds where otherwise values are replaced. Times are ratios to the dense trunk's,
measured in turns, as the median of the pairs.

With --switches the table has a row for each way of setting the three means, at the stage's default fraction. As when
gates are trained, this fraction includes the halo: edges are grown by it, so fewer of them are taken. The cost columns
relate the sparse part to the dense trunk's two stages, both stages to the content-adaptive trunk's with the same masks,
and the whole trunk to the content-adaptive trunk. The times of inference and of a training step (forward and backward,
with the losses of the stage) are relative to the dense trunk's.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from pixelkeep import assets  # noqa: E402
from pixelkeep.blocks import ContentAdaptiveStage, ConvNorm, ResNetStage, SelectiveStage  # noqa: E402
from pixelkeep.blocks.masks import EdgeMask  # noqa: E402
from pixelkeep.datasets.demo import write_demo  # noqa: E402
from pixelkeep.datasets.images.pixels import read_pixels  # noqa: E402

FRACTIONS = (0.02, 0.05, 0.1, 0.26)  # 0.26 is where the counted content-adaptive ResNet-101 costs 690 G
PLAN = ((128, 256), (256, 512))  # channels of the two stages
SUFFIXES = {".jpg", ".jpeg", ".png"}
FRACTION = 0.05  # the selective stage's default
Network = Callable[[Tensor, Tensor], Tensor]
Clock = Callable[[Network, Tensor, Tensor], float]


class Trunk(nn.Module):
    """The stem and the first two stages, which all variants share, then two stages of one kind.

    Args:
        stage: Function that makes a stage from its input and output channels.
    """

    def __init__(self, stage: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.before = nn.Sequential(
            ConvNorm(3, 64, 7, 2),
            nn.MaxPool2d(3, 2, 1),
            ResNetStage(64, 64, 2, "none", "basic"),
            ResNetStage(64, 128, 2, "conv", "basic"),
        )
        self.stages = nn.ModuleList(stage(*channels) for channels in PLAN)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map images (N, 3, H, W) and a mask of 16x16 pixel cells to (N, 512, H/8, W/8), or (N, 512, H/16, W/16)."""
        x = self.before(x)
        for stage in self.stages:
            x = stage(x, mask) if isinstance(stage, (SelectiveStage, ContentAdaptiveStage)) else stage(x)
        return x


def strided() -> Callable[[int, int], nn.Module]:
    """Return a maker of stages of which the first has stride 2; the second's dilation in the paper costs nothing."""
    return lambda c1, c2: ResNetStage(c1, c2, 2, "conv" if c1 == PLAN[0][0] else "none", "basic")


def adaptive(in_channels: int, out_channels: int) -> nn.Module:
    """Return a content-adaptive stage with regions of 2x2 cells; the first of the trunk has stride 2."""
    stride = 2 if in_channels == PLAN[0][0] else 1
    return ContentAdaptiveStage(in_channels, out_channels, 2, None, "basic", stride, side=2)


def trunks() -> dict[str, nn.Module]:
    """Return the four trunks by name."""
    stages = {
        "dense": lambda c1, c2: ResNetStage(c1, c2, 2, "none", "basic"),
        "strided": strided(),
        "content-adaptive": adaptive,
        "selective": lambda c1, c2: SelectiveStage(c1, c2, 2, activation=nn.ReLU()),
    }
    return {name: Trunk(stage).eval().to(memory_format=torch.channels_last) for name, stage in stages.items()}


def selective(fusion: bool, halo: int, teacher: bool) -> Trunk:
    """Return the selective trunk with its three means set."""
    stage = partial(SelectiveStage, blocks=2, fusion=fusion, halo=halo, teacher=teacher, activation=nn.ReLU())
    return Trunk(stage).eval().to(memory_format=torch.channels_last)


def pictures(folder: Path | None, size: tuple[int, int]) -> list[Tensor]:
    """Return up to two pictures of a folder, or of the demo data, as (1, 3, H, W) with values from 0 to 1."""
    if folder is None:
        folder = assets.home() / "datasets" / "count-selective"
        write_demo(folder, splits={"train": 1, "val": 1, "test": 1})
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)[:2]
    if not files:
        sys.exit(f"{folder}: no pictures (.jpg, .png)")
    maps = (torch.from_numpy(read_pixels(file, 3)).permute(2, 0, 1)[None].float() / 255 for file in files)
    return [F.interpolate(x, size, mode="bilinear", antialias=True) for x in maps]


def grown(mask: Tensor, halo: int) -> Tensor:
    """Return a mask grown by ``halo`` cells to each side."""
    return F.max_pool2d(mask, 2 * halo + 1, 1, halo)


def masks_at(images: list[Tensor], fraction: float, halo: int = 0) -> list[Tensor]:
    """Return edge masks of 16x16 pixel cells, with the threshold that makes the wanted share of all cells active.

    Args:
        images: Pictures, (1, 3, H, W) each.
        fraction: Wanted share of active cells on average over the pictures, after the masks have grown.
        halo: Cells by which the masks grow.
    """
    low, high = 0.001, 1.0
    for _ in range(12):
        threshold = (low * high) ** 0.5
        found = [grown(EdgeMask(16, threshold, 1)(image), halo) for image in images]
        share = statistics.fmean(mask.mean().item() for mask in found)
        low, high = (threshold, high) if share > fraction else (low, threshold)
    return found


def count(network: Network, images: list[Tensor], masks: list[Tensor]) -> float:
    """Return the multiply-adds per image in G, averaged over the images."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        for image, mask in zip(images, masks, strict=True):
            network(image, mask)
    return counter.get_total_flops() / 2e9 / len(images)


def seconds(network: Network, image: Tensor, mask: Tensor) -> float:
    """Return the inference time of one image in seconds."""
    begin = time.perf_counter()
    with torch.inference_mode():
        network(image, mask)
    return time.perf_counter() - begin


def step_seconds(network: nn.Module, image: Tensor, mask: Tensor) -> float:
    """Return the time in seconds of a training step: forward with the stages' losses, and backward."""
    network.train()
    begin = time.perf_counter()
    loss = network(image, mask).square().mean()
    for stage in network.stages:
        if isinstance(stage, SelectiveStage) and (error := stage.auxiliary_loss()) is not None:
            loss = loss + error
    loss.backward()
    taken = time.perf_counter() - begin
    network.zero_grad()
    network.eval()
    return taken


def ratio(network: Network, dense: Network, image: Tensor, mask: Tensor, pairs: int, clock: Clock = seconds) -> float:
    """Return a network's time relative to the dense one's, as the median of the pairs; nan without pairs."""
    found = []
    for _ in range(pairs):
        base = clock(dense, image, mask)
        found.append(clock(network, image, mask) / base)
    return statistics.median(found) if found else float("nan")


def rows(images: list[Tensor], pairs: int) -> Iterator[tuple[str, float, float, float, float]]:
    """Yield the rows of the table.

    Yields:
        Name, active share, multiply-adds in G, these relative to the content-adaptive trunk's (nan for the first two
        rows), time relative to the dense trunk's.
    """
    networks = trunks()
    dense = networks["dense"]

    def row(name: str, shown: str, masks: list[Tensor], base: float) -> tuple[str, float, float, float, float]:
        share = statistics.fmean(mask.mean().item() for mask in masks)
        cost = count(networks[name], images, masks)
        taken = ratio(networks[name], dense, images[0], masks[0], pairs)
        return shown, share, cost, cost / (base or cost), taken

    full = [torch.ones_like(mask) for mask in masks_at(images, 0.5)]
    yield row("dense", "dense, stride 8", full, float("nan"))
    yield row("strided", "strided, stride 16", [0 * mask for mask in full], float("nan"))
    for fraction in FRACTIONS:
        masks = masks_at(images, fraction)
        base = row("content-adaptive", "content-adaptive", masks, 0)
        yield base
        yield row("selective", "selective", masks, base[2])
        yield row("selective", "selective, halo", [grown(mask, 1) for mask in masks], base[2])


def switch_rows(images: list[Tensor], pairs: int) -> Iterator[list[str]]:
    """Yield the table cells for each way of setting the three means, at the stage's default fraction."""
    networks = trunks()
    dense, adaptive_trunk = networks["dense"], networks["content-adaptive"]
    whole = masks_at(images, 0.5)
    shared = count(lambda image, mask: dense.before(image), images, whole)
    stages = count(dense, images, whole) - shared
    for fusion, halo, teacher in itertools.product((False, True), (0, 1), (False, True)):
        masks = masks_at(images, FRACTION, halo)
        network = selective(fusion, halo, teacher)
        cost, base = count(network, images, masks), count(adaptive_trunk, images, masks)
        sparse = cost - count(network, images, [0 * mask for mask in masks])
        share = statistics.fmean(mask.mean().item() for mask in masks)
        taken = [ratio(network, dense, images[0], masks[0], pairs, clock) for clock in (seconds, step_seconds)]
        means = ["on" if mean else "off" for mean in (fusion, halo, teacher)]
        costs = (sparse / stages, (cost - shared) / (base - shared), cost / base)
        yield [*means, f"{share:.3f}", f"{cost:.2f}", *(f"{value:.2f}" for value in (*costs, *taken))]


SWITCH_HEAD = (
    "| Fusion | Halo | Teacher | Active | Multiply-adds, G | Sparse part, of dense stages "
    "| Stages, of content-adaptive | Trunk, of content-adaptive | Time, of dense | Training step, of dense |"
)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", action="store_true", help="a row for each way of setting the three means")
    parser.add_argument("--images", type=Path, help="folder of pictures; the generated demo's by default")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pairs", type=int, default=5, help="measurements of time for each row; 0 for none")
    given = parser.parse_args()
    torch.manual_seed(0)
    images = pictures(given.images, tuple(given.size))
    if given.switches:
        print(f"{SWITCH_HEAD}\n|{'---|' * 10}")
        for cells in switch_rows(images, given.pairs):
            print(f"| {' | '.join(cells)} |".replace("nan", "–"), flush=True)
        return
    print("| Trunk | Active | Multiply-adds, G | Of content-adaptive | Time, of dense |\n|---|---|---|---|---|")
    for name, share, cost, relative, taken in rows(images, given.pairs):
        cells = (f"{relative:.2f}", f"{taken:.2f}")
        print(f"| {name} | {share:.3f} | {cost:.2f} | {' | '.join(cells)} |".replace("nan", "–"), flush=True)


if __name__ == "__main__":
    main()
