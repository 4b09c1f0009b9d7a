"""Checks that the loader of weights does not make: for damaged parts, archive bombs, and code in place of modules.

torch's restricted loader builds nothing but known classes. However, it compares no checksums, it calls the constructors
of these classes if a file says so, and it lets a file put any of them, or their methods, where a model will call them.
"""

from __future__ import annotations

import contextlib
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from pixelkeep.blocks import Swin

MOST_CHANNELS = 1024  # largest number of image channels
LARGEST = 2**15  # largest image side in pixels: no network has been trained on larger images
MOST_SWINS = 4  # in one file: a model and its moving average have one each
_CHUNK = 2**20  # bytes
_CALLERS = {"builtins getattr", "__builtin__ getattr"}  # getattr gives methods of modules ...
_CALLS = "torch._tensor _rebuild_from_type_v2"  # ... and this function calls whatever it is given
_CODE = (type, FunctionType, MethodType, BuiltinFunctionType)


class Unusable(Exception):
    """The reason why a file cannot be used; the message does not name the file."""


def archive_problem(path: Path) -> str | None:
    """Return what is wrong with a zip archive that PyTorch wrote, or None.

    Reading the checksums takes about a tenth of the time that loading takes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > path.stat().st_size:  # torch stores its parts uncompressed
                return "its parts unpack to more than the file holds, as no checkpoint does; refused without unpacking"
            for part in parts:
                _read_through(archive, part)
            if any(_calls_methods(archive, part) for part in parts if part.filename.endswith("data.pkl")):
                return "refused without executing it: it calls a method while it loads, as no model does"
    except Exception as error:  # a damaged archive can fail in any way
        return f"damaged: {error}"
    return None


def _read_through(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Read a part to its end, which compares its checksum; a checksum of 0 means that torch was told to write none."""
    if part.CRC:
        with archive.open(part) as file:
            while file.read(_CHUNK):
                pass


def _calls_methods(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Return whether a pickle refers both to a function that looks up methods and to one that calls its argument."""
    with archive.open(part) as file:
        pickled = file.read(max(part.file_size - 1, 0))  # all but the last byte, so that no checksum is compared
    names = set()
    with contextlib.suppress(Exception):  # the loader reports what is wrong with a damaged pickle
        names.update(argument for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL")
    return _CALLS in names and bool(_CALLERS & names)


class Constructed(Exception):
    """Raised when a file would construct a module; the message is the module's class."""


@contextlib.contextmanager
def no_construction() -> Iterator[None]:
    """Refuse to construct modules inside the context.

    A pickled module is rebuilt without calling its constructor, which might load or download files. Only Swin is
    pickled as its constructor's arguments; of these, the constructor refuses all but the number of image channels.

    Raises:
        Constructed: Raised inside the context when a module is constructed.
    """
    construct, construct_swin, inside, left = nn.Module.__init__, Swin.__init__, False, MOST_SWINS

    def refuse(module: nn.Module, *_: Any, **__: Any) -> None:
        if not inside:
            raise Constructed(f"{type(module).__module__}.{type(module).__qualname__}")
        construct(module)

    def swin(module: Swin, in_channels: int, *arguments: Any) -> None:
        nonlocal inside, left
        inside, left = True, left - 1
        try:
            if left < 0 or type(in_channels) is not int or in_channels > MOST_CHANNELS:
                raise Constructed(f"Swin ({MOST_SWINS - left} times, for images of {in_channels!r} channels)")
            construct_swin(module, in_channels, *arguments)
        finally:
            inside = False

    nn.Module.__init__, Swin.__init__ = refuse, swin
    try:
        yield
    finally:
        nn.Module.__init__, Swin.__init__ = construct, construct_swin


@contextlib.contextmanager
def as_named() -> Iterator[None]:
    """Make Ultralytics load exactly the file it is given; for yolov5n.pt it would look for yolov5nu.pt, also online."""
    from ultralytics.utils import downloads

    stock = downloads.attempt_download_asset
    downloads.attempt_download_asset = lambda file, *_, **__: str(file)
    try:
        yield
    finally:
        downloads.attempt_download_asset = stock


def model_problem(model: nn.Module) -> str | None:
    """Return what a loaded model holds that is not a module and would run with the model, or None."""
    waiting, seen = [model], set()
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        if not isinstance(module, nn.Module) or not isinstance(vars(module).get("_modules"), dict):
            return f"a part of its model is not a module but {type(module).__name__}"
        for name, value in vars(module).items():
            if ("_hooks" in name and value) or _is_planted(module, name, value):
                return f"refused without executing it: its {type(module).__name__} carries code in '{name}'"
        waiting += [part for part in vars(module)["_modules"].values() if part is not None]
    return None


def _is_planted(module: nn.Module, name: str, value: Any) -> bool:
    """Return whether an attribute is a function or class, other than a module's own ``forward``.

    Old checkpoints hold a module's own ``forward`` in that way.
    """
    own = isinstance(value, MethodType) and value.__self__ is module
    return isinstance(value, _CODE) and not (own and name == "forward")


def not_numbers(tensors: Mapping[str, Tensor]) -> str | None:
    """Return a message that names parameters and buffers with NaN values, or None if there are none."""
    broken = [name for name, value in tensors.items() if value.is_floating_point() and bool(torch.isnan(value).any())]
    more = f" and {len(broken) - 1} more tensors" if broken[1:] else ""
    return f"NaN in tensor {broken[0]}{more}: the training diverged, or the file is damaged" if broken else None


def yaml_problem(definition: dict) -> str | None:
    """Return what is wrong with the entries of a network's YAML other than its rows, or None."""
    for key in ("yaml_file", "scale"):
        if not isinstance(definition.get(key), (str, type(None))):
            return f"its model has {str(definition[key])[:40]!r} as '{key}', which is not text"
    if (tile := definition.get("tile")) is not None and not (type(tile) is int and 1 <= tile <= LARGEST):
        return f"its model has {str(tile)[:40]!r} as 'tile', which is not a number of pixels"
    return None if is_stretch(definition.get("stretch")) else "the 'stretch' of its images is not two percentiles"


def is_stretch(value: object) -> bool:
    """Return whether a value is None, or two percentiles in ascending order."""
    two = isinstance(value, (list, tuple)) and len(value) == 2 and all(type(part) in (int, float) for part in value)
    return value is None or (two and 0 <= value[0] < value[1] <= 100)


def are_names(value: object) -> bool:
    """Return whether a value is a mapping of class numbers to class names."""
    return isinstance(value, dict) and all(type(k) is int and isinstance(name, str) for k, name in value.items())


def is_size(value: object) -> bool:
    """Return whether a value is an image size in pixels: a side, or height and width."""
    sides = value if isinstance(value, (list, tuple)) else [value]
    return 1 <= len(sides) <= 2 and all(type(side) is int and 1 <= side <= LARGEST for side in sides)
