"""Builds models whose YAML names registered blocks, with Ultralytics' own parser doing the arithmetic.

Ultralytics has no registry: its parser looks names up in its own module, and applies width and depth scaling, channel
limits and repeats only to its own classes. So rows with a registered name are replaced by stand-ins with the same
channel arithmetic, the stock parser runs, and the real blocks then replace the stand-ins:

- ``Conv`` stands in for a block with an output-channel argument (scaled, limited and repeated as any Conv);
- ``Index``, which has no parameters and whose output channels are taken literally, stands in for a block with a channel
  rule, or with outputs that the width does not scale; the input channels that the rule needs come from parsing the rows
  before the block on the meta device;
- the input channels of every replaced row are read off a probe: a ``Conv`` row appended after the head and removed
  afterwards.
"""

from __future__ import annotations

import ast
import re
import reprlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

import torch
from torch import nn

from pixelkeep.errors import ModelError, choices, nearest
from pixelkeep.ultra.network.registry import REGISTRY, BlockSpec

_SHORT = reprlib.Repr()  # nested references in a YAML can expand to text of any length
_SHORT.maxlist, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 12, 80, 80, 3
Parse = Callable[[dict, int, bool], tuple[nn.Sequential, list[int]]]


@dataclass
class _Row:
    """One YAML row that names a registered block."""

    index: int
    sources: list[int]  # the row's "from": the rows that its inputs come from
    repeats: int
    name: str
    spec: BlockSpec
    args: list

    @property
    def source(self) -> int:
        """First of the row's sources."""
        return self.sources[0]


def extend_parser(parse: Parse, tasks: ModuleType) -> Parse:
    """Return ``parse_model`` extended by the registered blocks.

    Args:
        parse: The stock ``parse_model(d, ch, verbose)``.
        tasks: The module ``ultralytics.nn.tasks``.
    """

    def attempt(d: dict, ch: int, verbose: bool) -> tuple[nn.Sequential, list[int]]:
        rows = _registered_rows(d)
        return _build(parse, tasks, d, ch, verbose, rows) if rows else parse(d, ch, verbose)

    @wraps(parse)
    def parse_model(d: dict, ch: int, verbose: bool = True) -> tuple[nn.Sequential, list[int]]:
        check_activation(d)
        _check_names(d, tasks)
        written = deepcopy(d)  # the stock parser changes the arguments of its rows
        activation = tasks.Conv.default_act  # older releases leave a YAML's activation in place for later models
        try:
            return attempt(d, ch, verbose)
        except ModelError:
            raise
        except Exception as error:
            index = _failing_row(attempt, written, ch)
            if index is None:
                raise
            raise ModelError(f"{_where(written, index)}: {type(error).__name__}: {error}") from error
        finally:
            tasks.Conv.default_act = activation

    return parse_model


def _failing_row(parse: Parse, d: dict, ch: int) -> int | None:
    """Return the index of the first row that cannot be built after the rows before it; None if all can be built."""
    rows = d["backbone"] + d["head"]
    for index in range(len(rows)):
        try:
            with torch.device("meta"):
                parse({**d, "backbone": deepcopy(rows[: index + 1]), "head": []}, ch, False)
        except Exception:
            return index
    return None


def _where(d: dict, index: int) -> str:
    """Return the YAML file and the row in the form that error messages use."""
    rows = d["backbone"] + d["head"]
    return f"{_file(d)}, row {index} {_SHORT.repr(rows[index])}"


def _file(d: dict) -> str:
    return d.get("yaml_file") or "model YAML"


def check_activation(d: dict) -> None:
    """Check that ``activation:`` is nothing but an activation, since Ultralytics evaluates it as Python code.

    Raises:
        ModelError: The value is not of the form ``nn.SiLU()`` or ``torch.nn.LeakyReLU(0.1)``.
    """
    given = d.get("activation")
    if given and not _is_activation(given):
        raise ModelError(
            f"{_file(d)}: 'activation: {_SHORT.repr(given)}' must be an activation of torch.nn with plain arguments, "
            "such as nn.SiLU() or nn.LeakyReLU(0.1)"
        )


def _is_activation(text: Any) -> bool:
    try:
        call = ast.parse(text.strip(), mode="eval").body
        name = re.fullmatch(r"(torch\.)?nn\.(\w+)", ast.unparse(call.func))[2]
        for value in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(value)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):  # any other text
        return False
    return getattr(getattr(nn, name, None), "__module__", None) == nn.SiLU.__module__ or name == "Identity"


def _is_layer(name: str, tasks: ModuleType) -> bool:
    """Return whether a row may use this name: that of a registered block, or of a layer that Ultralytics looks up."""
    if name in REGISTRY:
        return True
    if name.startswith("nn."):
        layer = getattr(nn, name.removeprefix("nn."), None)
    elif name.startswith("torchvision.ops."):
        import torchvision

        layer = getattr(torchvision.ops, name.removeprefix("torchvision.ops."), None)
    else:
        layer = getattr(tasks, name, None)
    return isinstance(layer, type) and issubclass(layer, nn.Module)


def _check_names(d: dict, tasks: ModuleType) -> None:
    for index, row in enumerate(d["backbone"] + d["head"]):
        if not (isinstance(row, (list, tuple)) and len(row) == 4 and isinstance(row[3], (list, tuple))):
            raise ModelError(f"{_where(d, index)}: a row is [from, repeats, module, arguments]")
        name = row[2]
        if not isinstance(name, str):
            raise ModelError(f"{_where(d, index)}: the module must be a name, not {_SHORT.repr(name)}")
        if _is_layer(name, tasks):
            continue
        known = [key for key, value in vars(tasks).items() if isinstance(value, type) and issubclass(value, nn.Module)]
        hint = nearest(name, [*REGISTRY, *known])
        raise ModelError(f"{_where(d, index)}: unknown block '{name}'{hint} (registered: {choices(sorted(REGISTRY))})")


def _registered_rows(d: dict) -> list[_Row]:
    rows = []
    for index, (source, repeats, name, args) in enumerate(d["backbone"] + d["head"]):
        if name not in REGISTRY:
            continue
        spec, args = REGISTRY[name], [_resolve(arg, d) for arg in args]
        sources = _sources(source, index, name, spec, d)
        if spec.out_channels is None and not (args and isinstance(args[0], (int, float)) and args[0] >= 1):
            raise ModelError(f"{_where(d, index)}: {name} needs its output channels as first argument, 1 or more")
        if not spec.repeatable and repeats != 1:
            raise ModelError(f"{_where(d, index)}: {name} has channels that no scale changes, so repeats must be 1")
        rows.append(_Row(index, sources, repeats, name, spec, args))
    return rows


def _sources(given: Any, index: int, name: str, spec: BlockSpec, d: dict) -> list[int]:
    sources = given if isinstance(given, list) else [given]
    if spec.sources == "one" and not isinstance(given, int):
        raise ModelError(f"{_where(d, index)}: {name} takes one input, so 'from' must be one number")
    if not sources or not all(isinstance(source, int) for source in sources):
        raise ModelError(f"{_where(d, index)}: 'from' must be a number or a list of numbers")
    if spec.sources == "all" and len(sources) < 2:
        raise ModelError(f"{_where(d, index)}: {name} takes several inputs, so 'from' must be a list of numbers")
    for source in sources:
        if source != -1 and not -index <= source < index:
            raise ModelError(
                f"{_where(d, index)}: {name} takes its input from row {source}, which is not an earlier row"
            )
    return sources


def _resolve(arg: Any, d: dict) -> Any:
    """Resolve a string argument as Ultralytics does: a key of the YAML, else a Python literal, else the string."""
    if isinstance(arg, str):
        if arg in d:
            return d[arg]
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(arg)
    return arg


def _build(parse: Parse, tasks: ModuleType, d: dict, ch: int, verbose: bool, rows: list[_Row]):
    """Parse the definition with stand-ins, then put the real blocks in their places."""
    total = len(d["backbone"]) + len(d["head"])
    layers = deepcopy(d["backbone"] + d["head"])
    for row in rows:
        layers[row.index] = _stand_in(row, parse, d, ch, layers)
    probes = [_probe(row, source) for row in rows for source in row.sources]
    model, _ = parse({**d, "backbone": layers, "head": probes}, ch, False)

    parsed, probed = list(model)[:total], iter(list(model)[total:])
    for row in rows:
        own = [next(probed) for _ in row.sources]
        channels = [probe.conv.in_channels if row.index else ch for probe in own]
        c1 = channels if row.spec.sources == "all" else channels[0]
        parsed[row.index] = _real_block(row, parsed[row.index], c1, own[0].act, d)
    if verbose:
        _print_table(parsed, d, tasks)
    return nn.Sequential(*parsed), _save_list(parsed)


def _probe(row: _Row, source: int) -> list:
    """Return a row whose Conv shows the channels of one source of ``row``, and the activation of the YAML."""
    return [max(row.index + source if source < 0 else source, 0), 1, "Conv", [8, 1, 1]]


def _stand_in(row: _Row, parse: Parse, d: dict, ch: int, layers: list) -> list:
    if row.spec.head:
        return [row.sources[:-1], 1, "Detect", row.args]
    if row.spec.repeatable:
        return [row.source, row.repeats, "Conv", [row.args[0], 1, 1]]
    if row.spec.out_channels is None:
        return [row.source, 1, "Index", [int(row.args[0])]]
    c1 = ch
    if row.index:
        scale = d.get("scale") or next(iter(d.get("scales") or []), "")  # as stock, without a second warning from it
        rows = {"backbone": deepcopy(layers[: row.index]), "head": [_probe(row, row.source)]}
        with torch.device("meta"):
            before, _ = parse({**d, **rows, "scale": scale}, ch, False)
        c1 = before[-1].conv.in_channels
    try:
        return [row.source, 1, "Index", [row.spec.out_channels(c1)]]
    except ValueError as error:
        raise ModelError(f"{_where(d, row.index)}: {row.name}: {error}") from error


def _real_block(row: _Row, stand_in: nn.Module, c1: int | list[int], activation: nn.Module, d: dict) -> nn.Module:
    """Build the block, once for each Conv of its stand-in, whose repeats and channels the stock parser has scaled."""
    try:
        if row.spec.head:
            built = [row.spec.block.of(stand_in)]
        elif rule := row.spec.out_channels:
            built = [row.spec.build(c1, rule(c1), row.args, activation)]
        elif not row.spec.repeatable:
            built = [row.spec.build(c1, int(row.args[0]), row.args[1:], activation)]
        else:
            convs = [m for m in stand_in.modules() if isinstance(m, nn.Conv2d)]
            # Every repeat takes the same input channels, as in the stock parser.
            inside = [len(convs)] if row.spec.repeats_inside else []
            built = [
                row.spec.build(c1, conv.out_channels, [*inside, *row.args[1:]], activation)
                for conv in (convs[:1] if inside else convs)
            ]
    except (TypeError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).removeprefix(f"{row.name}: ")
        raise ModelError(f"{_where(d, row.index)}: {row.name}: {reason}") from error
    block = built[0] if len(built) == 1 else nn.Sequential(*built)
    block.i, block.f = stand_in.i, row.sources if len(row.sources) > 1 else row.source
    block.type = f"{row.spec.block.__module__}.{row.spec.block.__name__}"
    block.np = sum(p.numel() for p in block.parameters())
    return block


def _save_list(layers: list[nn.Module]) -> list[int]:
    """Return the indices of the layers whose output must be kept for a later layer, as the stock parser does."""
    sources = ((m.i, [m.f] if isinstance(m.f, int) else m.f) for m in layers)
    return sorted(x % i for i, froms in sources for x in froms if x != -1)


def _print_table(layers: list[nn.Module], d: dict, tasks: ModuleType) -> None:
    log = tasks.LOGGER.info
    if d.get("activation"):
        log(f"activation: {d['activation']}")
    log(f"\n{'':>3}{'from':>20}{'n':>3}{'params':>10}  {'module':<45}{'arguments':<30}")
    for m, (_, n, _, args) in zip(layers, d["backbone"] + d["head"], strict=True):
        log(f"{m.i:>3}{m.f!s:>20}{n:>3}{m.np:10.0f}  {m.type:<45}{args!s:<30}")
