"""The formats that networks are exported to: their names, the packages they need and the precisions they offer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from pixelkeep.errors import OptionError, choices, nearest

CONFIGURATION = "metadata.yaml"  # file with the description, in formats that are folders
CHECKPOINTS = ("safetensors", "pt")  # formats that are not for another runtime; see pixelkeep.ultra.export.rewriting


@dataclass(frozen=True, kw_only=True)
class Format:
    """One export format.

    Attributes:
        suffix: Ending of the names of files, or folders, in this format.
        packages: Import names of the packages that must be installed to run it.
        writes: Import names of the packages that must be installed in addition to write it.
        install: Argument for ``pip install`` that installs all of these packages.
        precisions: Number formats that a file can be asked for, the default first. OpenVINO computes fp16 files in
            fp32.
        quantizer, quantizer_install: Package that makes int8 files, and the argument for pip that installs it.
        needs_gpu: Whether files are written and run on NVIDIA GPUs only.
        dynamic: Whether a file can take images of any size, and any number of them.
        batches: Whether a file can take more than one image at once.
    """

    suffix: str
    packages: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    install: str = ""
    precisions: tuple[str, ...] = ("fp32", "fp16")
    quantizer: str | None = None
    quantizer_install: str = ""
    needs_gpu: bool = False
    dynamic: bool = True
    batches: bool = True


FORMATS = {
    "onnx": Format(
        suffix=".onnx",
        packages=("onnx", "onnxruntime"),
        writes=("onnxslim",),
        install="pixelkeep[onnx]",
        precisions=("fp32", "fp16", "int8"),
        quantizer="onnxruntime",
        quantizer_install="pixelkeep[onnx]",
    ),
    "openvino": Format(
        suffix="_openvino_model",
        packages=("openvino",),
        install="pixelkeep[openvino]",
        precisions=("fp32", "fp16", "bf16", "int8"),
        quantizer="nncf",
        quantizer_install="pixelkeep[int8]",
    ),
    "torchscript": Format(suffix=".torchscript"),
    "engine": Format(
        suffix=".engine",
        packages=("tensorrt",),
        writes=("onnx", "onnxslim"),
        install="tensorrt pixelkeep[onnx]",
        precisions=("fp32", "fp16", "int8"),
        needs_gpu=True,
    ),
    "ncnn": Format(
        suffix="_ncnn_model",
        packages=("ncnn",),
        writes=("pnnx",),
        install="pixelkeep[ncnn]",
        dynamic=False,
        batches=False,
    ),
}


def format_of(path: Path) -> str | None:
    """Return the format of an exported file or folder by its name; None for anything else, such as a checkpoint."""
    return next((name for name, form in FORMATS.items() if path.name.lower().endswith(form.suffix)), None)


def check_format(
    name: str, precision: str, device: str | None, *, batch: int = 1, dynamic: bool = False, data: str | None = None
) -> Format:
    """Return an export format after checking that it can be written here.

    Args:
        name, precision, device, batch, dynamic: Options of the export.
        data: The dataset that int8 is calibrated on.

    Raises:
        OptionError: There is no such format or precision, the format does not support an option, or something that it
            needs is missing.
    """
    if name not in FORMATS:
        known = (*FORMATS, *CHECKPOINTS)
        raise OptionError(f"--format {name}: not one of {choices(known)}{nearest(name, known)}")
    form = FORMATS[name]
    if precision not in form.precisions:
        raise OptionError(f"--precision {precision}: {name} is exported in {choices(form.precisions)}")
    if dynamic and not form.dynamic:
        raise OptionError(f"--dynamic: a file in {name} takes images of one size; leave it out, or use onnx")
    if batch > 1 and not form.batches:
        raise OptionError(f"--batch {batch}: {name} takes one image at a time; leave it out, or use onnx")
    missing = _missing(name, writing=True, quantizing=precision == "int8")
    _require_gpu(name, precision, device, missing)
    if missing:
        raise OptionError(
            f"{name} in {precision} needs {missing}" if precision == "int8" else f"{name} needs {missing}"
        )
    if precision == "int8" and data is None:
        raise OptionError("--precision int8 needs --data: it is calibrated on the training images of a dataset")
    return form


def _require_gpu(name: str, precision: str, device: str | None, missing: str) -> None:
    """Refuse an export that needs a GPU if there is none; ``missing`` names packages that the message also mentions."""
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if FORMATS[name].needs_gpu and on_cpu:
        told = f", and {missing}" if missing else ""
        raise OptionError(f"--format {name} needs an NVIDIA GPU, both to write and to run it{told}; onnx needs no GPU")
    if (name, precision) == ("torchscript", "fp16") and on_cpu:
        raise OptionError("--precision fp16: TorchScript computes in fp16 only on a GPU; give --device 0, or use fp32")


def require_packages(name: str) -> None:
    """Refuse a format whose files cannot be run because packages are not installed.

    Raises:
        OptionError: A package is missing; the message says what to install.
    """
    if missing := _missing(name):
        raise OptionError(f"{name} needs {missing}")


def _missing(name: str, *, writing: bool = False, quantizing: bool = False) -> str:
    """Return which packages are not installed and how to install them; an empty string if none is missing.

    Args:
        name: Name of the format.
        writing: Whether files are to be written, and not only run.
        quantizing: Whether they are also to be quantised to int8.
    """
    form = FORMATS[name]
    wanted, install = form.packages + (form.writes if writing else ()), form.install
    if quantizing and form.quantizer:
        wanted, install = dict.fromkeys((*wanted, form.quantizer)), form.quantizer_install
    missing = [package for package in wanted if find_spec(package) is None]
    return f"{', '.join(missing)}: pip install {quoted(install)}" if missing else ""


def quoted(packages: str) -> str:
    """Return packages quoted for a shell, in which brackets have a meaning."""
    return " ".join(f"'{package}'" if "[" in package else package for package in packages.split())
