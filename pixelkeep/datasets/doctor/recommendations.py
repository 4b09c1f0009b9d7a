"""Put advice into words: what to do about object sizes, each time with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelkeep.datasets.doctor.advice import SHARE, WHOLE, Choice, Tiling
from pixelkeep.datasets.doctor.sizes import Size

HALF = 0.5  # share of small objects above which smaller initial boxes are advised


@dataclass(frozen=True)
class Advice:
    """One recommendation.

    Attributes:
        kind: What it is about: image size, tiles, head, boxes, memory or validation.
        text: What to do.
        why: The reason, with numbers.
    """

    kind: str
    text: str
    why: str


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal, which is dropped if it is 0."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def show_size(size: Size) -> str:
    """Return a size in the form of --imgsz: 640 for a square, or height and width such as 512 640."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]} {size[1]}"


def on_size(size: Size, here: float, choices: Sequence[Choice], tiles: Tiling) -> Advice:
    """Recommend an image size, or tiles.

    Args:
        size: Height and width of the input that is asked about.
        here: Share of the objects that reach the goal of ``choices[0]`` at ``size``.
        choices: The choice with the model that is asked about, followed by those with other models.
        tiles: Tiles in which enough objects reach the goal with inputs of ``size``.
    """
    own = choices[0]
    measure = f"{percent(here)} of the objects measure {own.goal:g} px or more"
    asked = f"{percent(SHARE)} are asked for"
    if own.size[0] <= size[0]:
        return Advice("image size", f"keep --imgsz {show_size(size)}", f"{measure} there, {asked}")
    lack = f"at {show_size(size)}, {measure}; {asked}"
    whole = [choice for choice in choices if choice.gflops is not None and max(choice.size) <= WHOLE]
    if whole:
        ways = [show_size(c.size) + ("" if c is own else f" with --model {c.model}") for c in whole]
        costs = [
            f"{percent(c.share)} measure {c.goal:g} px or more at {way}, for {c.gflops:.1f} GFLOPs an image"
            for c, way in zip(whole, ways, strict=True)
        ]
        open_ = " Which is better was not measured" if len(whole) > 1 else ""
        return Advice("image size", f"use --imgsz {', or '.join(ways)}", f"{lack}. {'; '.join(costs)}.{open_}")
    return Advice(
        "tiles",
        f"cut images into tiles of {' x '.join(map(str, tiles.tile[::-1]))} px (width x height), overlapping by "
        f"{tiles.overlap} px, shown at --imgsz {show_size(size)}",
        f"{lack}. Whole images would need {show_size(own.size)}, more than {WHOLE}; {tiles.tiles} such tiles cover "
        f"the image of median size, and {percent(tiles.share)} of the objects measure {own.goal:g} px or more in them",
    )


def on_head(size: Size, here: float, fine: Choice, fine_here: float) -> Advice | None:
    """Recommend for or against a P2 head; return None if :func:`on_size` already weighs a model that has one.

    Args:
        size: Height and width of the input that is asked about.
        here: Share of the objects that reach the goal without a P2 head at ``size``.
        fine: The choice with a P2 head.
        fine_here: Share of the objects that reach the goal of ``fine`` at ``size``.
    """
    shown = show_size(size)
    if here >= SHARE:
        return Advice(
            "head", "no P2 head", f"{percent(here)} of the objects are large enough for a coarser one at {shown}"
        )
    if fine.model is not None:
        return None
    figures = f"at {shown}, {percent(fine_here)} of the objects measure the {fine.goal:g} px that it asks for"
    rest = f"{percent(here)} measure twice that" if fine_here >= SHARE else f"{percent(SHARE)} are asked for"
    which = "a model with a P2 head (this family has none)"
    return Advice("head", f"or, at {show_size(fine.size)}, {which}", f"{figures}; {rest}")


def on_boxes(under: float, stride: int, size: Size) -> Advice | None:
    """Recommend smaller initial boxes if most objects are smaller than two cells; return None otherwise.

    Args:
        under: Share of the objects that are smaller than two cells.
        stride: Side in pixels of a cell of the finest level.
        size: Height and width of the input that is asked about.
    """
    if under <= HALF:
        return None
    return Advice(
        "boxes",
        "train with --set initial_box=2",
        f"{percent(under)} of the objects measure under {2 * stride} px at {show_size(size)}, and a new head begins "
        f"with boxes of 15 cells, {15 * stride} px: they hardly overlap, so little is learnt about them at first",
    )


def on_memory(amounts: dict[tuple[Size, str | None], int], batch: int) -> Advice:
    """Return the expected memory of a training.

    Args:
        amounts: Bytes for each input size and model that is asked about or advised; None stands for the model asked
            about.
        batch: Batch size.
    """
    text = ", ".join(
        f"{total / 2**30:.1f} GB at {show_size(size)}" + (f" with {model}" if model else "")
        for (size, model), total in amounts.items()
    )
    return Advice(
        "memory",
        f"expect {text} in training",
        f"batch {batch}, single precision, the network's tensors counted without running it",
    )
