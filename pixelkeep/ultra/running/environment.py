"""What the commands set up before Ultralytics is imported; the package used as a library sets none of it.

The commands run without network access, telemetry, installation of packages or code from checkpoints. They use
pixelkeep's own Ultralytics settings instead of the user's, every CPU core, and an allocator that keeps its buffers.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

from pixelkeep import assets, ultra
from pixelkeep.errors import OptionError
from pixelkeep.writing import write_bytes

VARIABLES = {
    "YOLO_OFFLINE": "true",  # no connectivity probe, telemetry, update check or download
    "YOLO_AUTOINSTALL": "false",  # a checkpoint can name a missing package, which must never be installed
    "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints load without executing code
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MPLBACKEND": "Agg",
}
QUIET = {  # a command itself reports a broken frame or a missing webcam, once
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_LOG_LEVEL": "SILENT",
}
CACHES = {  # caches of other libraries, kept inside pixelkeep's own folder unless the user has chosen a place
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
}
TALKATIVE = "openvino_telemetry"  # reports each use of OpenVINO's converter, which also works without this package
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names and values from glibc's malloc.h


def prepare() -> None:
    """Set this process up for a command; to be called before Ultralytics, torch or albumentations are imported."""
    os.environ.setdefault("PIXELKEEP_DATASETS_DIR", _users_datasets_dir())
    os.environ.update(VARIABLES)
    for variable, level in QUIET.items():
        os.environ.setdefault(variable, level)
    sys.modules[TALKATIVE] = None  # importing it now fails as if it were not installed
    for variable, name in CACHES.items():
        os.environ.setdefault(variable, str(assets.home() / name))
    config = assets.home() / "ultralytics"
    os.environ["YOLO_CONFIG_DIR"] = str(config)
    os.environ["OMP_NUM_THREADS"] = str(threads())
    # Let waiting threads spin only briefly: the default is long enough to halve the speed on a busy machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        _provide_fonts(config / "Ultralytics")
    except OSError as error:
        raise OptionError(f"PIXELKEEP_HOME: {assets.home()} cannot be written ({error.strerror})") from error
    keep_large_buffers()


def cpu_count() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Return how many threads networks run on: the user's ``OMP_NUM_THREADS``, or one for each core."""
    return int(ultra.ASKED_THREADS or cpu_count())


def use_all_cores() -> None:
    """Let torch use every core: Ultralytics leaves one core idle, which on two cores is half of them."""
    import torch

    torch.set_num_threads(threads())


def warn_without_half(device: object) -> None:
    """Warn that a device computes in single precision although half precision was asked for."""
    from ultralytics.utils import LOGGER

    LOGGER.warning(f"Half precision has no effect on {device}: computing in fp32.")


def keep_large_buffers() -> bool:
    """Tell glibc's allocator to keep large buffers instead of returning them to the system at every step.

    Freed buffers above 128 kB go back to the kernel by default, so each training step pays page faults for the same
    memory again; benchmarks/training.py measures it. Memory use peaks higher in exchange.

    Returns:
        Whether the allocator was set so, which is possible only on Linux with glibc.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def _users_datasets_dir() -> str:
    """Return the folder against which the user's Ultralytics resolves a dataset's relative ``path``, or ''."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((_users_config() / "Ultralytics" / "settings.json").read_text("utf-8"))["datasets_dir"])
    return ""


def _users_config() -> Path:
    """Return the parent of the user's Ultralytics configuration folder, found as its ``get_user_config_dir`` does."""
    if chosen := os.environ.get("YOLO_CONFIG_DIR"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Roaming"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))


def _provide_fonts(folder: Path) -> None:
    """Put a font where Ultralytics looks for Arial, which it would otherwise download."""
    missing = [name for name in ("Arial.ttf", "Arial.Unicode.ttf") if not (folder / name).exists()]
    if not missing:
        return
    import matplotlib

    source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in missing:
        write_bytes(folder / name, source.read_bytes())
