"""Fits layers that have no exact conversion to the outputs of the source's layers, on a few images.

Each fitted part ends in a convolution and a BatchNorm. The convolution's weights are found by ridge regression, from
the convolution's own input, in the network as fitted so far, to the output of the source's part before its activation.
The BatchNorm gets the mean and variance of the fitted convolution's output, so that it does the same in training. In a
SliceSamp the depthwise kernels are set first, to the best separable form of the source's strided convolution.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox
from ultralytics.nn.modules import Conv

from pixelkeep.blocks import SliceSamp, space_to_depth
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.deploy import Kernel, relative_error, ridge, separable, to_spd
from pixelkeep.errors import DataError, OptionError, SourceError
from pixelkeep.report.conversion import FITTED, FRESH, Carried
from pixelkeep.ultra.conversion.parts import Part, parts
from pixelkeep.ultra.data.sources import resolve_sources
from pixelkeep.ultra.network.rows import given, run

IMAGES = 16  # images to fit on, more if they are small (see CELLS); a larger number changes little
CELLS = 4096  # cells of stride 32 over all images: a layer at that stride has up to 2,560 weights per output
POSITIONS = 20_000  # positions of a feature map used for a fit, over all images
SHIFTS = (0.0, 1.0, 2.0)  # standard deviations by which features are lifted above the activation's bend


def read_images(source: str, imgsz: int | list[int], channels: int, most: int | None = None) -> Tensor:
    """Return the first images of a folder, file or glob, (N, C, H, W) from 0 to 1, letterboxed to a square.

    Args:
        source: The folder, file or glob.
        imgsz: Side of the square in pixels, or a height and width of which the larger is used; rounded down to a
            multiple of 32.
        channels: Number of channels of the images.
        most: Largest number of images; by default as many as a fit takes at this size.

    Raises:
        SourceError: No image can be read.
    """
    side = max(imgsz) if isinstance(imgsz, (list, tuple)) else imgsz
    side = max(64, side // 32 * 32)
    most = most or max(IMAGES, -(-CELLS // (side // 32) ** 2))
    files, found = resolve_sources([source]), []
    for file in files if isinstance(files, list) else []:
        try:
            image = LetterBox((side, side))(image=read_pixels(Path(file), channels))
        except DataError:  # a video, or an image that is damaged
            continue
        image = image[..., ::-1] if channels == 3 else image
        found.append(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255)
        if len(found) == most:
            break
    if not found:
        raise SourceError(f"--fit '{source}': no readable image with {channels} channels")
    return torch.stack(found)


@torch.no_grad()
def fit_parts(source: nn.Module, network: nn.Module, report: Iterable[Carried], images: Tensor) -> None:
    """Fit every part that starts fresh and has a counterpart of the same width, in place and in row order.

    Raises:
        OptionError: There is no such part.
    """
    fresh = {carried.role: carried for carried in report if carried.how == FRESH}
    theirs, own = parts(source), parts(network)
    todo = [role for role in own if role in fresh and role in theirs and theirs[role].width == own[role].width]
    if not todo:
        raise OptionError("--fit: no part that starts fresh has one of the same width in the source; leave it out")
    stop = 1 + max(theirs[role].rows[-1].i for role in todo)
    outputs = run(source.model, images, stop)
    for role in todo:
        start, part, carried = theirs[role], own[role], fresh[role]
        first = part.rows[0]
        inputs = given(first, run(network.model, images, first.i), images)
        if lack := _lacking(part, inputs):
            carried.note = lack
            continue
        source_inputs = given(start.rows[0], outputs, images)
        wanted = outputs[start.rows[-1].i]
        before = [{name: value.clone() for name, value in row.state_dict().items()} for row in part.rows]
        error = relative_error(_run(part, inputs), wanted)
        if not _fit(part, start, inputs, source_inputs, wanted):
            continue
        fitted = relative_error(_run(part, inputs), wanted)
        if fitted < error:
            carried.how, carried.note, carried.error_before, carried.error_after = FITTED, "", error, fitted
            continue
        carried.note = "fitting did not help"
        for row, state in zip(part.rows, before, strict=True):
            row.load_state_dict(state)


def _lacking(part: Part, inputs: Tensor) -> str:
    """Return a message if a layer has at least as many weights per output as positions, and would overfit; else ''."""
    end = _end(part, inputs)
    if end is None:
        return ""
    weights, positions = end.conv.weight[0].numel(), end.outputs.numel() // end.outputs.shape[1]
    lack = f"fitting {weights} weights takes more than {positions} positions: give more images"
    return "" if weights < positions else lack


def _run(part: Part, inputs: Tensor) -> Tensor:
    for row in part.rows:
        inputs = row(inputs)
    return inputs


@dataclass(frozen=True)
class _End:
    """The convolution and BatchNorm that a part ends in, with the convolution's input and the BatchNorm's output."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    inputs: Tensor
    outputs: Tensor


def _end(part: Part, inputs: Tensor) -> _End | None:
    """Return the last convolution and BatchNorm that run in a part, or None if the part does not end in these."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    layers = [m for row in part.rows for m in row.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    hooks = [m.register_forward_hook(lambda m, args, output: calls.append((m, args[0], output))) for m in layers]
    try:
        result = _run(part, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if len(calls) < 2 or not isinstance(calls[-1][0], nn.BatchNorm2d) or not isinstance(calls[-2][0], nn.Conv2d):
        return None
    (conv, before, _), (norm, _, after) = calls[-2:]
    whole = after.shape == result.shape and conv.groups == 1 and conv.bias is None
    return _End(conv, norm, before, after) if whole else None


def _fit(part: Part, start: Part, inputs: Tensor, source_inputs: Tensor, wanted: Tensor) -> bool:
    """Fit a part, and return whether it can be fitted.

    A SliceSamp is fitted once for each shift of its features, and the best of these fits is kept.
    """
    end = _end(start, source_inputs)
    linear = wanted if end is None else end.outputs  # before the activation, where there is one
    if _end(part, inputs) is None or linear.shape != wanted.shape:
        return False
    row, conv = part.rows[0], start.rows[0]
    if not (isinstance(row, SliceSamp) and type(conv) is Conv and conv.conv.stride == (2, 2)):
        _fit_last(part, inputs, linear)
        return True
    errors, states = [], []
    for shift in SHIFTS:
        _prepare(row, Kernel.of(conv.conv), inputs, shift)
        _fit_last(part, inputs, linear)
        errors.append(relative_error(_run(part, inputs), wanted))
        states.append({name: value.clone() for name, value in row.state_dict().items()})
    row.load_state_dict(states[errors.index(min(errors))])
    return True


def _prepare(block: SliceSamp, kernel: Kernel, inputs: Tensor, shift: float) -> None:
    """Set a SliceSamp's depthwise kernels to approximate a strided convolution; lift features above GELU's bend."""
    size = block.depthwise.kernel_size[0]
    try:
        cells = to_spd(kernel, size, size // 2)
    except ValueError:  # the source's kernel reaches further than the block's does
        return
    block.depthwise.weight.copy_(separable(cells.weight)[0])
    features = block.depthwise(space_to_depth(inputs))
    norm, (var, mean) = block.depthwise_norm, torch.var_mean(features, (0, 2, 3), unbiased=False)
    norm.running_mean.copy_(mean), norm.running_var.copy_(var)
    scale = (var + norm.eps).sqrt()
    norm.weight.copy_(scale), norm.bias.copy_(mean + shift * scale)


def _fit_last(part: Part, inputs: Tensor, wanted: Tensor) -> None:
    """Fit the last convolution of a part, and give its BatchNorm the statistics of the convolution's output."""
    end = _end(part, inputs)
    conv, norm = end.conv, end.norm
    patches = F.unfold(end.inputs, conv.kernel_size, conv.dilation, conv.padding, conv.stride)  # (N, C * k * k, L)
    features = patches.transpose(1, 2).flatten(0, 1)  # (N * L, C * k * k)
    targets = wanted.flatten(2).transpose(1, 2).flatten(0, 1)  # (N * L, O)
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:POSITIONS]
    weight, bias = ridge(features[chosen], targets[chosen])
    conv.weight.copy_(weight.reshape(conv.weight.shape))
    fitted = features[chosen].double() @ weight.T  # (n, O)
    var, mean = torch.var_mean(fitted, 0, unbiased=False)
    norm.running_mean.copy_(mean), norm.running_var.copy_(var)
    norm.weight.copy_((norm.running_var + norm.eps).sqrt()), norm.bias.copy_(mean + bias)
