"""The formats that networks are exported to: what each is called, what it needs, and which precisions it has."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from pixelkeep.errors import OptionError, choices, nearest

CONFIGURATION = "metadata.yaml"  # of formats that are folders


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        suffix: How files, or folders, of it end.
        packages: What must be installed, as imported.
        install: What installs it.
        precisions: The number formats that it can compute in, the default first.
        needs_gpu: Whether it is written and run on NVIDIA's GPUs alone.
    """

    suffix: str
    packages: tuple[str, ...] = ()
    install: str = ""
    precisions: tuple[str, ...] = ("fp32", "fp16")
    needs_gpu: bool = False


FORMATS = {
    "onnx": Format(suffix=".onnx", packages=("onnx", "onnxruntime", "onnxslim"), install="pixelkeep[onnx]"),
    "openvino": Format(
        suffix="_openvino_model",
        packages=("openvino",),
        install="pixelkeep[openvino]",
        precisions=("fp32", "fp16", "bf16"),
    ),
    "torchscript": Format(suffix=".torchscript"),
    "engine": Format(suffix=".engine", packages=("tensorrt", "onnx", "onnxslim"), install="tensorrt", needs_gpu=True),
    "ncnn": Format(suffix="_ncnn_model", packages=("ncnn", "pnnx"), install="ncnn pnnx"),
}


def format_of(path: Path) -> str | None:
    """Return the format of an exported file or folder by its name; None for anything else, such as a checkpoint."""
    return next((name for name, form in FORMATS.items() if path.name.lower().endswith(form.suffix)), None)


def check_format(name: str, precision: str, device: str | None) -> Format:
    """Return a format that can be written here.

    Raises:
        OptionError: There is no such format or precision, or something that it needs is missing.
    """
    if name not in FORMATS:
        raise OptionError(f"--format {name}: not one of {choices(FORMATS)}{nearest(name, FORMATS)}")
    form = FORMATS[name]
    if precision not in form.precisions:
        raise OptionError(f"--precision {precision}: {name} is exported in {choices(form.precisions)}")
    require_packages(name)
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if form.needs_gpu and on_cpu:
        raise OptionError(f"--format {name} needs an NVIDIA GPU, to write it as to run it; onnx and openvino do not")
    if (name, precision) == ("torchscript", "fp16") and on_cpu:
        raise OptionError("--precision fp16: TorchScript computes in fp16 on a GPU alone; give --device 0, or use fp32")
    return form


def require_packages(name: str) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        OptionError: Says what to install.
    """
    missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
    if missing:
        raise OptionError(f"{name} needs {', '.join(missing)}: pip install '{FORMATS[name].install}'")
