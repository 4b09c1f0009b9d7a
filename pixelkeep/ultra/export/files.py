"""Files of other formats: written by Ultralytics' exporter, with the facts that detection and validation need."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from ultralytics.engine.exporter import Exporter
from ultralytics.utils import LOGGER

from pixelkeep.errors import ExportError, PixelkeepError, storage_error
from pixelkeep.ultra.export.rearranging import as_convolutions
from pixelkeep.ultra.network.choosing import folding_by
from pixelkeep.ultra.weights.exported import KEY
from pixelkeep.ultra.weights.formats import CONFIGURATION

PRECISION = {"fp32": 32, "fp16": 16, "bf16": 32, "int8": 32}  # in Ultralytics' numbers: bf16 is how OpenVINO runs an
# fp32 file, and int8 is made from an fp32 file (quantizing.py), except in TensorRT, which calibrates as it builds.
UNSUPPORTED = ("unsupported", "not supported", "not implemented", "unconvertible", "no conversion rule", "unknown op")
LONGEST = 160  # characters of an exporter's error that are shown


def write(network: torch.nn.Module, path: Path, settings: dict[str, Any], facts: dict[str, Any]) -> None:
    """Let Ultralytics export a network that is already folded, and move the result to ``path``.

    Args:
        network: Network whose BatchNorms are folded; it is not changed.
        path: File or folder to write, in a folder that serves only for writing it.
        settings: Ultralytics' settings of the export, with ``device`` as torch names it.
        facts: Facts that the file is to hold besides what Ultralytics writes into it.

    Raises:
        ExportError: The network cannot be written in the format.
    """
    network = deepcopy(network)
    folder = path.parent / f"writing {path.name}"
    folder.mkdir()
    network.pt_path = str(folder / "network.pt")  # Ultralytics derives the name of the output from it
    form, device = settings["format"], str(settings["device"]).removeprefix("cuda:")
    if form == "ncnn":  # ncnn's converter drops the step of a slice
        as_convolutions(network.eval(), settings["imgsz"])
    exporter = Exporter(overrides=settings | {"device": device, "task": network.task})
    exporter.add_callback("on_export_start", lambda e: e.metadata.update({KEY: json.dumps(facts, default=str)}))
    try:
        with quietly(), folding_by("none"):
            written = Path(exporter(network))
    except PixelkeepError:
        raise
    except Exception as error:  # tracers, converters and compilers raise errors of many types
        if told := storage_error(error, path.parent):
            raise told from error
        raise ExportError(f"{form}: this network cannot be written in this format ({reason(error)})") from error
    if form == "ncnn" and (lacking := _left_over(written)):
        raise ExportError(f"ncnn: this network cannot be written in this format (no operator {', '.join(lacking)})")
    written.rename(path)


def _left_over(folder: Path) -> list[str]:
    """Return the PyTorch operators that ncnn's converter has left unconverted, which nothing can run."""
    lines = next(folder.glob("*.param")).read_text(encoding="utf-8").splitlines()[2:]
    kinds = {line.split()[0] for line in lines if line.strip()}
    return sorted(kind for kind in kinds if "." in kind or "::" in kind)


def reason(error: Exception) -> str:
    """Return the line of an error that says what is wrong: one that names an unsupported operator, else the first."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if any(word in line.lower() for word in UNSUPPORTED)]
    told = (named or lines or [type(error).__name__])[0].split(". Please ")[0]  # feel free to request support ...
    return told if len(told) <= LONGEST else f"{told[:LONGEST].rpartition(' ')[0] or told[:LONGEST]} ..."


def annotate(path: Path, facts: dict[str, Any]) -> None:
    """Replace the facts stored in an ONNX file, or in the configuration of an exported folder."""
    text = json.dumps(facts, default=str)
    if path.is_dir():
        file = path / CONFIGURATION
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        file.write_text(yaml.safe_dump(found | {KEY: text}, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return
    import onnx

    model = onnx.load(path)
    found = {item.key: item.value for item in model.metadata_props}
    onnx.helper.set_model_props(model, found | {KEY: text})
    onnx.save(model, path)


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def quietly() -> Iterator[None]:
    """Silence exporters inside the context: errors are reported in one line, and standard output is for results.

    Compiled exporters write to the process's own file descriptors, so these are redirected to the null device.
    """
    level, kept = LOGGER.level, {number: os.dup(number) for number in (1, 2)}
    LOGGER.setLevel(max(level, logging.CRITICAL))
    _flush()
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            for number in kept:
                os.dup2(nowhere.fileno(), number)
            yield
    finally:
        _flush()
        for number, former in kept.items():
            os.dup2(former, number)
            os.close(former)
        LOGGER.setLevel(level)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
