"""Carries the weights of one part over to the part with the same role in another network.

These cases are exact:

- Both parts have the same class and the same shapes.
- A strided convolution, Focus and SPDConv are rewritten as one another, where the kernel fits.
- A strided convolution with an odd kernel becomes the published layering, a convolution at full resolution and then
  SpaceToDepth, whose first phase equals the output of the strided convolution. The layers that read this SpaceToDepth
  get zero weights for the other three phases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Conv, DWConv, Focus

from pixelkeep.blocks import SPDConv
from pixelkeep.deploy import Kernel, dense, to_spd, to_strided, trimmed
from pixelkeep.report.conversion import FRESH, PARTLY, REWRITTEN, TAKEN, Carried
from pixelkeep.ultra.conversion.parts import Part


@dataclass(frozen=True)
class Halving:
    """A downsampling part that halves a feature map with one convolution.

    Attributes:
        kernel: Kernel over the pixels, stride 2.
        bias: Bias of the convolution, or None.
        norm: BatchNorm after the convolution.
        act: Activation after the BatchNorm.
    """

    kernel: Kernel
    bias: Tensor | None
    norm: nn.BatchNorm2d
    act: nn.Module


def carry(source: Part | None, target: Part, inputs: Tensor | None, noise: float) -> Carried:
    """Carry weights from one part to another, in place, and return what became of the target part.

    Args:
        source: The source network's part with the same role, or None if there is none.
        target: The part to fill.
        inputs: `channel_map` of the target's row, or None if the row reads the same channels as the source's.
        noise: Standard deviation of the noise in the weights that the source leaves zero, relative to the root mean
            square of the other weights of the layer.
    """
    carried = Carried(target.role, target.block, FRESH, target.parameters, 0, False)
    if source is None:
        carried.note = "the source has no such part"
    elif source.width * (4 if target.is_published and not source.is_published else 1) != target.width:
        carried.note, carried.misfit = f"{target.width} channels, not {source.width}", True
    elif (halving := _halving(source)) is not None and type(target.rows[0]) is not type(source.rows[0]):
        _rewrite(halving, target, carried, noise)
    elif halving is not None and len(source.rows) != len(target.rows):
        _rewrite(halving, target, carried, noise)
    elif type(target.rows[0]) is not type(source.rows[0]):
        carried.note = f"{target.block}, not {source.block}"
    else:
        _copy(source, target, inputs, carried, noise)
    return carried


def _halving(part: Part) -> Halving | None:
    """Return a part written as a strided convolution, or None if it cannot be written as one."""
    row = part.rows[0]
    try:
        if type(row) in (Conv, DWConv) and row.conv.stride == (2, 2):
            return Halving(Kernel.of(row.conv), row.conv.bias, row.bn, row.act)
        if type(row) is Focus:
            return Halving(to_strided(Kernel.of(row.conv.conv)), row.conv.conv.bias, row.conv.bn, row.conv.act)
        if type(row) is SPDConv:
            return Halving(to_strided(Kernel.of(row.conv)), row.conv.bias, row.norm, row.act)
    except ValueError:  # dilated, or not square
        return None
    return None


def _rewrite(source: Halving, target: Part, carried: Carried, noise: float) -> None:
    """Rewrite a strided convolution in the target's form; if that is impossible, note why in ``carried``."""
    row = target.rows[0]
    conv = row.conv.conv if isinstance(row, Focus) else getattr(row, "conv", None)
    norm = row.conv.bn if isinstance(row, Focus) else getattr(row, "norm", getattr(row, "bn", None))
    act = row.conv.act if isinstance(row, Focus) else getattr(row, "act", None)
    if type(row) not in (Conv, DWConv, Focus, SPDConv):
        carried.note = f"{target.block} has no such convolution"
        return
    try:
        kernel = _in_form(source.kernel, row, conv, target.is_published)
    except ValueError as error:
        carried.note = str(error)
        return
    if source.bias is not None or source.norm.num_features != norm.num_features:
        carried.note = "a convolution with a bias, which the target lacks"
        return
    if kernel.weight.shape != conv.weight.shape:
        carried.note = f"the source's convolution reads {source.kernel.weight.shape[1]} channels"
        return
    free = kernel.weight.eq(0)
    carried.free = int(free.sum())
    with torch.no_grad():
        conv.weight.copy_(_noisy(kernel.weight, free, noise))
    _copy_norm(source.norm, norm)
    carried.how, carried.taken, carried.exact = REWRITTEN, target.parameters, _told(act) == _told(source.act)
    carried.note = f"{source.kernel.size}x{source.kernel.size}/2" + ("" if carried.exact else f", with {act}")


def _in_form(pixels: Kernel, row: nn.Module, conv: nn.Conv2d, published: bool) -> Kernel:
    """Return the source's kernel in the form that the target's convolution needs.

    Raises:
        ValueError: The kernel cannot be written in that form.
    """
    size, padding = conv.kernel_size[0], conv.padding[0]
    if type(row) not in (Conv, DWConv):
        return dense(to_spd(pixels, size, padding))
    for kernel in (pixels, trimmed(pixels)):
        if (kernel.size, kernel.padding) == (size, padding) and kernel.groups == conv.groups:
            if published and kernel.size != 2 * kernel.padding + 1:
                break
            return kernel
    where = "at full resolution" if published else "of stride 2"
    raise ValueError(f"a {pixels.size}x{pixels.size} kernel cannot be {size}x{size} {where}")


def _copy_norm(source: nn.BatchNorm2d, target: nn.BatchNorm2d) -> None:
    target.load_state_dict(source.state_dict())
    target.eps, target.momentum = source.eps, source.momentum


def _copy(source: Part, target: Part, inputs: Tensor | None, carried: Carried, noise: float) -> None:
    """Copy the tensors of rows of the same class; input channels that only the target has get zeros, or noise."""
    given, wanted = source.rows[0].state_dict(), target.rows[0].state_dict()
    filled, widened = set(), False
    for name, value in wanted.items():
        prefix, _, kind = name.rpartition("bn.")
        if name not in given or (kind != name and f"{prefix}conv.weight" not in filled):
            continue  # a BatchNorm is useless without the convolution before it, whose tensors come first
        new = given[name]
        if new.shape != value.shape:
            new = _widened(new, value, inputs, noise)
            if new is not None:
                widened = True
                carried.free += int((inputs < 0).sum()) * value[:, 0].numel()
        if new is not None:
            value.copy_(new)
            filled.add(name)
    norms = ([m for m in part.rows[0].modules() if isinstance(m, nn.BatchNorm2d)] for part in (source, target))
    for one, other in zip(*norms, strict=False):
        other.eps, other.momentum = one.eps, one.momentum
    own = dict(target.rows[0].named_parameters())
    carried.taken = sum(value.numel() for name, value in own.items() if name in filled)
    whole = len(filled) == len(wanted) == len(given)
    carried.how = (REWRITTEN if widened else TAKEN) if whole else PARTLY if filled else FRESH
    carried.exact = whole and _acts(source.rows[0]) == _acts(target.rows[0])
    if widened and whole:
        carried.note = "zeros for 3 of 4 phases"
    if not whole:
        carried.misfit = True
        carried.note = f"{len(filled)} of {len(wanted)} tensors have the same shape"


def _told(module: nn.Module) -> str:
    """Return the class and settings of a module as text, without ``inplace``, which Ultralytics changes itself."""
    return re.sub(r"(, )?inplace=\w+", "", str(module))


def _acts(row: nn.Module) -> list[str]:
    """Return what can differ between rows whose weights are the same: activations, shortcuts, strides."""
    every = [m for _, m in row.named_modules(remove_duplicate=False)]  # activations may be shared or separate
    plain = [_told(m) for m in every if not list(m.children()) and not isinstance(m, (nn.Conv2d, nn.Linear))]
    return plain + [f"add={m.add}" for m in row.modules() if hasattr(m, "add") and isinstance(m.add, bool)]


def _widened(source: Tensor, target: Tensor, inputs: Tensor | None, noise: float) -> Tensor | None:
    """Return a convolution's weight extended to the target's input channels, or None if the shapes do not allow it."""
    if inputs is None or source.ndim != 4 or source.shape[0] != target.shape[0] or source.shape[2:] != target.shape[2:]:
        return None
    if target.shape[1] != len(inputs) or source.shape[1] != int((inputs >= 0).sum()):
        return None
    weight = torch.zeros_like(target)
    weight[:, inputs >= 0] = source[:, inputs[inputs >= 0]].to(weight.dtype)
    new = torch.zeros_like(weight, dtype=torch.bool)
    new[:, inputs < 0] = True
    return _noisy(weight, new, noise)


def _noisy(weight: Tensor, free: Tensor, noise: float) -> Tensor:
    """Return a weight with noise in its free elements, scaled by the root mean square of the other elements."""
    if not noise or not free.any() or free.all():
        return weight
    spread = noise * weight[~free].square().mean().sqrt()
    return torch.where(free, spread * torch.randn_like(weight), weight)
