"""Builds networks anew from a definition and fills them with tensors, after checking that both fit each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import BaseModel

from pixelkeep.errors import choices
from pixelkeep.ultra.weights.building import check_definition, flat
from pixelkeep.ultra.weights.class_branches import match_widths
from pixelkeep.ultra.weights.description import Description
from pixelkeep.ultra.weights.integrity import Unusable

CLASSES = {
    "detect": tasks.DetectionModel,
    "classify": tasks.ClassificationModel,
    "semantic": tasks.SemanticSegmentationModel,
    "obb": tasks.OBBModel,
}
SIDE = 128  # side in pixels of the image on which a network is compared with its copy
_INSIDE = "inside"  # the model's name in messages, where it follows the file's name
_ELSEWHERE = "it was written with Ultralytics {}, but this is {}"


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return every tensor of a network by name: its state dict, then the buffers that are not in the state dict."""
    state = dict(network.state_dict())
    if odd := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise Unusable(f"one of its layers stores something that is not a tensor ({choices(odd, 3)})")
    return state | {name: value for name, value in network.named_buffers() if name not in state}


def check_fit(definition: dict, given: Mapping[str, tuple[torch.dtype, list[int]]], about: Description) -> None:
    """Refuse tensors that do not fit a definition, by their names, types and shapes alone.

    Args:
        definition: The definition of the network to be built.
        given: Type and shape of each tensor, by name.
        about: The file's description.

    Raises:
        ModelError: The definition cannot be built.
        Unusable: Tensors are missing, superfluous, or of another shape or type.
    """

    def compare(network: nn.Module) -> None:
        match_widths(network, definition, about.channels, {name: shape for name, (_, shape) in given.items()})
        expected, kept = tensors_of(network), set(network.state_dict())
        beside = {*about.buffers}
        missing, extra = sorted(kept - given.keys()), sorted(given.keys() - kept - (expected.keys() & beside))
        if names := missing or extra or sorted(kept & beside):
            more = f" and {len(names) - 1} more" if names[1:] else ""
            which = f"{'there is no' if missing else 'it has no place for'} {names[0]}{more}"
            raise Unusable(f"its tensors are not those of its model: {which}{_releases(about)}")
        for name, (dtype, shape) in given.items():
            wanted = expected[name]
            if list(wanted.shape) != shape:
                raise Unusable(
                    f"tensor {name} has shape {shape}, but its model expects {list(wanted.shape)}{_releases(about)}"
                )
            if dtype != wanted.dtype and not (dtype.is_floating_point and wanted.is_floating_point()):
                raise Unusable(f"tensor {name} is of type {dtype}, but its model expects {wanted.dtype}")

    check_definition(definition, _INSIDE, about.channels, about.task, before_running=compare)


def _releases(about: Description) -> str:
    """Return the part of a message that names the file's and the installed release of Ultralytics, if they differ."""
    import ultralytics

    theirs, ours = about.provenance.get("ultralytics"), ultralytics.__version__
    return "" if theirs in (None, ours) else f"; {_ELSEWHERE.format(str(theirs)[:20], ours)}"


def rebuild(definition: dict, tensors: Mapping[str, Tensor], about: Description) -> BaseModel:
    """Build a network and fill it with tensors that fit it; it is in evaluation mode, like networks in checkpoints.

    Args:
        definition: The definition of the network.
        tensors: Tensors by name; a tensor that appears under several names is shared.
        about: The file's description.

    Raises:
        Unusable: The strides of the network are not those of the description.
    """
    with torch.random.fork_rng(devices=[]):  # all random initial values are replaced, so the generator is restored
        network = CLASSES[about.task](deepcopy(definition), ch=about.channels, verbose=False).eval()
    shapes = {name: list(value.shape) for name, value in tensors.items()}
    match_widths(network, definition, about.channels, shapes)
    if [float(stride) for stride in network.stride] != about.stride:
        raise Unusable(f"damaged: it says that its strides are {about.stride}, but they are {network.stride.tolist()}")
    network.to(_main_type(tensors.values()))
    own = {id(value): nn.Parameter(value, requires_grad=False) for value in tensors.values()}
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    state = {name: own[id(value)] if name in parameters else value for name, value in tensors.items()}
    beside = {name: state.pop(name) for name in about.buffers}
    network.load_state_dict(state, assign=True)
    for name, value in beside.items():
        owner, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(owner), attribute, value)
    network.requires_grad_(False)
    network.names, network.nc, network.task = dict(about.names), len(about.names), about.task
    return network


def _main_type(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the type of the first floating-point tensor, which is the network's; float32 if there is none."""
    return next((value.dtype for value in tensors if value.is_floating_point()), torch.float32)


def difference(network: nn.Module, copy: nn.Module) -> str | None:
    """Return what differs between a network and its copy, or None; outputs may differ by rounding, tensors may not."""
    ours, theirs = tensors_of(network), tensors_of(copy)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            return f"tensor {name}"
        if ours[name].dtype != theirs[name].dtype or not torch.equal(ours[name].cpu(), theirs[name].cpu()):
            return f"tensor {name}"
    channels = network.yaml.get("channels", 3)
    image = torch.rand(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).double()
    outputs = []
    for model in (network, copy):
        with torch.inference_mode():  # in double precision, as fp32 rounding could flip regions of an untrained mask
            outputs.append(flat(deepcopy(model).double().cpu().eval()(image)))
    same = len(outputs[0]) == len(outputs[1]) and all(
        a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(*outputs, strict=True)
    )
    return None if same else "what it computes"
