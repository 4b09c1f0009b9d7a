"""Folds SpaceToDepth into the convolutions after it, over a whole network: fewer operations, the same output.

These places are folded, all of them exactly:

- SPDConv and Focus: SpaceToDepth and the k x k convolution become one 2k x 2k convolution with stride 2;
- a SpaceToDepth that only one row reads, if that row is a Conv or begins with convolutions (C3, C2f and what derives
  from it): these convolutions become strided, and the two of C3 become one;
- the same where that row reads the SpaceToDepth through a Concat: the convolution becomes a sum over the parts of the
  Concat.

Row numbers do not change: an Identity takes the place of each SpaceToDepth or Concat that is removed, and passes its
input on. SliceSamp is not folded: its depthwise convolution, made strided, has four times the multiplications and no
fast implementation (benchmarks/inference.py measures it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import C3, C2f, Concat, Conv, Focus

from pixelkeep.blocks import SpaceToDepth, SPDConv
from pixelkeep.blocks.folded import JointC3
from pixelkeep.deploy import fold_concat, fold_sliced, fold_spdconv, joined
from pixelkeep.ultra.network.choosing import MEASURED, STATIC, as_choice, rows_of
from pixelkeep.ultra.network.rows import evaluating, put, readers, run, sources
from pixelkeep.ultra.network.timing import ratio

PROBE = 64  # side in pixels of the image that is run to find how many channels each row has


@dataclass(frozen=True)
class Fold:
    """A place in a network that can be folded.

    Attributes:
        row: The row that begins with a convolution.
        concat: The Concat that this row reads, or None.
        sliced: The SpaceToDepth rows that folding removes; empty for a block that rearranges its input itself.
    """

    row: nn.Module
    concat: Concat | None = None
    sliced: tuple[SpaceToDepth, ...] = ()

    @property
    def rows(self) -> list[int]:
        """Numbers of all rows of this place, the convolution's row last."""
        gone = [self.concat] if self.concat is not None else []
        return [module.i for module in (*self.sliced, *gone, self.row)]

    def sources(self) -> list[int]:
        """Return the numbers of the rows that feed this place as a whole; -1 stands for the image."""
        gone = {module.i: sources(module)[0] for module in self.sliced}
        return [gone.get(j, j) for j in sources(self.row if self.concat is None else self.concat)]

    def before(self, inputs: Tensor | list[Tensor]) -> Tensor:
        """Run this place unfolded, on the outputs of `sources`."""
        if self.concat is None:
            return self.row(self.sliced[0](inputs) if self.sliced else inputs)
        slices = {module.i: module for module in self.sliced}
        parts = [slices[j](x) if j in slices else x for j, x in zip(sources(self.concat), inputs, strict=True)]
        return self.row(self.concat(parts))

    def build(self, widths: list[int], join: bool = True) -> nn.Module:
        """Return the folded module that takes the row's place.

        Args:
            widths: Number of channels of each row's output.
            join: Whether two convolutions of the same input become one.
        """
        if not self.sliced:
            return _without_rearranging(self.row)
        if self.concat is None:
            return _begin_with(self.row, fold_sliced, join)
        parts, gone = sources(self.concat), {module.i for module in self.sliced}
        channels, slices = [widths[j] for j in parts], [j in gone for j in parts]
        return _begin_with(self.row, lambda conv: fold_concat(conv, channels, slices), join)

    def apply(self, rows: nn.Sequential, folded: nn.Module) -> None:
        """Put the folded module into the network, and an Identity in place of each row that folding removes."""
        put(rows, self.row.i, folded)
        for number in self.rows[:-1]:
            put(rows, number, nn.Identity())


def folds(model: nn.Module) -> list[Fold]:
    """Return the places that can be folded in one of Ultralytics' models."""
    rows = model.model
    own = [Fold(row) for row in rows if _rearranges(row)]
    return own + list(_reading_slices(rows))


def fold(
    model: nn.Module, choose: str = STATIC, imgsz: int | list[int] = 640, batch: int = 1, join: bool = True
) -> nn.Module:
    """Fold a network in place, for inference, and record in ``model.folding`` what was done.

    Args:
        model: One of Ultralytics' models; its BatchNorms are folded first, where they are not folded yet.
        choose: static folds whatever can be folded exactly, which is the same on every machine; val and the
            validations at the end of training do that. measured folds each place where folding is faster on the
            model's device, and nothing at all if these foldings together are not faster. For the other choices see
            :mod:`pixelkeep.ultra.network.choosing`.
        imgsz: Image size to measure with: a side in pixels, or height and width.
        batch: Number of images to measure with.
        join: Whether the two convolutions that C3 begins with become one, whose output is split in two. Exported
            graphs are not joined, so that they contain no split; in their runtimes neither form is faster.

    Returns:
        The network itself. ``model.folding`` is {"choose": ..., "choice": the choice that repeats it, "places":
        [{"rows": ..., "kind": ..., "folded": ..., "ratio": time folded divided by time unfolded, or None}], "ratio":
        the same quotient for all places together and the rows between them}.

    Raises:
        OptionError: ``choose`` has none of these forms, or names a row that cannot be folded.
    """
    model.fuse(verbose=False, fold=False)
    found, before = folds(model), getattr(model, "folding", {}).get("places", [])
    done = [place for place in before if place["folded"]]
    asked = rows_of(choose, sorted([place.row.i for place in found] + [place["rows"][-1] for place in done]))
    if not found:
        return model
    rows, stop = model.model, max(place.row.i for place in found)
    with torch.inference_mode(), evaluating(model):
        widths = [_width(output) for output in run(rows, _image(model, [PROBE, PROBE], 1), stop)]
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else imgsz
    image = _image(model, sides, batch) if choose == MEASURED else None
    unfolded = list(rows)
    tried = {place: place.build(widths, join) for place in found if place.row.i in asked}
    with evaluating(model):
        ratios = _ratios(tried, rows, image, stop)
    for place, folded in tried.items():
        if ratios.get(place, 0) < 1:
            place.apply(rows, folded.to(memory_format=_layout(model)))
    with evaluating(model):
        whole = None if image is None else _together(unfolded, rows, image, stop + 1)
    if whole is not None and whole >= 1:
        rows._modules.update({str(number): row for number, row in enumerate(unfolded)})
    for place in found:
        gone = rows[place.row.i] is not place.row
        measured = None if place not in ratios else round(ratios[place], 3)
        done.append({"rows": place.rows, "kind": type(place.row).__name__, "folded": gone, "ratio": measured})
    model.folding = {"choose": choose, "choice": as_choice({"places": done}), "places": done}
    model.folding["ratio"] = None if whole is None else round(whole, 3)
    return model


def _ratios(tried: dict[Fold, nn.Module], rows: nn.Sequential, image: Tensor | None, stop: int) -> dict[Fold, float]:
    """Return each place's time folded divided by its time unfolded; empty without an image to measure with."""
    if image is None:
        return {}
    with torch.inference_mode():
        outputs = run(rows, image, stop)
    found = {}
    for place, folded in tried.items():
        inputs = [image if j < 0 else outputs[j] for j in place.sources()]
        folded = folded.to(memory_format=_layout(rows))
        found[place] = ratio(place.before, folded, inputs if place.concat else inputs[0], image.device)
    return found


def _together(before: list[nn.Module], rows: nn.Sequential, image: Tensor, stop: int) -> float | None:
    """Return the time of ``rows`` before ``stop`` divided by that of ``before``; None if nothing was folded."""
    if all(a is b for a, b in zip(before, rows, strict=True)):
        return None
    return ratio(lambda x: run(before, x, stop), lambda x: run(rows, x, stop), image, image.device)


def is_folded(model: nn.Module) -> bool:
    """Return whether a network runs entirely folded once it is fused, as in every validation of a weights file."""
    found = folds(model)
    going = {module for place in found for row in (*place.sliced, place.row) for module in row.modules()}
    return _left(model) <= going if found else was_folded(model)


def was_folded(model: nn.Module) -> bool:
    """Return whether a fused network is folded and no SpaceToDepth is left in it."""
    return any(place["folded"] for place in getattr(model, "folding", {}).get("places", [])) and not _left(model)


def _left(model: nn.Module) -> set[nn.Module]:
    return {module for module in model.modules() if isinstance(module, SpaceToDepth)}


def _layout(model: nn.Module) -> torch.memory_format:
    """Return the memory format of a network's convolution weights."""
    weights = [p for p in model.parameters() if p.dim() == 4 and min(p.shape) > 1]  # with a side of 1, both fit
    last = bool(weights) and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    return torch.channels_last if last else torch.contiguous_format


def _image(model: nn.Module, sides: list[int], batch: int) -> Tensor:
    """Return a batch of zero images that the model accepts; ``sides`` are height and width in pixels."""
    first = next(model.parameters())
    return torch.zeros(batch, model.yaml.get("channels", 3), *sides, device=first.device, dtype=first.dtype)


def _width(output: Any) -> int:
    """Return the number of channels of a row's output; 0 for a list, which no folding reads."""
    return output.shape[1] if isinstance(output, Tensor) else 0


def _plain(conv: nn.Module) -> bool:
    """Return whether a convolution can be folded.

    A convolution that is trained for int8 cannot: its quantizer holds ranges that belong to its present form.
    """
    if type(conv) is not nn.Conv2d or hasattr(conv, "weight_quantizer") or conv.groups != 1:
        return False
    square = len({*conv.kernel_size}) == len({*conv.stride}) == 1 and conv.dilation == (1, 1)
    return square and not isinstance(conv.padding, str) and len({*conv.padding}) == 1 and conv.padding_mode == "zeros"


def _rearranges(row: nn.Module) -> bool:
    """Return whether a row is a block that rearranges its own input and then convolves it."""
    if type(row) is SPDConv:
        return isinstance(row.rearrange, SpaceToDepth) and _plain(row.conv)
    return type(row) is Focus and type(row.conv) is Conv and _plain(row.conv.conv)


def _reading_slices(rows: nn.Sequential) -> Iterator[Fold]:
    """Yield the places where a row reads a SpaceToDepth, directly or through a Concat."""
    read_by = readers(rows)
    for row in rows:
        if not _begins(row) or row.i == 0:
            continue
        source = rows[sources(row)[0]]
        concat = source if type(source) is Concat and source.d == 1 and len(read_by[source.i]) == 1 else None
        parts = [rows[j] for j in sources(row if concat is None else concat) if j >= 0]
        sliced = tuple(part for part in parts if type(part) is SpaceToDepth and len(read_by[part.i]) == 1)
        if sliced:
            yield Fold(row, concat, sliced)


def _begins(row: nn.Module) -> list[str]:
    """Return the names of the convolutions that a row begins with; empty if any other layer reads the row's input."""
    if type(row) is Conv:
        names = [""]
    elif isinstance(row, C3) and type(row).forward is C3.forward:
        names = ["cv1", "cv2"]
    elif isinstance(row, C2f) and type(row).forward is C2f.forward:
        names = ["cv1"]
    else:
        return []
    first = [row.get_submodule(name) for name in names]
    return names if all(type(conv) is Conv and _plain(conv.conv) for conv in first) else []


def _without_rearranging(row: nn.Module) -> nn.Module:
    """Return an SPDConv or Focus whose rearranging is folded into a strided convolution."""
    if isinstance(row, SPDConv):
        folded = _twin(row)
        fold_spdconv(folded)
        return folded
    return _with_convolution(row.conv, fold_sliced(row.conv.conv))


def _begin_with(row: nn.Module, convolution: Callable[[nn.Conv2d], nn.Module], join: bool) -> nn.Module:
    """Return a row in which ``convolution`` has replaced the convolutions that it begins with."""
    names = _begins(row)
    if len(names) == 2 and join:  # C3
        first = convolution(joined(row.cv1.conv, row.cv2.conv))
        return JointC3(first, (row.cv1.act, row.cv2.act), row.m, row.cv3)
    if names == [""]:
        return _with_convolution(row, convolution(row.conv))
    folded = _twin(row)
    for name in names:
        conv = row.get_submodule(name)
        setattr(folded, name, _with_convolution(conv, convolution(conv.conv)))
    return folded


def _with_convolution(conv: Conv, convolution: nn.Module) -> Conv:
    """Return a copy of Ultralytics' Conv, its BatchNorm already folded, with another convolution inside."""
    folded = _twin(conv)
    folded.conv = convolution
    folded.forward = folded.forward_fuse
    return folded


def _twin(module: nn.Module) -> nn.Module:
    """Return a shallow copy of a module: it shares the submodules, and they can be replaced in the copy alone."""
    twin = copy(module)
    twin._modules = dict(module._modules)
    return twin
