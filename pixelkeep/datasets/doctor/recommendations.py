"""Advice in words: what to do about object sizes, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelkeep.datasets.doctor.advice import SHARE, WHOLE, Choice, Tiling, cheapest
from pixelkeep.datasets.doctor.sizes import Size


@dataclass(frozen=True)
class Advice:
    """One recommendation.

    Attributes:
        kind: image size, tiles, head, memory or validation.
        text: What to do.
        why: The reason, with its figures.
    """

    kind: str
    text: str
    why: str


def percent(share: float) -> str:
    """Return a share with one decimal, without one where that is 0."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def show_size(size: Size) -> str:
    """Return a size as --imgsz takes it: 640, or 512 640."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]} {size[1]}"


def on_size(size: Size, here: float, choices: Sequence[Choice], tiles: Tiling) -> Advice:
    """Recommend an image size, or tiles.

    Args:
        size: The input that is asked about.
        here: Share of the objects that reach the goal of ``choices[0]`` there.
        choices: The model that is asked about, then others.
        tiles: What does it with inputs of ``size``.
    """
    own = choices[0]
    measure = f"{percent(here)} of the objects measure {own.goal:g} px or more"
    asked = f"{percent(SHARE)} are asked for"
    if own.size[0] <= size[0]:
        smaller = f"; {show_size(own.size)} would do" if own.size != size else ""
        return Advice("image size", f"keep --imgsz {show_size(size)}", f"{measure} there, {asked}{smaller}")
    best = cheapest(choices)
    lack = f"at {show_size(size)}, {measure}; {asked}"
    if max(best.size) <= WHOLE:
        model = "" if best is own else f" --model {best.model}"
        without = "" if best is own else f" instead of {own.gflops:.1f} without P2"
        return Advice(
            "image size",
            f"use --imgsz {show_size(best.size)}{model}",
            f"{lack}. It is the cheapest that does it ({percent(best.share)} at {best.goal:g} px or more, "
            f"{best.gflops:.1f} GFLOPs an image{without})",
        )
    return Advice(
        "tiles",
        f"cut images into tiles of {' x '.join(map(str, tiles.tile[::-1]))} px (width x height), overlapping by "
        f"{tiles.overlap} px, shown at --imgsz {show_size(size)}",
        f"{lack}. Whole images would need {show_size(best.size)}, more than {WHOLE}; {tiles.tiles} such tiles cover "
        f"the middle-sized image, and {percent(tiles.share)} of the objects measure {own.goal:g} px or more in them",
    )


def on_head(size: Size, here: float, fine: Choice, fine_here: float) -> Advice:
    """Recommend for or against a P2 head.

    Args:
        size: The input that is asked about.
        here: Share of the objects that reach the goal without a P2 head there.
        fine: The choice with a P2 head.
        fine_here: Share of the objects that reach its goal at ``size``.
    """
    shown = show_size(size)
    if here >= SHARE:
        return Advice(
            "head", "no P2 head", f"{percent(here)} of the objects are large enough for a coarser one at {shown}"
        )
    which = f"--model {fine.model}" if fine.model else "a model with a P2 head (this family has none)"
    figures = f"at {shown}, {percent(fine_here)} of the objects measure the {fine.goal:g} px that it asks for"
    if fine_here >= SHARE:
        return Advice("head", f"or, at {shown}, {which}", f"{figures}; {percent(here)} measure twice that")
    return Advice("head", f"or, at {show_size(fine.size)}, {which}", f"{figures}; {percent(SHARE)} are asked for")


def on_memory(amounts: dict[Size, int], batch: int) -> Advice:
    """Say what training takes at the sizes that are talked about."""
    text = ", ".join(f"{total / 2**30:.1f} GB at {show_size(size)}" for size, total in amounts.items())
    return Advice(
        "memory",
        f"expect {text} in training",
        f"batch {batch}, single precision, the network's tensors counted without running it",
    )
