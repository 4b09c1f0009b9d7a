"""Registers the blocks as soon as ``ultralytics.nn.tasks`` is imported, without importing it.

If that module is loaded already, it is extended at once. Otherwise a finder on ``sys.meta_path`` waits for it, as it
holds the model parser, and extends it right after it has been executed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TARGET = "ultralytics.nn.tasks"


class _ExtendingLoader(Loader):
    """Wraps the ordinary loader of the target module and extends the module after it has run."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        module.__spec__.loader = module.__loader__ = self.loader  # source and data look-ups go on as usual
        _extend(module)


class _Finder(MetaPathFinder):
    """Finds the target module only, and stays until it has been extended: an import may fail and be tried again."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TARGET:
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if not isinstance(finder, _Finder))
        spec = next(filter(None, specs), None)
        if spec and spec.loader:
            spec.loader = _ExtendingLoader(spec.loader)
        return spec


def _extend(tasks: ModuleType) -> None:
    from pixelkeep.ultra.network.extension import extend

    extend(tasks)
    uninstall()


def install() -> None:
    """Extend Ultralytics at once if it is loaded, else as soon as it is loaded. Calling it twice changes nothing."""
    if tasks := sys.modules.get(TARGET):
        _extend(tasks)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def uninstall() -> None:
    """Remove the waiting finder from ``sys.meta_path``."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
