"""What the commands set up before Ultralytics is imported; as a library the package sets none of it.

No network, no telemetry, no installation of packages, no code from checkpoints, settings of our own instead of the
user's, every CPU core in use, and an allocator that keeps its buffers.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from pixelkeep import assets
from pixelkeep.errors import OptionError

VARIABLES = {
    "YOLO_OFFLINE": "true",  # no connectivity probe, telemetry, update check or download
    "YOLO_AUTOINSTALL": "false",  # a checkpoint can name a missing package: never install it
    "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints load without executing code
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MPLBACKEND": "Agg",
}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names and values from glibc's malloc.h


def prepare() -> None:
    """Set the process up for a command. Call it before Ultralytics, torch or albumentations are imported."""
    os.environ.setdefault("PIXELKEEP_DATASETS_DIR", _users_datasets_dir())
    os.environ.update(VARIABLES)
    config = assets.home() / "ultralytics"
    os.environ["YOLO_CONFIG_DIR"] = str(config)
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(cpu_count())
    # Waiting threads spin briefly: the default is long enough to halve the speed on a busy machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        _provide_fonts(config / "Ultralytics")
    except OSError as error:
        raise OptionError(f"PIXELKEEP_HOME: {assets.home()} cannot be written ({error.strerror})") from error
    keep_large_buffers()


def cpu_count() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Let torch use every core: Ultralytics leaves one out, which on two cores is half of them."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or cpu_count()))


def keep_large_buffers() -> bool:
    """Tell glibc's allocator to keep large buffers instead of returning them to the system at every step.

    Freed buffers above 128 kB go back to the kernel by default, so each training step pays page faults for the same
    memory again; benchmarks/training.py measures it. Memory use peaks higher in exchange.

    Returns:
        Whether it was set: only on Linux with glibc.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def _users_datasets_dir() -> str:
    """Return the folder against which the user's Ultralytics resolves a dataset's relative ``path``, or ''."""
    base = os.environ.get("YOLO_CONFIG_DIR")
    candidates = [Path(base)] if base else [Path.home() / ".config", Path.home() / "AppData" / "Roaming"]
    for folder in candidates:
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads((folder / "Ultralytics" / "settings.json").read_text("utf-8"))["datasets_dir"])
    return ""


def _provide_fonts(folder: Path) -> None:
    """Put a font where Ultralytics looks for its own, which it would otherwise download."""
    missing = [name for name in ("Arial.ttf", "Arial.Unicode.ttf") if not (folder / name).exists()]
    if not missing:
        return
    import matplotlib

    source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        shutil.copyfile(source, folder / name)
