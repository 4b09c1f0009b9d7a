"""Pixelkeep: small-object detection on Ultralytics that keeps the pixels small objects are made of.

``import pixelkeep`` loads neither torch nor Ultralytics: it arranges that the blocks are registered as soon as
Ultralytics is imported (or at once, if it already is). The public functions below are loaded on first use.
"""

from importlib import import_module
from typing import Any

from pixelkeep.ultra.network import hook

__version__ = "0.1.0"

_PUBLIC = {
    "TiledDetector": "pixelkeep.ultra.tiled.detector",
    "compare": "pixelkeep.experiments.compare",
    "convert_model": "pixelkeep.ultra.conversion.models",
    "evaluate": "pixelkeep.evaluation",
    "register": "pixelkeep.ultra.network.registry",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pixelkeep' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


hook.install()
