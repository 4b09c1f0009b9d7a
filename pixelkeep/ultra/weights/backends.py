"""Runtimes of exported files, opened by Ultralytics with set precision and threads, and with errors in one line.

By default, OpenVINO computes in bf16 on CPUs that support it, which moves boxes by pixels, and ncnn computes in fp16 on
CPUs that support that. ONNX Runtime uses as many threads as there are physical cores, whatever the process may use.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import LOGGER

from pixelkeep.errors import PixelkeepError, WeightsError
from pixelkeep.ultra.running.environment import threads
from pixelkeep.ultra.running.signal_stack import signal_stack_kept
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.weights.exported import read_exported
from pixelkeep.ultra.weights.formats import FORMATS
from pixelkeep.ultra.weights.graphs import graph_problem, in_short, told_of_runs
from pixelkeep.ultra.weights.opening import portable_too

# Whether ONNX Runtime's threads wait for its next run by spinning. That is good for runs that follow one another, but
# if other runtimes take turns with it, the spinning threads occupy their cores.
SPINNING = True
_ELEMENTS = {"bf16": "bf16"}  # OpenVINO's type for computing, f32 for other precisions: fp16 is for weights alone


@contextlib.contextmanager
def careful() -> Iterator[None]:
    """Let Ultralytics' AutoBackend open exported files with their own precision and pixelkeep's number of threads."""
    stock = AutoBackend._BACKEND_MAP
    ours = {name: partial(_open, name, stock[name]) for name in FORMATS if name in stock}
    with portable_too(), replaced(AutoBackend, "_BACKEND_MAP", {**stock, **ours}):
        yield


def _open(form: str, kind: type[BaseBackend], weight: str | Path, **keywords: Any) -> BaseBackend:
    """Open an exported file.

    Raises:
        WeightsError: The runtime cannot load the file, or its graph does not fit its description.
    """
    level = LOGGER.level
    LOGGER.setLevel(max(level, logging.WARNING))  # hides messages about which runtime opens which file
    try:
        with warnings.catch_warnings(), _SET.get(form, contextlib.nullcontext)(Path(weight)):
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit, which loads TorchScript, warns about itself
            opened = kind(weight, **keywords)
            _CHECKS.get(form, lambda backend: None)(opened)
            said = read_exported(Path(weight))["model"]
            if problem := graph_problem(opened, said):
                raise WeightsError(f"weights '{weight}': damaged: {problem}")
            told_of_runs(opened, said, weight)
            return opened
    except PixelkeepError:
        raise
    except Exception as error:  # each runtime has its own exceptions
        told = in_short(error)
        if isinstance(error, StopIteration):  # Ultralytics calls next() on a search for the file inside a folder
            told = "a file in the folder is missing"
        what = f"damaged, or not for this machine: {form} cannot load it ({told})"
        raise WeightsError(f"weights '{weight}': {what}") from error
    finally:
        LOGGER.setLevel(level)


@contextlib.contextmanager
def _onnxruntime(_: Path) -> Iterator[None]:
    import onnxruntime

    stock = onnxruntime.InferenceSession

    def session(file: Any, options: Any = None, **keywords: Any) -> Any:
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        if not SPINNING:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 4  # errors are raised anyway; warnings concern how the graph was written
        return stock(str(file), options, **keywords)

    with replaced(onnxruntime, "InferenceSession", session):
        yield


@contextlib.contextmanager
def _openvino(weight: Path) -> Iterator[None]:
    import openvino

    element = _ELEMENTS.get(read_exported(weight)["model"].precision, "f32")
    asked = {"INFERENCE_PRECISION_HINT": getattr(openvino.Type, element), "INFERENCE_NUM_THREADS": threads()}
    stock = openvino.Core.compile_model

    def compile_model(self: Any, model: Any, device_name: str = "CPU", config: dict | None = None) -> Any:
        compiled = stock(self, model, device_name, {**(config or {}), **asked})
        used = compiled.get_property("INFERENCE_PRECISION_HINT")
        if used != asked["INFERENCE_PRECISION_HINT"]:
            raise WeightsError(f"weights '{weight}': OpenVINO computes in {used} here, but the file is for {element}")
        return compiled

    with replaced(openvino.Core, "compile_model", compile_model), signal_stack_kept():
        yield


@contextlib.contextmanager
def _ncnn(weight: Path) -> Iterator[None]:
    import ncnn

    half = read_exported(weight)["model"].precision == "fp16"
    stock = ncnn.Net

    def net() -> Any:
        made = stock()
        made.opt.num_threads = threads()
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(made.opt, name, half)
        made.opt.use_bf16_storage = False
        return made

    with replaced(ncnn, "Net", net):
        yield


def _run_ncnn(backend: Any) -> None:
    """Run a network once, as a check that ncnn can compute all outputs.

    If ncnn cannot compute an output, the output has no memory, and reading it would end the process.

    Raises:
        RuntimeError: The network cannot be run.
    """
    import ncnn

    height, width = backend.imgsz
    with backend.net.create_extractor() as extractor:
        extractor.input(backend.net.input_names()[0], ncnn.Mat(np.zeros((backend.channels, height, width), np.float32)))
        for name in backend.net.output_names():
            code, _ = extractor.extract(name)
            if code:
                raise RuntimeError(f"computing {name} ends with code {code}")


_CHECKS = {"ncnn": _run_ncnn}
_SET = {"onnx": _onnxruntime, "openvino": _openvino, "ncnn": _ncnn}
